#include "core/files/model_dir.h"
#include "core/base/arena.h"
#include "core/base/fs.h"
#include "core/base/json.h"
#include "core/base/mem.h"
#include "core/base/text.h"

#include <stdlib.h>
#include <string.h>

// A shard of a large model has about 5 GB; an index lists some 10,000 tensors of 100 characters.
enum { MAX_SHARDS = 1000, MAX_INDEX_BYTES = 64 << 20, MAX_MODEL_INDEX_BYTES = 1 << 20 };

struct model_files {
    char *path;
    char **shard_names; // plain names under the index's folder; none for a single file
    tensor_file **files;
    size_t n_files;
    model_tensor *tensors; // by name
    size_t n;
};

static status short_of_memory(error *err, const char *path) {
    return fail(err, ERR_TEMP, "%s: out of memory", path);
}

// ---------------------------------------------------------------- where the files are

static const char *const STEMS[] = {"diffusion_pytorch_model", "model", "pytorch_lora_weights",
                                    "pytorch_model"};
enum { STEM_COUNT = sizeof STEMS / sizeof *STEMS };

// Endings of a whole file and of an index; a variant stands in front of the last part:
// model.fp16.safetensors, model.safetensors.index.fp16.json and, before diffusers 0.30,
// model.safetensors.fp16.index.json. What comes first is taken.
static const char *const ENDINGS[][2] = {
    {"", ".safetensors"}, {".safetensors.index", ".json"}, {".safetensors", ".index.json"},
    {"", ".bin"},         {".bin.index", ".json"},         {".bin", ".index.json"}};
enum { ENDING_COUNT = sizeof ENDINGS / sizeof *ENDINGS };

// Of what is taken where a folder has no plain weights: who downloads one variant has no other files.
static const char *const VARIANTS[] = {"", "fp16", "bf16", "fp32"};
enum { VARIANT_COUNT = sizeof VARIANTS / sizeof *VARIANTS };

// The path of candidate i, whether it exists or not; NULL when memory is short.
static char *candidate(const char *dir, size_t i, const char *variant) {
    arena a = {0};
    const char *const *ending = ENDINGS[i / STEM_COUNT];
    const char *name = arena_printf(&a, "%s%s%s%s%s", STEMS[i % STEM_COUNT], ending[0], *variant ? "." : "",
                                    variant, ending[1]);
    char *path = name ? fs_join(dir, name) : NULL;
    arena_free(&a);
    return path;
}

// Sets m->path to the first that exists, or leaves it NULL.
static status look_for(model_files *m, const char *dir, const char *variant, error *err) {
    for (size_t i = 0; i < STEM_COUNT * ENDING_COUNT; i++) {
        if (!(m->path = candidate(dir, i, variant))) return short_of_memory(err, dir);
        if (fs_exists(m->path)) return OK;
        mem_free(m->path);
        m->path = NULL;
    }
    return OK;
}

// ERR_NOINPUT if the folder has no weights, or none of the variant that is asked for.
static status find_in_folder(model_files *m, const char *dir, const char *variant, error *err) {
    size_t n = *variant ? 1 : VARIANT_COUNT;
    for (size_t i = 0; i < n && !m->path; i++) TRY(look_for(m, dir, *variant ? variant : VARIANTS[i], err));
    if (m->path) return OK;
    return fail(
        err, ERR_NOINPUT,
        "%s: no weights%s%s here (looked for %s, %s, %s and %s, .safetensors and .bin, whole and sharded)",
        dir, *variant ? " of variant " : "", variant, STEMS[0], STEMS[1], STEMS[2], STEMS[3]);
}

// Not where a configuration says what the folder is.
char *model_dir_resolve(const char *folder, error *err) {
    char **names;
    size_t n, files = 0, at = 0;
    bool layout = false;
    if (fs_list(folder, &names, &n, err)) return NULL;
    for (size_t i = 0; i < n; i++) {
        layout |= !strcmp(names[i], "model_index.json") || !strcmp(names[i], "config.json");
        if (tensor_file_is_named(names[i])) files++, at = i;
    }
    char *found = files == 1 && !layout ? fs_join(folder, names[at]) : mem_strdup(folder);
    fs_list_free(names, n);
    if (!found) short_of_memory(err, folder);
    return found;
}

// ---------------------------------------------------------------- one file

static int by_name(const void *a, const void *b) {
    return strcmp(((const model_tensor *)a)->tensor->name, ((const model_tensor *)b)->tensor->name);
}

static status open_single(model_files *m, error *err) {
    if (!(m->files = mem_calloc(1, sizeof *m->files))) return short_of_memory(err, m->path);
    if (!(m->files[0] = tensor_file_open(m->path, err))) return err->code;
    m->n_files = 1;
    m->n = tensor_file_count(m->files[0]);
    if (!(m->tensors = mem_calloc(m->n, sizeof *m->tensors))) return short_of_memory(err, m->path);
    for (size_t i = 0; i < m->n; i++)
        m->tensors[i] = (model_tensor){m->files[0], tensor_file_at(m->files[0], i)};
    return OK;
}

// ---------------------------------------------------------------- shards

// The shard's number, opening it at its first mention; -1 on failure.
static int open_shard(model_files *m, const char *dir, const char *name, error *err) {
    for (size_t i = 0; i < m->n_files; i++)
        if (!strcmp(m->shard_names[i], name)) return (int)i;
    if (!fs_is_plain_name(name) || m->n_files == MAX_SHARDS) {
        fail(err, ERR_DATA,
             m->n_files == MAX_SHARDS ? "%s: too many shards ('%.200s')"
                                      : "%s: '%.200s' is no shard of this folder",
             m->path, name);
        return -1;
    }
    char *path = fs_join(dir, name);
    m->shard_names[m->n_files] = mem_strdup(name);
    if (path && m->shard_names[m->n_files])
        m->files[m->n_files] = tensor_file_open(path, err);
    else
        short_of_memory(err, m->path);
    mem_free(path);
    if (m->files[m->n_files]) return (int)m->n_files++;
    mem_free(m->shard_names[m->n_files]);
    return -1;
}

static status map_tensor(model_files *m, const char *dir, const char *name, const json_t *shard, error *err) {
    if (!json_is_string(shard))
        return fail(err, ERR_DATA, "%s: weight_map '%.200s' is not a file name", m->path, name);
    int f = open_shard(m, dir, json_string_value(shard), err);
    if (f < 0) return err->code;
    const tensor_entry *t = tensor_file_find(m->files[f], name);
    if (!t)
        return fail(err, ERR_DATA, "%s: tensor '%.200s' is missing, %s promises it",
                    tensor_file_path(m->files[f]), name, fs_basename(m->path));
    m->tensors[m->n++] = (model_tensor){m->files[f], t};
    return OK;
}

static status open_mapped(model_files *m, const json_t *map, error *err) {
    m->files = mem_calloc(MAX_SHARDS, sizeof *m->files);
    m->shard_names = mem_calloc(MAX_SHARDS, sizeof *m->shard_names);
    m->tensors = mem_calloc(json_object_size(map), sizeof *m->tensors);
    char *dir = fs_dirname(m->path);
    status s = m->files && m->shard_names && m->tensors && dir ? OK : short_of_memory(err, m->path);
    const char *name;
    json_t *shard;
    json_object_foreach((json_t *)map, name, shard) {
        if (!s) s = map_tensor(m, dir, name, shard, err);
    }
    mem_free(dir);
    return s;
}

static status open_index(model_files *m, error *err) {
    json_t *index = js_load(m->path, MAX_INDEX_BYTES, err);
    if (!index) return err->code;
    js_reader r = {index, m->path, err, OK};
    const json_t *map = js_object(&r, "weight_map");
    status s = r.code;
    if (!s && !map) s = fail(err, ERR_DATA, "%s: no weight_map", m->path);
    if (!s) s = open_mapped(m, map, err);
    json_decref(index);
    return s;
}

model_files *model_files_open(const char *path, const char *variant, error *err) {
    error unseen;
    if (!err) err = &unseen;
    model_files *m = mem_calloc(1, sizeof *m);
    status s = m ? OK : short_of_memory(err, path);
    if (!s && fs_is_dir(path))
        s = find_in_folder(m, path, variant ? variant : "", err);
    else if (!s && !(m->path = mem_strdup(path)))
        s = short_of_memory(err, path);
    if (!s) s = text_ends_with(m->path, ".json") ? open_index(m, err) : open_single(m, err);
    if (!s) {
        if (m->n) qsort(m->tensors, m->n, sizeof *m->tensors, by_name);
        return m;
    }
    model_files_close(m);
    return NULL;
}

void model_files_close(model_files *m) {
    if (!m) return;
    for (size_t i = 0; i < m->n_files; i++) {
        tensor_file_close(m->files[i]);
        if (m->shard_names) mem_free(m->shard_names[i]);
    }
    mem_free(m->files);
    mem_free(m->shard_names);
    mem_free(m->tensors);
    mem_free(m->path);
    mem_free(m);
}

// ---------------------------------------------------------------- tensors

const char *model_files_path(const model_files *m) { return m->path; }
size_t model_files_count(const model_files *m) { return m->n; }
model_tensor model_files_at(const model_files *m, size_t i) { return m->tensors[i]; }

bool model_files_begins(const model_files *m, size_t i) {
    for (size_t before = 0; before < i; before++)
        if (m->tensors[before].file == m->tensors[i].file) return false;
    return true;
}

bool model_files_find(const model_files *m, const char *name, model_tensor *found) {
    const tensor_entry probe = {.name = name};
    const model_tensor key = {NULL, &probe};
    const model_tensor *hit = m->n ? bsearch(&key, m->tensors, m->n, sizeof key, by_name) : NULL;
    if (hit && found) *found = *hit;
    return hit != NULL;
}

status model_files_need(const model_files *m, const char *name, int ndim, const int64_t *shape,
                        model_tensor *found, error *err) {
    char want[200], have[200];
    tensor_shape_text(shape, ndim, want, sizeof want);
    if (!model_files_find(m, name, found))
        return fail(err, ERR_DATA, "%s: tensor '%s' %s is missing", m->path, name, want);
    const tensor_entry *t = found->tensor;
    if (t->ndim != ndim || (ndim && memcmp(t->shape, shape, (size_t)ndim * sizeof *shape)))
        return fail(err, ERR_DATA, "%s: tensor '%s' is %s, expected %s", tensor_file_path(found->file), name,
                    tensor_shape_text(t->shape, t->ndim, have, sizeof have), want);
    return OK;
}

status model_files_read_f32(const model_files *m, const char *name, int ndim, const int64_t *shape,
                            float *dst, error *err) {
    model_tensor t;
    status s = model_files_need(m, name, ndim, shape, &t, err);
    return s ? s : tensor_file_read_f32(t.file, t.tensor, 0, t.tensor->count, dst, err);
}

// ---------------------------------------------------------------- model_index.json

struct model_index {
    json_t *json; // owns the strings
    const char *class_name;
    model_component *components;
    size_t n;
};

// Components are pairs [library, class]; other values are settings of the pipeline.
static status add_component(model_index *x, const char *path, const char *name, const json_t *pair,
                            error *err) {
    const json_t *library = json_array_get(pair, 0), *class = json_array_get(pair, 1);
    if (!json_is_array(pair) || json_is_null(class)) return OK;
    if (json_array_size(pair) != 2 || !json_is_string(library) || !json_is_string(class))
        return fail(err, ERR_DATA, "%s: component '%.200s' is not a pair of library and class", path, name);
    if (!fs_is_plain_name(name))
        return fail(err, ERR_DATA, "%s: component '%.200s' is not the name of a folder", path, name);
    x->components[x->n++] = (model_component){name, json_string_value(library), json_string_value(class)};
    return OK;
}

static status read_model_index(model_index *x, const char *path, error *err) {
    if (!(x->json = js_load(path, MAX_MODEL_INDEX_BYTES, err))) return err->code;
    js_reader r = {x->json, path, err, OK};
    x->class_name = js_string(&r, "_class_name", NULL);
    if (r.code) return r.code;
    if (!x->class_name) return fail(err, ERR_DATA, "%s: no _class_name", path);
    x->components = mem_calloc(json_object_size(x->json), sizeof *x->components);
    if (!x->components) return short_of_memory(err, path);
    status s = OK;
    const char *name;
    json_t *pair;
    json_object_foreach(x->json, name, pair) {
        if (!s) s = add_component(x, path, name, pair, err);
    }
    return s;
}

model_index *model_index_open(const char *dir, error *err) {
    error unseen;
    if (!err) err = &unseen;
    model_index *x = mem_calloc(1, sizeof *x);
    char *path = fs_join(dir, "model_index.json");
    status s = x && path ? read_model_index(x, path, err) : short_of_memory(err, dir);
    mem_free(path);
    if (!s) return x;
    model_index_close(x);
    return NULL;
}

void model_index_close(model_index *x) {
    if (!x) return;
    json_decref(x->json);
    mem_free(x->components);
    mem_free(x);
}

const char *model_index_class(const model_index *x) { return x->class_name; }
size_t model_index_count(const model_index *x) { return x->n; }
model_component model_index_at(const model_index *x, size_t i) { return x->components[i]; }

const model_component *model_index_find(const model_index *x, const char *name) {
    for (size_t i = 0; i < x->n; i++)
        if (!strcmp(x->components[i].name, name)) return &x->components[i];
    return NULL;
}
