#include "core/files/tensor_view.h"

// Of a tensor whose elements lie one after another.
static void fill_strides(tensor_entry *t) {
    int64_t step = 1;
    for (int i = t->ndim - 1; i >= 0 && !t->strided; i--) {
        t->stride[i] = step;
        step *= t->shape[i]; // no overflow: their product is the count of a tensor that lies in a file
    }
    t->strided = true;
}

static void swap(int64_t *a, int64_t *b) {
    int64_t kept = *a;
    *a = *b;
    *b = kept;
}

static tensor_entry transposed(tensor_entry t) {
    if (t.ndim != 2) return t;
    fill_strides(&t);
    swap(&t.shape[0], &t.shape[1]);
    swap(&t.stride[0], &t.stride[1]);
    return t;
}

static tensor_entry third(tensor_entry t, int which) {
    if (t.type < 0 || t.ndim < 1 || t.shape[0] % 3) return t;
    t.shape[0] /= 3;
    t.count /= 3;
    t.bytes /= 3;
    uint64_t first = t.strided ? (uint64_t)(t.shape[0] * t.stride[0]) : t.count;
    t.offset += (uint64_t)which * first * dtype_size((dtype)t.type);
    t.first_code += (uint64_t)which * t.count;
    return t;
}

tensor_entry view_load(const tensor_entry *t, tensor_view v) {
    tensor_entry seen = *t;
    if (view_is_third(v)) return third(seen, v - VIEW_FIRST_THIRD);
    if (v == VIEW_TRANSPOSED) return transposed(seen);
    if (v == VIEW_CONVOLUTION && t->ndim == 4 && t->shape[2] == 1 && t->shape[3] == 1) seen.ndim = 2;
    return seen;
}

tensor_entry view_store(const tensor_entry *t, tensor_view v) {
    tensor_entry seen = *t;
    if (v == VIEW_TRANSPOSED) return transposed(seen);
    if (v != VIEW_CONVOLUTION || t->ndim != 2) return seen;
    seen.ndim = 4;
    seen.shape[2] = seen.shape[3] = 1;
    seen.stride[2] = seen.stride[3] = 1;
    return seen;
}
