#include "core/files/convert.h"

#include "core/base/arena.h"
#include "core/base/fs.h"
#include "core/base/json.h"
#include "core/base/mem.h"
#include "core/files/model_dir.h"
#include "core/files/safetensors.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PIECE = 2048 }; // elements converted at a time

typedef struct job job;

// A tensor on its way: the sources of in + weight · (plus − minus).
typedef struct {
    job *job;
    model_tensor in[CONVERT_MAX_PARTS]; // one after another
    int n_parts;
    model_tensor plus, minus; // plus.file NULL: no merge; minus.file NULL: `in`
    dtype type;               // of the result
    uint64_t bytes;           // of the result
    uint64_t infinite;        // finite values that became infinite
} passage;

struct job {
    const conversion *c;
    model_files *in, *plus, *minus;
    passage *passages; // by name
    safetensors_item *items;
    size_t n, unmerged;
    metadata_pair *metadata;
    size_t n_metadata;
    uint64_t done, total; // bytes of results
    arena strings;
};

static status short_of_memory(error *err) { return fail(err, ERR_TEMP, "out of memory"); }

// ---------------------------------------------------------------- values

static bool is_float(int type) {
    switch (type) {
    case DT_F64:
    case DT_F32:
    case DT_F16:
    case DT_BF16:
    case DT_F8_E4M3:
    case DT_F8_E5M2:
        return true;
    default:
        return false;
    }
}

// From here on, values become infinite.
static double limit_of(dtype t) { return t == DT_F16 ? 65520 : t == DT_BF16 ? 0x1.ffp127 : 0x1.ffffffp127; }

static status read_f64(model_tensor t, uint64_t first, size_t n, double *dst, error *err) {
    return tensor_file_read_f64(t.file, t.tensor, first, n, dst, err);
}

static status merge(const passage *p, uint64_t first, size_t n, double *v, error *err) {
    double plus[PIECE], minus[PIECE];
    TRY(read_f64(p->plus, first, n, plus, err));
    if (p->minus.file) TRY(read_f64(p->minus, first, n, minus, err));
    for (size_t i = 0; i < n; i++) v[i] += p->job->c->weight * (plus[i] - (p->minus.file ? minus[i] : v[i]));
    return OK;
}

static status convert_piece(passage *p, model_tensor in, uint64_t first, size_t n, char *dst, error *err) {
    double v[PIECE], limit = limit_of(p->type);
    TRY(read_f64(in, first, n, v, err));
    if (p->plus.file) TRY(merge(p, first, n, v, err));
    dtype_from_f64(p->type, v, dst, n);
    for (size_t i = 0; i < n && p->type != DT_F64; i++) p->infinite += isfinite(v[i]) && fabs(v[i]) >= limit;
    return OK;
}

// Elements of one part.
static status deliver_part(passage *p, model_tensor in, uint64_t first, size_t n, char *dst, error *err) {
    size_t size = dtype_size(p->type);
    if (!p->plus.file && (int)p->type == in.tensor->type)
        return tensor_file_read(in.file, in.tensor, first, n, dst, err);
    for (size_t i = 0; i < n; i += PIECE)
        TRY(convert_piece(p, in, first + i, n - i < PIECE ? n - i : PIECE, dst + i * size, err));
    return OK;
}

// What safetensors_save asks for; pieces begin and end between elements.
static status deliver(void *user, uint64_t offset, void *dst, size_t bytes, error *err) {
    passage *p = user;
    job *j = p->job;
    size_t size = dtype_size(p->type), n = bytes / size, done = 0;
    uint64_t first = offset / size;
    for (int i = 0; i < p->n_parts && done < n; i++) {
        uint64_t count = p->in[i].tensor->count;
        size_t here = first >= count ? 0 : count - first < n - done ? (size_t)(count - first) : n - done;
        TRY(deliver_part(p, p->in[i], first, here, (char *)dst + done * size, err));
        done += here;
        first = first >= count ? first - count : 0;
    }
    j->done += bytes;
    if (offset + bytes == p->bytes && p->infinite)
        log_put(j->c->log, LOG_LEVEL_WARN,
                "tensor '%s': %llu values are too large for %s and became infinite", p->in[0].tensor->name,
                (unsigned long long)p->infinite, dtype_name(p->type));
    return j->c->progress ? j->c->progress(j->c->user, NULL, j->done, j->total, err) : OK;
}

// ---------------------------------------------------------------- which tensors

static bool is_taken(const char *name, const char *only) {
    if (!only || !*only) return true;
    for (size_t n; *only; only += n + (only[n] == ','))
        if ((n = strcspn(only, ",")) && !strncmp(name, only, n)) return true;
    return false;
}

static bool ends_with(const char *s, const char *end) {
    size_t n = strlen(s), m = strlen(end);
    return n >= m && !strcmp(s + n - m, end);
}

// What belongs to scaled 8-bit floats is of no use beside other floats.
static bool is_scale(const char *name) {
    static const char *const ENDINGS[] = {".scale_weight", ".weight_scale", ".scale_input", ".input_scale",
                                          "scaled_fp8"};
    for (size_t i = 0; i < sizeof ENDINGS / sizeof *ENDINGS; i++)
        if (ends_with(name, ENDINGS[i])) return true;
    return false;
}

static bool holds_scaled(const model_files *m) {
    for (size_t i = 0; i < model_files_count(m); i++)
        if (model_files_at(m, i).tensor->scale) return true;
    return false;
}

// The tensor to be added or subtracted; *there becomes false if there is none.
static status find_other(const model_files *other, const passage *p, model_tensor *found, bool *there,
                         error *err) {
    const tensor_entry *t = p->in[0].tensor;
    if (!(*there = *there && model_files_find(other, t->name, NULL))) return OK;
    return model_files_need(other, t->name, t->ndim, t->shape, found, err);
}

static status find_others(job *j, passage *p, error *err) {
    model_tensor plus, minus = {0};
    bool there = is_float(p->in[0].tensor->type);
    if (!j->plus || !there) return OK;
    TRY(find_other(j->plus, p, &plus, &there, err));
    if (j->minus) TRY(find_other(j->minus, p, &minus, &there, err));
    if (there) {
        p->plus = plus;
        p->minus = minus;
    }
    j->unmerged += !there;
    return OK;
}

static status add(job *j, const convert_item *item, error *err) {
    const tensor_entry *t = item->part[0].tensor;
    const char *path = tensor_file_path(item->part[0].file);
    passage *p = &j->passages[j->n];
    safetensors_item *out = &j->items[j->n];
    if (t->type < 0)
        return fail(err, ERR_DATA, "%s: tensor '%.200s' has the unknown type '%.50s'", path, t->name,
                    t->type_name);
    *p = (passage){.job = j,
                   .n_parts = item->n_parts,
                   .type = is_float(t->type) && j->c->type >= 0 ? (dtype)j->c->type : (dtype)t->type};
    memcpy(p->in, item->part, sizeof p->in);
    TRY(find_others(j, p, err));
    if (p->plus.file && dtype_size(p->type) == 1)
        return fail(err, ERR_DATA, "%s: tensor '%.200s' is %s; a merge of such needs another type", path,
                    t->name, t->type_name);
    *out =
        (safetensors_item){.name = item->name, .type = p->type, .ndim = t->ndim, .read = deliver, .user = p};
    memcpy(out->shape, t->shape, sizeof t->shape);
    for (int i = 0; i < item->n_parts; i++) { // no overflow: files hold what was counted in types as small
        p->bytes += item->part[i].tensor->count * dtype_size(p->type);
        if (i) out->shape[0] += item->part[i].tensor->shape[0];
    }
    j->total += p->bytes;
    j->n++;
    return OK;
}

static status make_room(job *j, size_t n, error *err) {
    j->passages = mem_calloc(n, sizeof *j->passages);
    j->items = mem_calloc(n, sizeof *j->items);
    return j->passages && j->items ? OK : short_of_memory(err);
}

static status choose(job *j, error *err) {
    size_t n = model_files_count(j->in);
    bool scaled = j->c->type >= 0 && holds_scaled(j->in);
    TRY(make_room(j, n, err));
    for (size_t i = 0; i < n; i++) {
        model_tensor t = model_files_at(j->in, i);
        const convert_item item = {t.tensor->name, 1, {t}};
        if (is_taken(t.tensor->name, j->c->only) && !(scaled && is_scale(t.tensor->name)))
            TRY(add(j, &item, err));
    }
    if (!j->n)
        return fail(err, ERR_DATA, "%s: no tensor%s%.200s", j->c->in,
                    j->c->only ? " whose name begins with " : "", j->c->only ? j->c->only : "");
    if (j->unmerged)
        log_put(j->c->log, LOG_LEVEL_WARN, "%zu of %zu tensors are not in every model and stay as they are",
                j->unmerged, j->n);
    return OK;
}

// ---------------------------------------------------------------- files

// The end of the file that begins with item `first`: at least one, then as many as there is room for.
static size_t shard_end(const job *j, size_t first) {
    uint64_t bytes = j->passages[first].bytes;
    size_t i = first + 1;
    while (i < j->n && (!j->c->max_shard || bytes + j->passages[i].bytes <= j->c->max_shard))
        bytes += j->passages[i++].bytes;
    return i;
}

static size_t shard_count(const job *j) {
    size_t n = 0;
    for (size_t i = 0; i < j->n; i = shard_end(j, i)) n++;
    return n;
}

static status save(job *j, const char *path, size_t first, size_t end, error *err) {
    if (!path) return short_of_memory(err);
    TRY(safetensors_save(path, j->items + first, end - first, j->metadata, j->n_metadata, j->c->overwrite,
                         err));
    return j->c->progress ? j->c->progress(j->c->user, path, j->done, j->total, err) : OK;
}

static status save_index(job *j, json_t *map, error *err) {
    const char *path = arena_printf(&j->strings, "%s.index.json", j->c->out);
    json_t *index =
        json_pack("{s:{s:I}, s:O}", "metadata", "total_size", (json_int_t)j->total, "weight_map", map);
    char *text = index ? json_dumps(index, JSON_INDENT(2)) : NULL;
    status s =
        path && text ? fs_write_atomic(path, text, strlen(text), j->c->overwrite, err) : short_of_memory(err);
    free(text);
    json_decref(index);
    if (s || !j->c->progress) return s;
    return j->c->progress(j->c->user, path, j->done, j->total, err);
}

static status save_shards(job *j, size_t n, error *err) {
    json_t *map = json_object();
    int stem = (int)(strlen(j->c->out) - strlen(".safetensors"));
    status s = map ? OK : short_of_memory(err);
    for (size_t i = 0, shard = 1; i < j->n && !s; shard++) {
        size_t end = shard_end(j, i);
        const char *path =
            arena_printf(&j->strings, "%.*s-%05zu-of-%05zu.safetensors", stem, j->c->out, shard, n);
        s = save(j, path, i, end, err);
        for (; i < end && !s; i++)
            if (json_object_set_new(map, j->items[i].name, json_string(fs_basename(path))))
                s = short_of_memory(err);
    }
    if (!s) s = save_index(j, map, err);
    json_decref(map);
    return s;
}

// ---------------------------------------------------------------- all of it

static status save_all(job *j, error *err) {
    size_t n = shard_count(j);
    return n == 1 ? save(j, j->c->out, 0, j->n, err) : save_shards(j, n, err);
}

status convert_check_name(const char *out, error *err) {
    if (ends_with(out, ".safetensors") && *fs_basename(out)) return OK;
    return fail(err, ERR_USAGE, "'%s': what is written is called NAME.safetensors", out);
}

static status open_models(job *j, error *err) {
    const conversion *c = j->c;
    TRY(convert_check_name(c->out, err));
    if (!(j->in = model_files_open(c->in, NULL, err))) return err->code;
    if (c->plus && !(j->plus = model_files_open(c->plus, NULL, err))) return err->code;
    if (c->minus && !(j->minus = model_files_open(c->minus, NULL, err))) return err->code;
    return OK;
}

// Shards repeat their metadata.
static status read_metadata(job *j, error *err) {
    const tensor_file *f = j->passages[0].in[0].file;
    j->n_metadata = tensor_file_metadata_count(f);
    if (!(j->metadata = mem_calloc(j->n_metadata, sizeof *j->metadata))) return short_of_memory(err);
    for (size_t i = 0; i < j->n_metadata; i++) j->metadata[i] = tensor_file_metadata_at(f, i);
    return OK;
}

static void finish(job *j) {
    mem_free(j->metadata);
    mem_free(j->passages);
    mem_free(j->items);
    model_files_close(j->in);
    model_files_close(j->plus);
    model_files_close(j->minus);
    arena_free(&j->strings);
}

status convert_weights(const conversion *c, error *err) {
    job j = {.c = c};
    error unseen;
    if (!err) err = &unseen;
    status s = open_models(&j, err);
    if (!s) s = choose(&j, err);
    if (!s) s = read_metadata(&j, err);
    if (!s) s = save_all(&j, err);
    finish(&j);
    return s;
}

status convert_items(const conversion *c, const convert_item *items, size_t n, const metadata_pair *metadata,
                     size_t n_metadata, error *err) {
    job j = {.c = c};
    bool scaled = false;
    status s = make_room(&j, n, err);
    for (size_t i = 0; i < n; i++) scaled = scaled || (c->type >= 0 && items[i].part[0].tensor->scale);
    for (size_t i = 0; i < n && !s; i++)
        if (!scaled || !is_scale(items[i].name)) s = add(&j, &items[i], err);
    if (!s && n_metadata && !(j.metadata = mem_calloc(n_metadata, sizeof *metadata)))
        s = short_of_memory(err);
    if (!s && n_metadata) memcpy(j.metadata, metadata, n_metadata * sizeof *metadata);
    j.n_metadata = n_metadata;
    if (!s) s = save_all(&j, err);
    finish(&j);
    return s;
}
