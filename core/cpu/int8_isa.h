// Between the driver of products in 8 bits (int8.c: work items and scratch) and their arithmetic
// (int8_vnni.c, compiled for AVX-512 with VNNI).
#pragma once
#include "core/cpu/int8.h"

enum {
    INT8_PANEL = 64, // columns that are computed together; packed weights are in whole panels
    INT8_ROWS = 96   // of x, rounded at a time: with K of 5120 half a megabyte
};

typedef struct {
    int8_desc d;
    const void *x, *residual;
    const float *bias, *w; // w: plain, for packing
    void *y, *packed;
} int8_args;

int64_t int8_row_bytes(const int8_desc *d);   // of a column of packed weights
int64_t int8_panel_bytes(const int8_desc *d); // its columns and their scales
void int8_pack_panel(const int8_args *a, int64_t panel);
// Rows [first, first + n), panels [p0, p1).
void int8_run_rows(const int8_args *a, int64_t first, int64_t n, int64_t p0, int64_t p1, void *lane);
