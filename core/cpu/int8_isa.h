// Between the driver of products in 8 bits (int8.c: work items and memory) and their arithmetic
// (int8_vnni.c, compiled for AVX-512 with VNNI).
#pragma once
#include "core/cpu/int8.h"

enum {
    INT8_PANEL = 64, // outputs that are computed together; packed weights are in whole panels
    INT8_ROWS = 96   // pixels of y that are computed together
};

// A pixel of x is low + scale · code.
typedef struct {
    float scale, low;
} int8_fact;

typedef struct {
    int8_desc d;
    const void *x, *residual;
    const float *bias, *w; // w: plain, for packing
    void *y, *packed;
    // Of each pixel of x and behind them one of zeros, which is the padding.
    uint8_t *codes; // int8_pixel_bytes apart
    int8_fact *facts;
} int8_args;

static inline int64_t int8_rows(const int8_desc *d) {
    return (d->H + d->top + d->bottom - d->kh) / d->stride + 1;
}
static inline int64_t int8_columns(const int8_desc *d) {
    return (d->W + d->left + d->right - d->kw) / d->stride + 1;
}
static inline int64_t int8_taps(const int8_desc *d) { return d->kh * d->kw; }
static inline int64_t int8_pixels(const int8_desc *d) { return d->B * d->H * d->W; }

int64_t int8_pixel_bytes(const int8_desc *d);
int64_t int8_tap_bytes(const int8_desc *d);   // codes of a panel's weights for one tap
int64_t int8_panel_bytes(const int8_desc *d); // all that is packed of a panel
int64_t int8_lane_bytes(const int8_desc *d);  // one thread's scratch
void int8_pack_panel(const int8_args *a, int64_t panel);
// Pixels [first, last) of x.
void int8_round(const int8_args *a, int64_t first, int64_t last);
// Pixels [first, first + n) of y, panels [p0, p1).
void int8_run_rows(const int8_args *a, int64_t first, int64_t n, int64_t p0, int64_t p1, void *lane);
