// Products with weights of 8 bits, in integers (VNNI): y (B,Ho,Wo,Co) = x (B,H,W,Ci) ⋆ W + bias [+ residual],
// all NHWC. A linear is a 1×1 convolution of a picture of one column.
//
// A row of W, what makes one output, is −127 … 127 times a scale. A pixel of x becomes 0 … 255 times a scale
// from its smallest value up (or from 0, if that is smaller), before the product: behind SiLU, which hardly
// falls below 0, that is half the error of −127 … 127. The sums of products of a tap are exact; they are
// scaled, and added up with bias and residual, in f32. So a pixel of y depends on the pixels of x under the
// kernel alone, whatever the batch and the number of threads. Rounding x costs 0.7 % of y where x is normal
// noise (bf16: 0.2 %).
#pragma once
#include "core/base/dtype.h"
#include "core/base/threads.h"

#include <stdbool.h>
#include <stddef.h>

typedef struct {
    dtype t; // F32 or BF16, of x, residual and y
    int64_t B, H, W, Ci, Co;
    int64_t kh, kw, stride;
    int64_t top, left, bottom, right; // padding; Ho = (H + top + bottom - kh) / stride + 1 > 0
} int8_desc;

// y (M,N) = x (M,K) · Wᵀ
static inline int8_desc int8_linear(dtype t, int64_t M, int64_t N, int64_t K) {
    return (int8_desc){.t = t, .B = 1, .H = M, .W = 1, .Ci = K, .Co = N, .kh = 1, .kw = 1, .stride = 1};
}

bool int8_runs(void);               // whether this CPU has the instructions
bool int8_fits(const int8_desc *d); // whether no sum can overflow
size_t int8_packed_bytes(const int8_desc *d);
size_t int8_scratch_bytes(const int8_desc *d, int threads);
// w: plain (Co,Ci,kh,kw). Scales are found anew, from the largest magnitude of each row.
void int8_pack(team *t, const int8_desc *d, const float *w, void *packed);
// bias and residual may be NULL; y may lie over the residual. Where the kernel is over a pixel of x with a
// value that is not finite, y is NaN.
void int8_run(team *t, const int8_desc *d, const void *x, const void *packed, const float *bias,
              const void *residual, void *y, void *scratch);
