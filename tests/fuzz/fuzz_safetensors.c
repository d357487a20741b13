// libFuzzer: a safetensors file of any content. What opens must be readable to its last value, and comes back
// the same when it is written.
#include "core/base/mem.h"
#include "core/files/safetensors.h"
#include "tests/fuzz/fuzz.h"

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
        safetensors_save(saved, &good, 1, &(safetensors_pair){"key", "\xff"}, 1, true, NULL) != ERR_TEMP)
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

static void read_all(const safetensors *st) {
    for (size_t i = 0; i < safetensors_count(st); i++) {
        const safetensors_tensor *t = safetensors_at(st, i);
        char shape[24]; // too short for most
        error err;
        float *f = mem_alloc(t->bytes * 8 + 4); // at most 8 floats from a byte of any type
        if (safetensors_find(st, t->name) != t) abort();
        safetensors_shape_text(t->shape, t->ndim, shape, sizeof shape);
        status s = f ? safetensors_read_f32(st, t, 0, t->count, f, &err) : OK;
        if (t->type >= 0)
            need(!s);
        else if (f && s != ERR_DATA)
            abort();
        if (f && t->type >= 0 &&
            (!safetensors_read(st, t, t->count, 1, f, &err) ||
             !safetensors_read(st, t, t->count + 1, 0, f, &err)))
            abort();
        mem_free(f);
    }
    if (safetensors_find(st, "no such tensor") || safetensors_metadata(st, "no such key")) abort();
    for (size_t i = 0; i < safetensors_metadata_count(st); i++) {
        safetensors_pair p = safetensors_metadata_at(st, i);
        if (safetensors_metadata(st, p.key) != p.value) abort();
    }
}

// ---- written again

typedef struct {
    const safetensors *st;
    const safetensors_tensor *tensor;
} origin;

static status read_piece(void *user, uint64_t offset, void *dst, size_t bytes, error *err) {
    const origin *o = user;
    size_t size = dtype_size((dtype)o->tensor->type);
    return safetensors_read(o->st, o->tensor, offset / size, bytes / size, dst, err);
}

// Every other tensor from memory. Returns how many: those of types that we know.
static size_t make_items(const safetensors *st, safetensors_item *items, origin *origins) {
    size_t n = 0;
    for (size_t i = 0; i < safetensors_count(st); i++) {
        const safetensors_tensor *t = safetensors_at(st, i);
        void *values = i & 1 && t->type >= 0 ? mem_alloc(t->bytes + 1) : NULL;
        if (values && safetensors_read(st, t, 0, t->count, values, NULL)) need(false);
        if (t->type < 0) continue;
        origins[n] = (origin){st, t};
        items[n] = (safetensors_item){t->name, (dtype)t->type, t->ndim, {0}, values, read_piece, &origins[n]};
        memcpy(items[n++].shape, t->shape, sizeof t->shape);
    }
    return n;
}

static void compare(const safetensors *st, const origin *o, const safetensors *again) {
    const safetensors_tensor *t = o->tensor, *u = safetensors_find(again, t->name);
    if (!u || u->type != t->type || u->bytes != t->bytes || u->ndim != t->ndim ||
        memcmp(u->shape, t->shape, (size_t)t->ndim * sizeof *t->shape))
        abort();
    char *a = mem_alloc(t->bytes + 1), *b = mem_alloc(t->bytes + 1);
    if (a && b && !safetensors_read(st, t, 0, t->count, a, NULL) &&
        !safetensors_read(again, u, 0, u->count, b, NULL) && memcmp(a, b, t->bytes) && !fuzz_failed())
        abort();
    mem_free(a);
    mem_free(b);
}

static void write_again(const safetensors *st) {
    size_t n = safetensors_count(st), n_pairs = safetensors_metadata_count(st);
    safetensors_item *items = calloc(n + 1, sizeof *items);
    origin *origins = calloc(n + 1, sizeof *origins);
    safetensors_pair *pairs = calloc(n_pairs + 1, sizeof *pairs);
    safetensors *again = NULL;
    if (items && origins && pairs) {
        n = make_items(st, items, origins);
        for (size_t i = 0; i < n_pairs; i++) pairs[i] = safetensors_metadata_at(st, i);
        if (!safetensors_save(saved, items, n, pairs, n_pairs, true, NULL))
            again = safetensors_open(saved, NULL);
        need(again && safetensors_metadata_count(again) == n_pairs);
        for (size_t i = 0; i < n && again; i++) compare(st, &origins[i], again);
        for (size_t i = 0; i < n; i++) mem_free((void *)items[i].data);
    }
    safetensors_close(again);
    free(items);
    free(origins);
    free(pairs);
}

void fuzz_input(const uint8_t *data, size_t n) {
    error err = {0};
    const char *path = fuzz_file(data, n);
    safetensors *st = safetensors_open(path, &err);
    if (!st && (!err.code || !*err.text)) abort();
    if (st) read_all(st);
    if (st) write_again(st);
    if (st && strcmp(safetensors_path(st), path)) abort();
    safetensors_close(st);
}
