#include "core/models/rewrite.h"

#include "core/base/arena.h"
#include "core/base/fs.h"
#include "core/base/json.h"
#include "core/base/mem.h"
#include "core/models/part_tensors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    model *m;
    const lora_changes *loras;
    const conversion *c;
    json_t *scheduler;
    part_tensors parts[N_PARTS];
    bool *used;                  // of a checkpoint's tensors
    uint64_t before, now, total; // bytes of the files written, of the one at work, of all
    arena strings;

    // one file
    checkpoint_kind kind;
    file_names names[N_PARTS];
    convert_item *items;
    size_t n, unplaced;

    const char *dir; // of the folder that is being written
} job;

static status no_memory(error *err) { return fail(err, ERR_TEMP, "out of memory"); }

// ---- what the model holds

static void report_unused(const job *j) {
    const checkpoint *c = model_checkpoint(j->m);
    size_t n = 0, first = 0;
    for (size_t i = c ? model_files_count(checkpoint_files(c)) : 0; i-- > 0;)
        if (!j->used[i]) n++, first = i;
    if (n)
        log_put(j->c->log, LOG_LEVEL_WARN, "%zu tensors belong to no component and are left out, as '%.200s'",
                n, model_files_at(checkpoint_files(c), first).tensor->name);
}

static status list_parts(job *j, error *err) {
    const checkpoint *c = model_checkpoint(j->m);
    if (c && !(j->used = mem_calloc(model_files_count(checkpoint_files(c)), sizeof *j->used)))
        return no_memory(err);
    for (model_part p = 0; p < N_PARTS; p++)
        if (model_has(j->m, p)) {
            TRY(part_tensors_list(&j->parts[p], j->m, p, j->used, err));
            j->total += j->parts[p].bytes;
        }
    report_unused(j);
    return OK;
}

static status read_scheduler(job *j, const char *prediction, error *err) {
    if (!(j->scheduler = model_config(j->m, "scheduler", NULL, err))) return err->code;
    if (prediction && json_object_set_new(j->scheduler, "prediction_type", json_string(prediction)))
        return no_memory(err);
    return OK;
}

// ---- writing

// Of a folder, the files inside are not told one by one.
static status tell(void *user, const char *file, uint64_t done, uint64_t total, error *err) {
    const job *j = user;
    double share = total ? (double)done / (double)total : 1;
    return j->c->progress(j->c->user, j->dir ? NULL : file, j->before + (uint64_t)(share * (double)j->now),
                          j->total, err);
}

static status write_items(job *j, const char *out, const convert_item *items, size_t n,
                          const metadata_pair *metadata, size_t n_metadata, error *err) {
    conversion c = *j->c;
    c.out = out;
    if (c.progress) c.progress = tell;
    c.user = j;
    return out ? convert_items(&c, items, n, metadata, n_metadata, err) : no_memory(err);
}

// ---- what the files say about themselves

typedef struct {
    metadata_pair *pairs;
    size_t n;
} metadata;

// A key that is there already keeps its value, unless `replace`.
static void say(metadata *d, const char *key, const char *value, bool replace) {
    size_t i = 0;
    while (i < d->n && strcmp(d->pairs[i].key, key)) i++;
    if (i < d->n && !replace) return;
    d->pairs[i] = (metadata_pair){key, value};
    d->n += i == d->n;
}

// What the UNet's file says is said of the model; there is room for a few pairs more.
static status say_the_same(metadata *d, const job *j, error *err) {
    enum { MORE = 4 };
    const part_tensors *unet = &j->parts[PART_UNET];
    const tensor_file *f = unet->n ? unet->tensors[0].file : NULL;
    size_t n = f ? tensor_file_metadata_count(f) : 0;
    if (!(d->pairs = mem_calloc(n + MORE, sizeof *d->pairs))) return no_memory(err);
    for (size_t i = 0; i < n; i++) d->pairs[d->n++] = tensor_file_metadata_at(f, i);
    return OK;
}

static bool predicts_v(const job *j) {
    const char *p = json_string_value(json_object_get(j->scheduler, "prediction_type"));
    return p && !strcmp(p, "v_prediction");
}

static bool zero_snr(const job *j) {
    return json_is_true(json_object_get(j->scheduler, "rescale_betas_zero_snr"));
}

// ---- one file

enum { N_MARKS = 2 };

// As a file of the original layout tells it, checkpoint.c: by what the UNet adds to the time, and by which
// text encoder there is.
static status find_kind(job *j, error *err) {
    const unet_config *u = model_unet(j->m, err);
    bool reads = model_has(j->m, PART_TEXT_ENCODER);
    if (!u) return err->code;
    const clip_config *clip = reads ? model_clip(j->m, PART_TEXT_ENCODER, err) : NULL;
    if (reads && !clip) return err->code;
    int64_t width = u->level[0].cross_attention_dim;
    if (u->addition_embed == ADDITION_TEXT_TIME)
        j->kind = u->projection_input_dim == width + 5 * 256 ? CHECKPOINT_REFINER : CHECKPOINT_SDXL;
    else
        j->kind = (clip ? clip->hidden_act == UNARY_GELU : width == 1024) ? CHECKPOINT_SD2 : CHECKPOINT_SD1;
    return OK;
}

static status find_names(job *j, model_part p, error *err) {
    file_names *names = &j->names[p];
    if (!checkpoint_place(j->kind, model_part_name(p), names))
        return fail(err, ERR_DATA, "%s: a file of this kind of model has no place for the %s",
                    model_dir(j->m), model_part_name(p));
    if (p == PART_UNET) names->layers = model_unet(j->m, err)->level[0].layers; // find_kind has read it
    if (p == PART_VAE) {
        const vae_config *vae = model_vae(j->m, err);
        if (!vae) return err->code;
        names->levels = vae->n_levels;
    }
    return OK;
}

// The item that a third belongs to. They come as k, q, v: by name.
static convert_item *fused(job *j, const char *theirs) {
    for (size_t i = j->n; i-- > 0;)
        if (!strcmp(j->items[i].name, theirs)) return &j->items[i];
    return NULL;
}

static convert_item *new_item(job *j, const char *name) {
    convert_item *item = &j->items[j->n++];
    *item = (convert_item){.name = arena_printf(&j->strings, "%s", name), .n_parts = 1};
    return item->name ? item : NULL;
}

static status place(job *j, model_part p, const part_tensor *t, error *err) {
    char theirs[NAME_SIZE];
    tensor_view view;
    if (!part_tensors_translate(&j->parts[p], &j->names[p], t->name, theirs, &view)) {
        bool number = t->tensor.type == DT_I64 || t->tensor.type == DT_I32;
        j->unplaced += number;
        return number ? OK
                      : fail(err, ERR_DATA, "%s: tensor '%.200s' has no name in the original layout",
                             tensor_file_path(t->file), t->tensor.name);
    }
    int part = view_is_third(view) ? view - VIEW_FIRST_THIRD : 0;
    convert_item *item = view_is_third(view) ? fused(j, theirs) : NULL;
    tensor_entry *stored = arena_alloc(&j->strings, sizeof *stored);
    if (!stored || (!item && !(item = new_item(j, theirs)))) return no_memory(err);
    *stored = view_store(&t->tensor, view);
    if (view_is_third(view)) item->n_parts = 3;
    item->part[part] = (model_tensor){t->file, stored};
    item->change[part] = lora_change(j->loras, p, t->name, view == VIEW_TRANSPOSED);
    return OK;
}

// q, k and v of a matrix of three must all be there, and equally wide.
static status check_item(const job *j, const convert_item *item, error *err) {
    for (int i = 0; i < item->n_parts && item->n_parts > 1; i++) {
        const tensor_entry *first = item->part[0].tensor, *t = item->part[i].tensor;
        bool same = first && t && t->ndim == first->ndim && t->ndim >= 1;
        for (int d = 0; same && d < t->ndim; d++) same = t->shape[d] == first->shape[d];
        if (!same)
            return fail(err, ERR_DATA, "%s: '%.200s' is q, k and v, which are not all there and of one shape",
                        model_dir(j->m), item->name);
    }
    return OK;
}

static status place_all(job *j, error *err) {
    size_t room = N_MARKS;
    for (model_part p = 0; p < N_PARTS; p++) room += j->parts[p].n;
    if (!(j->items = mem_calloc(room, sizeof *j->items))) return no_memory(err);
    for (model_part p = 0; p < N_PARTS; p++) {
        if (j->parts[p].n) TRY(find_names(j, p, err));
        for (size_t i = 0; i < j->parts[p].n; i++) TRY(place(j, p, &j->parts[p].tensors[i], err));
    }
    for (size_t i = 0; i < j->n; i++) TRY(check_item(j, &j->items[i], err));
    if (j->unplaced)
        log_put(j->c->log, LOG_LEVEL_WARN,
                "%zu tensors of integers have no name in the original layout and are left out", j->unplaced);
    return OK;
}

// Tensors of no values, by which programs know what a UNet of SDXL predicts.
static void mark(job *j) {
    static const tensor_entry NOTHING = {.name = "mark", .type = DT_F32, .ndim = 1};
    const model_tensor nothing = {j->items[0].part[0].file, &NOTHING};
    if (predicts_v(j) && j->kind != CHECKPOINT_SD2)
        j->items[j->n++] = (convert_item){"v_pred", 1, {nothing}, {NULL}};
    if (zero_snr(j)) j->items[j->n++] = (convert_item){"ztsnr", 1, {nothing}, {NULL}};
}

static const char *architecture(const job *j) {
    switch (j->kind) {
    case CHECKPOINT_SD2:
        return predicts_v(j) ? "stable-diffusion-v2-768-v" : "stable-diffusion-v2-512";
    case CHECKPOINT_SDXL:
        return "stable-diffusion-xl-v1-base";
    case CHECKPOINT_REFINER:
        return "stable-diffusion-xl-v1-refiner";
    default:
        return "stable-diffusion-v1";
    }
}

static status write_single(job *j, error *err) {
    metadata d = {0};
    TRY(find_kind(j, err));
    TRY(place_all(j, err));
    mark(j);
    status s = say_the_same(&d, j, err);
    if (!s) say(&d, "modelspec.architecture", architecture(j), false);
    if (!s) say(&d, "modelspec.prediction_type", predicts_v(j) ? "v" : "epsilon", true);
    j->now = j->total;
    if (!s) s = write_items(j, j->c->out, j->items, j->n, d.pairs, d.n, err);
    mem_free(d.pairs);
    return s;
}

// ---- a folder

static const char *path_in(job *j, const char *folder, const char *name) {
    return arena_printf(&j->strings, "%s/%s%s%s", j->dir, folder, *folder ? "/" : "", name);
}

// Takes over `value`, which may be NULL when memory is short.
static status write_json(const char *path, json_t *value, error *err) {
    char *text = value ? json_dumps(value, JSON_INDENT(2) | JSON_REAL_PRECISION(9)) : NULL;
    status s = path && text ? fs_write_atomic(path, text, strlen(text), false, err) : no_memory(err);
    free(text); // jansson's default allocator
    json_decref(value);
    return s;
}

static status make_folder(job *j, const char *name, error *err) {
    const char *path = path_in(j, "", name);
    return path ? fs_mkdirs(path, err) : no_memory(err);
}

static status write_part(job *j, model_part p, error *err) {
    const char *name = model_part_name(p);
    bool text = p == PART_TEXT_ENCODER || p == PART_TEXT_ENCODER_2;
    const part_tensors *l = &j->parts[p];
    metadata d = {0};
    convert_item *items = mem_calloc(l->n, sizeof *items);
    status s = items ? make_folder(j, name, err) : no_memory(err);
    for (size_t i = 0; i < l->n && !s; i++)
        items[i] = (convert_item){l->tensors[i].name,
                                  1,
                                  {{l->tensors[i].file, &l->tensors[i].tensor}},
                                  {lora_change(j->loras, p, l->tensors[i].name, false)}};
    if (!s && p == PART_UNET) s = say_the_same(&d, j, err);
    if (!s && !d.pairs && !(d.pairs = mem_calloc(1, sizeof *d.pairs))) s = no_memory(err);
    if (!s) say(&d, "format", "pt", true);
    j->now = l->bytes;
    if (!s)
        s = write_items(j,
                        path_in(j, name, text ? "model.safetensors" : "diffusion_pytorch_model.safetensors"),
                        items, l->n, d.pairs, d.n, err);
    j->before += l->bytes;
    mem_free(d.pairs);
    mem_free(items);
    json_t *config = s ? NULL : model_config(j->m, name, NULL, err);
    if (s || !config) return err->code;
    return write_json(path_in(j, name, "config.json"), config, err);
}

static status copy_file(job *j, const char *from, const char *folder, const char *name, error *err) {
    char *path = fs_join(from, name);
    const char *to = path_in(j, folder, name);
    status s = path && to ? OK : no_memory(err);
    if (!s && !fs_is_dir(path)) s = fs_copy(path, to, true, err);
    mem_free(path);
    return s;
}

// All of a model's own folder; of the vocabulary that serves all checkpoints its two tables, and what the
// kind of model says of its tokenizer.
static status copy_tokenizer(job *j, model_part p, const char *from, error *err) {
    const char *name = model_tokenizer_name(p);
    char **names = NULL;
    size_t n = 0;
    TRY(make_folder(j, name, err));
    if (model_checkpoint(j->m)) {
        TRY(copy_file(j, from, name, "vocab.json", err));
        TRY(copy_file(j, from, name, "merges.txt", err));
        json_t *config = model_config(j->m, name, NULL, err);
        return config ? write_json(path_in(j, name, "tokenizer_config.json"), config, err) : err->code;
    }
    status s = fs_list(from, &names, &n, err);
    for (size_t i = 0; i < n && !s; i++) s = copy_file(j, from, name, names[i], err);
    fs_list_free(names, n);
    return s;
}

static status write_tokenizer(job *j, model_part p, bool *there, error *err) {
    char *from = model_tokenizer_dir(j->m, p), *words = from ? fs_join(from, "vocab.json") : NULL;
    fs_kind kind = FS_NOTHING;
    status s = words ? fs_look(model_checkpoint(j->m) ? words : from, &kind, err) : no_memory(err);
    *there = kind == (model_checkpoint(j->m) ? FS_OTHER : FS_FOLDER);
    if (!s && *there)
        s = copy_tokenizer(j, p, from, err);
    else if (!s)
        log_put(j->c->log, LOG_LEVEL_WARN, "%s: there is no vocabulary, so the %s is left out", from,
                model_tokenizer_name(p));
    mem_free(words);
    mem_free(from);
    return s;
}

static int list_component(json_t *index, const char *name, const char *library, const char *class_name) {
    return json_object_set_new(index, name, json_pack("[s?, s?]", library, class_name));
}

// A checkpoint names no class: that of our default sampler, so that the folder draws as the file does.
static status write_scheduler(job *j, json_t *index, error *err) {
    if (!json_object_get(j->scheduler, "_class_name") &&
        json_object_set_new(j->scheduler, "_class_name", json_string("DPMSolverMultistepScheduler")))
        return no_memory(err);
    const char *class_name = json_string_value(json_object_get(j->scheduler, "_class_name"));
    if (list_component(index, "scheduler", "diffusers", class_name)) return no_memory(err);
    TRY(make_folder(j, "scheduler", err));
    return write_json(path_in(j, "scheduler", "scheduler_config.json"), json_incref(j->scheduler), err);
}

static status write_parts(job *j, json_t *index, error *err) {
    static const struct {
        const char *library, *class_name;
        bool reads; // it has a tokenizer
    } CLASSES[N_PARTS] = {
        [PART_TEXT_ENCODER] = {"transformers", "CLIPTextModel", true},
        [PART_TEXT_ENCODER_2] = {"transformers", "CLIPTextModelWithProjection", true},
        [PART_UNET] = {"diffusers", "UNet2DConditionModel", false},
        [PART_VAE] = {"diffusers", "AutoencoderKL", false},
    };
    for (model_part p = 0; p < N_PARTS; p++) {
        const char *name = model_part_name(p);
        bool has = j->parts[p].n, words = false;
        if (has) TRY(write_part(j, p, err));
        if (has && CLASSES[p].reads) TRY(write_tokenizer(j, p, &words, err));
        if (!has && p == PART_TEXT_ENCODER_2) continue; // the classes of one encoder know of no other
        if (list_component(index, name, has ? CLASSES[p].library : NULL,
                           has ? CLASSES[p].class_name : NULL) ||
            (CLASSES[p].reads && list_component(index, model_tokenizer_name(p), words ? "transformers" : NULL,
                                                words ? "CLIPTokenizer" : NULL)))
            return no_memory(err);
    }
    return OK;
}

static status fill_folder(job *j, error *err) {
    json_t *index = model_settings(j->m);
    bool xl = model_has(j->m, PART_TEXT_ENCODER_2); // whose classes have no safety checker
    if (!index || (!xl && list_component(index, "safety_checker", NULL, NULL)) ||
        (!xl && list_component(index, "feature_extractor", NULL, NULL))) {
        json_decref(index);
        return no_memory(err);
    }
    status s = write_parts(j, index, err);
    if (!s) s = write_scheduler(j, index, err);
    if (!s) return write_json(path_in(j, "", "model_index.json"), index, err);
    json_decref(index);
    return s;
}

static status write_folder(job *j, error *err) {
    char *out = arena_printf(&j->strings, "%s", j->c->out);
    if (!out) return no_memory(err);
    for (size_t n = strlen(out); n > 1 && out[n - 1] == '/'; n--) out[n - 1] = 0;
    fs_folder *folder = fs_folder_new(out, err);
    if (!folder) return err->code;
    j->dir = fs_folder_temp(folder);
    status s = fill_folder(j, err);
    if (s)
        fs_folder_abort(folder);
    else
        s = fs_folder_commit(folder, err);
    if (s || !j->c->progress) return s;
    return j->c->progress(j->c->user, out, j->total, j->total, err);
}

// ---- all of it

static void finish(job *j) {
    for (model_part p = 0; p < N_PARTS; p++) part_tensors_free(&j->parts[p]);
    json_decref(j->scheduler);
    mem_free(j->used);
    mem_free(j->items);
    arena_free(&j->strings);
}

status model_rewrite(model *m, model_layout layout, const char *prediction, const lora_changes *loras,
                     const conversion *c, error *err) {
    job j = {.m = m, .loras = loras, .c = c};
    error unseen;
    if (!err) err = &unseen;
    status s = layout == LAYOUT_SINGLE ? convert_check_name(c->out, err) : OK;
    if (!s) s = list_parts(&j, err);
    if (!s) s = read_scheduler(&j, prediction, err);
    if (!s) s = layout == LAYOUT_SINGLE ? write_single(&j, err) : write_folder(&j, err);
    finish(&j);
    return s;
}
