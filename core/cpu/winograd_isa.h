// Between the driver of Winograd's convolutions (winograd.c: work items and scratch) and its arithmetic
// (winograd_tmpl.c, once for each instruction set).
#pragma once
#include "core/cpu/winograd.h"

typedef struct {
    winograd_desc d;
    const void *x, *residual;
    const float *bias, *w; // w: plain, for pack
    void *y, *packed;
    int64_t rows, columns; // tiles of one picture
} winograd_args;

// Of the result.
static inline int64_t winograd_rows(const winograd_desc *d) {
    return (d->up ? 2 * d->H : d->H) + d->top + d->bottom - 2;
}
static inline int64_t winograd_columns(const winograd_desc *d) {
    return (d->up ? 2 * d->W : d->W) + d->left + d->right - 2;
}

typedef struct {
    const char *name[2]; // of whole and of lean weights
    int64_t m;           // a tile's results are m×m
    int64_t panel;       // output channels that are computed together; packed weights are in whole panels
    int64_t tiles;       // of a work item
    int64_t (*panel_bytes)(const winograd_desc *d); // packed weights of a panel
    int64_t (*lane_bytes)(const winograd_desc *d);  // one thread's scratch
    void (*pack)(const winograd_args *a, int64_t panel);
    // Tiles [t0, t1), counted over B, rows, columns; panels [p0, p1).
    void (*run)(const winograd_args *a, int64_t t0, int64_t t1, int64_t p0, int64_t p1, void *lane);
} winograd_kernels;

extern const winograd_kernels winograd_avx2, winograd_avx512, winograd_avx512bf16, winograd_avx512bf16_up;
