#include "core/train/export.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/arena.h"
#include "core/base/fs.h"
#include "core/base/mem.h"
#include "core/files/safetensors.h"

// ---- one component

typedef struct {
    arena mem;
    safetensors_item *items;
    size_t n;
} listing;

static void *converted(arena *mem, const param *q, dtype t) {
    void *data = arena_alloc(mem, q->n * dtype_size(t));
    for (size_t i = 0; data && i < q->n; i++) {
        if (t == DT_F32) ((float *)data)[i] = q->ema[i];
        if (t == DT_F16) ((uint16_t *)data)[i] = f32_to_f16(q->ema[i]);
        if (t == DT_BF16) ((uint16_t *)data)[i] = f32_to_bf16(q->ema[i]);
    }
    return data;
}

static status list_component(listing *l, const params *p, const char *component, dtype t, error *err) {
    l->items = mem_calloc(params_count(p) + 1, sizeof *l->items);
    if (!l->items) return fail(err, ERR_TEMP, "out of memory");
    for (size_t i = 0; i < params_count(p); i++) {
        const param *q = params_at(p, i);
        const char *name = param_below(q, component);
        if (!name) continue;
        safetensors_item *it = &l->items[l->n++];
        *it = (safetensors_item){
            .name = name, .type = t, .ndim = q->w.shape.rank, .data = converted(&l->mem, q, t)};
        for (int k = 0; k < q->w.shape.rank; k++) it->shape[k] = q->w.shape.d[k];
        if (!it->data) return fail(err, ERR_TEMP, "out of memory");
    }
    return OK;
}

static status save_config(const json_t *config, const char *path, error *err) {
    char *text = json_dumps(config, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
    if (!text) return fail(err, ERR_TEMP, "out of memory");
    status s = fs_write_atomic(path, text, strlen(text), true, err);
    free(text); // of jansson
    return s;
}

status export_component(const params *p, const char *component, const char *file, const json_t *config,
                        dtype t, const char *dir, error *err) {
    static const metadata_pair about = {"format", "pt"};
    listing l = {0};
    char *folder = arena_printf(&l.mem, "%s/%s", dir, component);
    char *weights_path = arena_printf(&l.mem, "%s/%s/%s", dir, component, file);
    char *config_path = arena_printf(&l.mem, "%s/%s/config.json", dir, component);
    status s =
        folder && weights_path && config_path ? fs_mkdirs(folder, err) : fail(err, ERR_TEMP, "out of memory");
    if (!s) s = list_component(&l, p, component, t, err);
    if (!s) s = safetensors_save(weights_path, l.items, l.n, &about, 1, true, err);
    if (!s) s = save_config(config, config_path, err);
    mem_free(l.items);
    arena_free(&l.mem);
    return s;
}

// ---- the rest

static bool is_listed(const char *const *list, const char *name) {
    for (; *list; list++)
        if (!strcmp(*list, name)) return true;
    return false;
}

static bool is_weights(const char *name) {
    return strstr(name, ".safetensors") || !strcmp(fs_extension(name), "bin");
}

static status copy_if_missing(const char *from, const char *to, const char *name, error *err) {
    char *a = fs_join(from, name), *b = fs_join(to, name);
    status s = a && b ? OK : fail(err, ERR_TEMP, "out of memory");
    if (!s && !fs_exists(b) && !fs_is_dir(a)) s = fs_mkdirs(to, err);
    if (!s && !fs_exists(b) && !fs_is_dir(a)) s = fs_copy(a, b, true, err);
    mem_free(a);
    mem_free(b);
    return s;
}

static status copy_folder(const char *from, const char *to, bool weight_files, error *err) {
    char **names = NULL;
    size_t n = 0;
    status s = fs_list(from, &names, &n, err);
    for (size_t i = 0; i < n && !s; i++)
        if (weight_files || !is_weights(names[i])) s = copy_if_missing(from, to, names[i], err);
    fs_list_free(names, n);
    return s;
}

// The folders that a pipeline of diffusers may have; others below a model are not its own.
static const char *const COMPONENTS[] = {"scheduler", "text_encoder",     "text_encoder_2",
                                         "tokenizer", "tokenizer_2",      "unet",
                                         "vae",       "feature_extractor"};

status export_rest(const char *from, const char *to, const char *const *trained, error *err) {
    status s = copy_if_missing(from, to, "model_index.json", err);
    for (size_t i = 0; i < sizeof COMPONENTS / sizeof *COMPONENTS && !s; i++) {
        char *a = fs_join(from, COMPONENTS[i]), *b = fs_join(to, COMPONENTS[i]);
        if (!a || !b) s = fail(err, ERR_TEMP, "out of memory");
        if (!s && fs_is_dir(a)) s = copy_folder(a, b, !is_listed(trained, COMPONENTS[i]), err);
        mem_free(a);
        mem_free(b);
    }
    return s;
}
