// Own CPU kernels for everything that is neither a dense product nor attention: norms, activations,
// broadcasts, sums, moves, optimiser steps.
//
// One source (kernels_tmpl.c) is compiled for several instruction sets; cpu_kernels_for picks a table at run
// time. Common rules:
//
//  - Activations have type `t` (DT_F32 or DT_BF16), are dense and row-major; images are NHWC, so S = H·W rows
//    of C channels. Parameters, statistics and parameter gradients are f32. Arithmetic is f32; long sums are
//    merged in double.
//  - Results do not depend on the number of threads, and a sample's result not on the batch around it: sums
//    run over fixed chunks that are merged in order. They may differ in last bits from level to level.
//  - NaN in gives NaN out. Gradients are written, not accumulated.
//  - Elementwise kernels (unary, binary, affine, clamp, norms, softmax and their gradients) may write over an
//    operand of the result's shape and type, but group_norm_grad not over x; the others must not overlap.
//  - Sizes are the caller's duty (no negative size; products fit int64). Size 0 does nothing.
//  - `scratch` is 64-byte aligned memory; the matching *_scratch function tells its size in bytes.
#pragma once
#include "core/base/dtype.h"
#include "core/base/threads.h"
#include "core/cpu/level.h"
#include "core/graph/kinds.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// One AdamW step (Loshchilov and Hutter 2019, algorithm 2, as PyTorch orders it):
//   g ← grad_scale·g; p ← p·(1 − lr·wd); m ← b1·m + (1−b1)·g; v ← b2·v + (1−b2)·g²;
//   p ← p − lr/c1 · m / (√v/√c2 + eps), with the bias corrections c1 = 1 − b1^step, c2 = 1 − b2^step
typedef struct {
    float lr, b1, b2, eps, wd;
    float c1, c2;
    float grad_scale; // 1, or what clipping asks for
} adamw_step;

typedef struct {
    // y = (x − mean)·rstd·gamma + beta, then SiLU if `silu`; mean and rstd = 1/√(var + eps) over S and the
    // C/G channels of a group go to stats [B,G,2]. gamma, beta [C] may be NULL (1 and 0).
    void (*group_norm)(team *, dtype t, const void *x, const float *gamma, const float *beta, void *y,
                       float *stats, int64_t B, int64_t S, int64_t C, int64_t G, float eps, bool silu,
                       void *scratch);
    // The same by statistics that are given.
    void (*group_normalise)(team *, dtype t, const void *x, const float *gamma, const float *beta,
                            const float *stats, void *y, int64_t B, int64_t S, int64_t C, int64_t G,
                            bool silu, void *scratch);
    // dgamma, dbeta [C] are sums over B and S; each may be NULL.
    void (*group_norm_grad)(team *, dtype t, const void *x, const float *gamma, const float *beta,
                            const float *stats, const void *dy, void *dx, float *dgamma, float *dbeta,
                            int64_t B, int64_t S, int64_t C, int64_t G, bool silu, void *scratch);
    // The same over the C values of each of R rows; stats [R,2] may be NULL when no gradient is wanted.
    void (*layer_norm)(team *, dtype t, const void *x, const float *gamma, const float *beta, void *y,
                       float *stats, int64_t R, int64_t C, float eps);
    void (*layer_norm_grad)(team *, dtype t, const void *x, const float *gamma, const float *stats,
                            const void *dy, void *dx, float *dgamma, float *dbeta, int64_t R, int64_t C,
                            void *scratch);

    // Over the last dimension of [R,C]. The gradients start from the result y.
    void (*softmax)(team *, dtype t, const void *x, void *y, int64_t R, int64_t C);
    void (*softmax_grad)(team *, dtype t, const void *y, const void *dy, void *dx, int64_t R, int64_t C);
    void (*log_softmax)(team *, dtype t, const void *x, void *y, int64_t R, int64_t C);
    void (*log_softmax_grad)(team *, dtype t, const void *y, const void *dy, void *dx, int64_t R, int64_t C);

    // y [R,C] = a·gelu(b) with x [R,2C] = (a, b); the gradient dx is [R,2C].
    void (*geglu)(team *, dtype t, const void *x, void *y, int64_t R, int64_t C);
    void (*geglu_grad)(team *, dtype t, const void *x, const void *dy, void *dx, int64_t R, int64_t C);

    void (*unary)(team *, unary_kind, dtype t, const void *x, void *y, int64_t n);
    // y [R,C] = x where x > 0, else slope[c]·x
    void (*prelu)(team *, dtype t, const void *x, const float *slope, void *y, int64_t R, int64_t C);
    // The same with one slope, into rows of y that begin `apart` values from each other.
    void (*leaky_rows)(team *, dtype t, const void *x, float slope, void *y, int64_t apart, int64_t R,
                       int64_t C);
    // From the input x, not the result. At a kink: relu'(0) = abs'(0) = 0.
    void (*unary_grad)(team *, unary_kind, dtype t, const void *x, const void *dy, void *dx, int64_t n);
    // y = a ∘ b. a, y have `shape`; each dim of b is 1 or equal. b has its own type tb.
    void (*binary)(team *, binary_kind, dtype t, const void *a, dtype tb, const void *b,
                   const int64_t b_shape[4], void *y, const int64_t shape[4]);
    // y = scale·x + shift
    void (*affine)(team *, dtype t, const void *x, void *y, int64_t n, float scale, float shift);
    // y = min(max(x, low), high); dx = dy where low ≤ x ≤ high, else 0
    void (*clamp)(team *, dtype t, const void *x, void *y, int64_t n, float low, float high);
    void (*clamp_grad)(team *, dtype t, const void *x, const void *dy, void *dx, int64_t n, float low,
                       float high);
    void (*cast)(team *, dtype from, const void *x, dtype to, void *y, int64_t n);
    void (*fill)(team *, dtype t, void *y, int64_t n, float value);

    // Sums over the dims of `shape` whose bit is set in `reduced` (bit 0 = shape[0]): the adjoint of
    // broadcasting. y of type ty holds the kept dims in order.
    void (*reduce_sum)(team *, dtype t, const void *x, dtype ty, void *y, const int64_t shape[4],
                       unsigned reduced, void *scratch);
    double (*sum_squares)(team *, const float *x, int64_t n, void *scratch);

    // Copies `rows` runs of `row_bytes`; strides in bytes from run to run. src NULL writes zeros.
    void (*copy_block)(team *, const void *src, int64_t src_stride, void *dst, int64_t dst_stride,
                       int64_t rows, int64_t row_bytes);
    // x [B,H,W,C] → y [B,H2,W2,C]; the source index is PyTorch's, computed in f32 as PyTorch does for size=.
    void (*upsample_nearest)(team *, dtype t, const void *x, void *y, int64_t B, int64_t H, int64_t W,
                             int64_t C, int64_t H2, int64_t W2);
    // Its adjoint: dx [B,H,W,C] sums dy [B,H2,W2,C] over the targets of each source.
    void (*sum_pool)(team *, dtype t, const void *dy, void *dx, int64_t B, int64_t H, int64_t W, int64_t C,
                     int64_t H2, int64_t W2);

    // y [N,C] = table [V,C] at ids [N]; an id outside 0…V−1 gives zeros and no gradient.
    void (*embedding)(team *, dtype t_table, const void *table, const int32_t *ids, dtype t, void *y,
                      int64_t N, int64_t V, int64_t C);
    void (*embedding_grad)(team *, dtype t, const int32_t *ids, const void *dy, float *dtable, int64_t N,
                           int64_t V, int64_t C);
    // Sinusoids of `timesteps` [B] → y [B,D] as diffusers' get_timestep_embedding: frequency i of D/2 is
    // max_period^(−i/(D/2 − freq_shift)); sines first, cosines first with `flip`; an odd D ends in a zero.
    void (*timestep_embedding)(team *, const float *timesteps, float *y, int64_t B, int64_t D, bool flip,
                               float freq_shift, float max_period);

    void (*adamw)(team *, const adamw_step *, float *p, float *m, float *v, const float *g, int64_t n);
    void (*ema)(team *, float *e, const float *p, int64_t n, float decay); // e ← decay·e + (1 − decay)·p
} cpu_kernels;

// The table of cpu_level_within(limit).
const cpu_kernels *cpu_kernels_for(cpu_level limit);

size_t group_norm_scratch(int64_t B, int64_t S, int64_t C); // forward and gradient
size_t layer_norm_scratch(int64_t R, int64_t C);            // gradient only
size_t reduce_sum_scratch(const int64_t shape[4], unsigned reduced);
size_t sum_squares_scratch(int64_t n);

// The source row (column) of nearest upsampling from n to n2.
static inline int64_t nearest_index(int64_t i, int64_t n, int64_t n2) {
    int64_t s = (int64_t)((float)i * ((float)n / (float)n2)); // both steps round to f32
    return s < n ? s : n - 1;
}
