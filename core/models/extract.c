#include "core/models/extract.h"

#include "core/base/arena.h"
#include "core/base/mem.h"
#include "core/files/safetensors.h"
#include "core/models/part_tensors.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_RANK_OF_LORA = 4096, TENSORS_OF_PAIR = 3 };

typedef struct {
    const extraction *x;
    const conversion *c;
    part_tensors tuned, base; // of the component at work
    safetensors_item *items;
    size_t n, missing;
    uint64_t done, total;
    arena memory; // names and values of the items
} job;

static status no_memory(error *err) { return fail(err, ERR_TEMP, "out of memory"); }

// ---- what to factor

// Matrices and convolutions, not the tables of an embedding.
static bool is_factored(const part_tensor *t) {
    return part_tensor_is_layer(t) && !strstr(t->name, "embeddings.");
}

// tuned − base, or NULL where there is no difference or, with *s set, on failure.
static double *difference(const part_tensor *tuned, const part_tensor *base, status *s, error *err) {
    size_t n = (size_t)tuned->tensor.count;
    double *d = mem_calloc(n, sizeof *d), *b = mem_calloc(n, sizeof *b);
    bool differs = false;
    *s = d && b ? OK : no_memory(err);
    if (!*s) *s = tensor_file_read_f64(tuned->file, &tuned->tensor, 0, n, d, err);
    if (!*s) *s = tensor_file_read_f64(base->file, &base->tensor, 0, n, b, err);
    for (size_t i = 0; i < n && !*s; i++) {
        d[i] -= b[i];
        differs = differs || d[i] != 0;
        if (!isfinite(d[i]))
            *s = fail(err, ERR_DATA, "%s: tensor '%.200s' holds a nan or an infinity",
                      tensor_file_path(tuned->file), tuned->tensor.name);
    }
    mem_free(b);
    if (!*s && differs) return d;
    mem_free(d);
    return NULL;
}

// ---- the factors

static int rising(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

// Values of both factors beyond the quantile of all their sizes become it.
static status clamp_values(double *values, size_t n, double quantile, error *err) {
    double *sorted = mem_calloc(n, sizeof *sorted);
    if (!sorted) return no_memory(err);
    for (size_t i = 0; i < n; i++) sorted[i] = fabs(values[i]);
    qsort(sorted, n, sizeof *sorted, rising);
    double most = sorted[(size_t)(quantile * (double)(n - 1))];
    for (size_t i = 0; i < n; i++) values[i] = fmax(-most, fmin(most, values[i]));
    mem_free(sorted);
    return OK;
}

// "lora_te1_text_model_encoder_layers_0_mlp_fc1": a layer of component p as kohya's programs call it.
static char *kohya_name(job *j, model_part p, const char *layer) {
    bool two = model_has(j->x->tuned, PART_TEXT_ENCODER_2);
    const char *begin = p == PART_UNET           ? "lora_unet_"
                        : !two                   ? "lora_te_"
                        : p == PART_TEXT_ENCODER ? "lora_te1_"
                                                 : "lora_te2_";
    char *name = arena_printf(&j->memory, "%s%s", begin, layer);
    for (char *c = name; c && *c; c++)
        if (*c == '.') *c = '_';
    return name;
}

static const char *tensor_name(job *j, model_part p, const char *layer, const char *kohya, const char *peft) {
    if (j->x->names == LORA_NAMES_PEFT)
        return arena_printf(&j->memory, "%s.%s.%s", model_part_name(p), layer, peft);
    const char *name = kohya_name(j, p, layer);
    return name ? arena_printf(&j->memory, "%s.%s", name, kohya) : NULL;
}

static status add_item(job *j, const char *name, dtype type, int ndim, const int64_t *sizes,
                       const double *values, error *err) {
    size_t n = 1;
    for (int i = 0; i < ndim; i++) n *= (size_t)sizes[i];
    void *data = arena_alloc(&j->memory, n * dtype_size(type));
    if (!name || !data) return no_memory(err);
    dtype_from_f64(type, values, data, n);
    safetensors_item *item = &j->items[j->n++];
    *item = (safetensors_item){.name = name, .type = type, .ndim = ndim, .data = data};
    for (int i = 0; i < ndim; i++) item->shape[i] = sizes[i];
    return OK;
}

// down [R,I,kh,kw] and up [O,R,1,1] of a convolution, [R,I] and [O,R] of a matrix.
static status add_pair(job *j, model_part p, const part_tensor *t, int R, const double *up,
                       const double *down, error *err) {
    const tensor_entry *w = &t->tensor;
    bool wide_enough = !w->codes && dtype_size((dtype)w->type) > 1;
    dtype type = j->c->type >= 0 ? (dtype)j->c->type : wide_enough ? (dtype)w->type : DT_F16;
    int64_t thin[4] = {R, w->shape[1], w->shape[2], w->shape[3]}, wide[4] = {w->shape[0], R, 1, 1};
    const char *layer = arena_printf(&j->memory, "%.*s", (int)(strlen(t->name) - strlen(".weight")), t->name);
    double alpha = R;
    if (!layer) return no_memory(err);
    TRY(add_item(j, tensor_name(j, p, layer, "lora_down.weight", "lora_A.weight"), type, w->ndim, thin, down,
                 err));
    TRY(add_item(j, tensor_name(j, p, layer, "lora_up.weight", "lora_B.weight"), type, w->ndim, wide, up,
                 err));
    if (j->x->names == LORA_NAMES_PEFT) return OK; // peft's scale is 1 where no alpha is told
    return add_item(j, tensor_name(j, p, layer, "alpha", ""), type, 0, NULL, &alpha, err);
}

static status factor(job *j, model_part p, const part_tensor *t, const double *D, error *err) {
    int64_t O = t->tensor.shape[0], I = (int64_t)t->tensor.count / O, least = O < I ? O : I;
    int R = j->x->rank < least ? j->x->rank : (int)least;
    size_t n = (size_t)((O + I) * R);
    double *both = mem_calloc(n, sizeof *both), *sigma = mem_calloc((size_t)R, sizeof *sigma), *up = both,
           *down = both ? both + O * R : NULL;
    status s = both && sigma ? low_rank(D, O, I, R, up, down, sigma, j->x->team, err) : no_memory(err);
    if (!s && j->x->clamp < 1) s = clamp_values(both, n, j->x->clamp, err);
    if (!s) s = add_pair(j, p, t, R, up, down, err);
    mem_free(both);
    mem_free(sigma);
    return s;
}

// ---- components

static status check_shape(const part_tensor *t, const part_tensor *b, error *err) {
    char have[200], want[200];
    const tensor_entry *x = &t->tensor, *y = &b->tensor;
    if (x->ndim == y->ndim && !memcmp(x->shape, y->shape, (size_t)x->ndim * sizeof *x->shape)) return OK;
    return fail(err, ERR_DATA, "%s: tensor '%.200s' is %s, expected %s", tensor_file_path(b->file), y->name,
                tensor_shape_text(y->shape, y->ndim, have, sizeof have),
                tensor_shape_text(x->shape, x->ndim, want, sizeof want));
}

static status extract_layer(job *j, model_part p, const part_tensor *t, error *err) {
    const part_tensor *b = part_tensors_find(&j->base, t->name);
    j->missing += !b;
    if (!b) return OK;
    TRY(check_shape(t, b, err));
    status s;
    double *D = difference(t, b, &s, err);
    if (D) s = factor(j, p, t, D, err);
    mem_free(D);
    return s;
}

static status extract_part(job *j, model_part p, error *err) {
    TRY(part_tensors_list(&j->tuned, j->x->tuned, p, NULL, err));
    TRY(part_tensors_list(&j->base, j->x->base, p, NULL, err));
    safetensors_item *more = mem_realloc(j->items, j->n + TENSORS_OF_PAIR * j->tuned.n, sizeof *j->items);
    if (!more) return no_memory(err);
    j->items = more;
    for (size_t i = 0; i < j->tuned.n; i++) {
        const part_tensor *t = &j->tuned.tensors[i];
        if (is_factored(t)) TRY(extract_layer(j, p, t, err));
        j->done += t->tensor.bytes;
        if (j->c->progress) TRY(j->c->progress(j->c->user, NULL, j->done, j->total, err));
    }
    return OK;
}

// The text encoders and the UNet, the parts that a LoRA speaks of.
static bool takes_part(const job *j, model_part p) {
    return p != PART_VAE && model_has(j->x->tuned, p) && model_has(j->x->base, p);
}

static status measure(job *j, error *err) {
    for (model_part p = 0; p < N_PARTS; p++) {
        part_tensors l;
        if (!takes_part(j, p)) continue;
        status s = part_tensors_list(&l, j->x->tuned, p, NULL, err);
        j->total += l.bytes;
        part_tensors_free(&l);
        if (s) return s;
    }
    return OK;
}

static status extract_parts(job *j, error *err) {
    TRY(measure(j, err));
    for (model_part p = 0; p < N_PARTS; p++) {
        if (!takes_part(j, p)) continue;
        status s = extract_part(j, p, err);
        part_tensors_free(&j->tuned);
        part_tensors_free(&j->base);
        j->tuned = j->base = (part_tensors){0};
        if (s) return s;
    }
    if (j->missing)
        log_put(j->c->log, LOG_LEVEL_WARN, "%zu layers are not in both models and are left out", j->missing);
    if (!j->n)
        return fail(err, ERR_DATA, "%s and %s have no layer that differs", model_dir(j->x->tuned),
                    model_dir(j->x->base));
    return OK;
}

// ---- the file

static status save(job *j, error *err) {
    char rank[16];
    snprintf(rank, sizeof rank, "%d", j->x->rank);
    bool kohya = j->x->names == LORA_NAMES_KOHYA;
    const metadata_pair pairs[] = {{"format", "pt"},
                                   {"ss_network_module", "networks.lora"},
                                   {"ss_network_dim", rank},
                                   {"ss_network_alpha", rank}};
    TRY(safetensors_save(j->c->out, j->items, j->n, pairs, kohya ? 4 : 1, j->c->overwrite, err));
    return j->c->progress ? j->c->progress(j->c->user, j->c->out, j->total, j->total, err) : OK;
}

static status check(const extraction *x, const conversion *c, error *err) {
    if (!low_rank_available()) return low_rank(NULL, 0, 0, 0, NULL, NULL, NULL, NULL, err);
    if (x->rank < 1 || x->rank > MAX_RANK_OF_LORA)
        return fail(err, ERR_USAGE, "a LoRA's rank is from 1 to %d, not %d", MAX_RANK_OF_LORA, x->rank);
    if (!(x->clamp > 0 && x->clamp <= 1))
        return fail(err, ERR_USAGE, "a quantile is above 0 and at most 1, not %g", x->clamp);
    return convert_check_name(c->out, err);
}

status lora_extract(const extraction *x, const conversion *c, error *err) {
    job j = {.x = x, .c = c};
    error unseen;
    if (!err) err = &unseen;
    TRY(check(x, c, err));
    status s = extract_parts(&j, err);
    if (!s) s = save(&j, err);
    mem_free(j.items);
    arena_free(&j.memory);
    return s;
}
