// libFuzzer: a safetensors file of any content. What opens must be readable to its last value, and comes back
// the same when it is written.
#include "core/base/mem.h"
#include "core/files/quantised.h"
#include "core/files/safetensors.h"
#include "core/files/tensor_file.h"
#include "core/files/tensor_view.h"
#include "tests/fuzz/fuzz.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char saved[100];

// What a program may ask for by mistake.
static void refuse_items(void) {
    const float one = 1;
    const safetensors_item good = {.name = "a", .type = DT_F32, .ndim = 1, .shape = {1}, .data = &one};
    safetensors_item two[] = {good, good}, reserved = good, negative = good, huge = good;
    reserved.name = "__metadata__";
    negative.shape[0] = -1;
    huge.shape[0] = INT64_MAX;
    if (safetensors_save(saved, two, 2, NULL, 0, true, NULL) != ERR_INTERNAL ||
        safetensors_save(saved, &reserved, 1, NULL, 0, true, NULL) != ERR_INTERNAL ||
        safetensors_save(saved, &negative, 1, NULL, 0, true, NULL) != ERR_INTERNAL ||
        safetensors_save(saved, &huge, 1, NULL, 0, true, NULL) != ERR_INTERNAL ||
        safetensors_save(saved, &good, 1, &(metadata_pair){"key", "\xff"}, 1, true, NULL) != ERR_TEMP)
        abort();
}

void fuzz_start(void) {
    char dir[64];
    fuzz_folder(dir);
    snprintf(saved, sizeof saved, "%s/again.safetensors", dir);
    refuse_items();
}

static void need(bool good) {
    if (!good && !fuzz_failed()) abort();
}

// As stored.
static uint64_t elements(const tensor_entry *t) { return t->codes ? t->bytes : t->count; }

static bool same(float a, float b) { return a == b || (isnan(a) && isnan(b)); }

// As doubles what was read as floats, which are rounded from the same numbers.
static void compare_doubles(const tensor_file *st, const tensor_entry *t, const float *f) {
    double *d = mem_calloc(t->count + 1, sizeof *d);
    bool read = d && !tensor_file_read_f64(st, t, 0, t->count, d, &(error){0});
    need(read);
    for (uint64_t i = 0; read && i < t->count; i++)
        if (!same((float)d[i], f[i])) abort();
    mem_free(d);
}

// A view has the same values in another order, or the second third of them.
static void compare_view(const tensor_file *st, const tensor_entry *t, tensor_view view, const float *f) {
    tensor_entry v = view_load(t, view);
    uint64_t O = (uint64_t)t->shape[0], first = v.count < t->count ? v.count : 0;
    float *g = mem_calloc(v.count + 1, sizeof *g);
    bool read = g && !tensor_file_read_f32(st, &v, 0, v.count, g, &(error){0});
    need(read);
    for (uint64_t i = 0; read && i < v.count; i++)
        if (!same(g[i], f[v.strided ? i % O * (t->count / O) + i / O : first + i])) abort();
    mem_free(g);
}

static void read_all(const tensor_file *st) {
    for (size_t i = 0; i < tensor_file_count(st); i++) {
        const tensor_entry *t = tensor_file_at(st, i);
        char shape[24]; // too short for most
        error err;
        float *f = mem_alloc(t->bytes * 8 + 4); // at most 8 floats from a byte of any type
        if (tensor_file_find(st, t->name) != t) abort();
        tensor_shape_text(t->shape, t->ndim, shape, sizeof shape);
        status s = f ? tensor_file_read_f32(st, t, 0, t->count, f, &err) : OK;
        if (f && !s) compare_doubles(st, t, f);
        if (f && !s) compare_view(st, t, VIEW_TRANSPOSED, f);
        if (f && !s) compare_view(st, t, VIEW_FIRST_THIRD + 1, f);
        if ((t->codes || t->scale) && s == ERR_DATA) // scales that are not finite, or more than one
            ;
        else if (t->type >= 0)
            need(!s);
        else if (f && s != ERR_DATA)
            abort();
        if (f && t->type >= 0 &&
            (!tensor_file_read(st, t, elements(t), 1, f, &err) ||
             !tensor_file_read(st, t, elements(t) + 1, 0, f, &err)))
            abort();
        mem_free(f);
    }
    if (tensor_file_find(st, "no such tensor") || tensor_file_metadata(st, "no such key")) abort();
    for (size_t i = 0; i < tensor_file_metadata_count(st); i++) {
        metadata_pair p = tensor_file_metadata_at(st, i);
        if (tensor_file_metadata(st, p.key) != p.value) abort();
    }
}

// ---- written again

typedef struct {
    const tensor_file *st;
    const tensor_entry *tensor;
} origin;

static status read_piece(void *user, uint64_t offset, void *dst, size_t bytes, error *err) {
    const origin *o = user;
    size_t size = dtype_size((dtype)o->tensor->type);
    return tensor_file_read(o->st, o->tensor, offset / size, bytes / size, dst, err);
}

// Every other tensor from memory. Returns how many: those of types that we know.
static size_t make_items(const tensor_file *st, safetensors_item *items, origin *origins) {
    size_t n = 0;
    for (size_t i = 0; i < tensor_file_count(st); i++) {
        const tensor_entry *t = tensor_file_at(st, i);
        void *values = i & 1 && t->type >= 0 ? mem_alloc(t->bytes + 1) : NULL;
        if (values && tensor_file_read(st, t, 0, elements(t), values, NULL)) need(false);
        if (t->type < 0) continue;
        origins[n] = (origin){st, t};
        items[n] = (safetensors_item){t->name, (dtype)t->type, t->ndim, {0}, values, read_piece, &origins[n]};
        memcpy(items[n].shape, t->shape, sizeof t->shape);
        if (t->codes) quantised_stored_shape(t->codes->format, t->ndim, t->shape, items[n].shape);
        n++;
    }
    return n;
}

static void compare(const tensor_file *st, const origin *o, const tensor_file *again) {
    const tensor_entry *t = o->tensor, *u = tensor_file_find(again, t->name);
    if (!u || u->type != t->type || u->bytes != t->bytes || u->ndim != t->ndim ||
        memcmp(u->shape, t->shape, (size_t)t->ndim * sizeof *t->shape))
        abort();
    char *a = mem_alloc(t->bytes + 1), *b = mem_alloc(t->bytes + 1);
    if (a && b && !tensor_file_read(st, t, 0, elements(t), a, NULL) &&
        !tensor_file_read(again, u, 0, elements(u), b, NULL) && memcmp(a, b, t->bytes) && !fuzz_failed())
        abort();
    mem_free(a);
    mem_free(b);
}

static void write_again(const tensor_file *st) {
    size_t n = tensor_file_count(st), n_pairs = tensor_file_metadata_count(st);
    safetensors_item *items = calloc(n + 1, sizeof *items);
    origin *origins = calloc(n + 1, sizeof *origins);
    metadata_pair *pairs = calloc(n_pairs + 1, sizeof *pairs);
    tensor_file *again = NULL;
    if (items && origins && pairs) {
        n = make_items(st, items, origins);
        for (size_t i = 0; i < n_pairs; i++) pairs[i] = tensor_file_metadata_at(st, i);
        if (!safetensors_save(saved, items, n, pairs, n_pairs, true, NULL))
            again = tensor_file_open(saved, NULL);
        need(again && tensor_file_metadata_count(again) == n_pairs);
        for (size_t i = 0; i < n && again; i++) compare(st, &origins[i], again);
        for (size_t i = 0; i < n; i++) mem_free((void *)items[i].data);
    }
    tensor_file_close(again);
    free(items);
    free(origins);
    free(pairs);
}

void fuzz_input(const uint8_t *data, size_t n) {
    if (n > 1 && !memcmp(data, "PK", 2)) return; // torch's: fuzz_ckpt reads them
    error err = {0};
    const char *path = fuzz_file(data, n);
    tensor_file *st = tensor_file_open(path, &err);
    if (!st && (!err.code || !*err.text)) abort();
    if (st) read_all(st);
    if (st) write_again(st);
    if (st && strcmp(tensor_file_path(st), path)) abort();
    tensor_file_close(st);
}
