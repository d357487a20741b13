// 3×3 convolutions of stride 1 with fewer multiplications: Winograd's minimal filtering in the form of Lavin
// and Gray (arXiv 1509.09308). A tile of m×m results needs (m+2)² products a channel instead of 9m²:
//
//   F(2×2, 3×3)  16 instead of 36, in bf16: transforms in f32, operands rounded once, sums in f32. The error
//   is
//                1.5 to 1.9 times that of direct bf16; the weights are 16/9 as large.
//   F(4×4, 3×3)  36 instead of 144, in f32: an error of 2e-6 to 9e-6 of the result; the weights are 4 times
//   as
//                large.
//
// A picture that is made twice as large first (nearest neighbour) is four convolutions of the small one with
// 2×2 sums of the weights, one for each result of a pixel, and those have an F(2×2, 2×2): 36 products instead
// of 144 for a tile of 4×4, in bf16. The error is that of F(2×2, 3×3), the weights are 4 times as large, and
// it is 1.4 to 1.7 times as fast.
//
// Lean weights are packed as nine taps, as large as the plain ones, and transformed again for every few dozen
// tiles, which costs a quarter of the speed. In bf16 they are rounded twice.
//
// y (B,Ho,Wo,Co) = x (B,H,W,Ci) ⋆ W + bias [+ residual], all NHWC. An image's result depends neither on the
// batch nor on the number of threads.
#pragma once
#include "core/base/dtype.h"
#include "core/base/threads.h"
#include "core/cpu/level.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    dtype t; // F32 or BF16, of x, residual and y; it decides between the two forms
    int64_t B, H, W, Ci, Co;
    int64_t top, left, bottom, right; // padding; Ho = H + top + bottom - 2 > 0
    bool up;                          // x is read as if each pixel were 2×2; the padding is 1 all around
    bool lean;       // packed weights are as large as plain ones, and transformed in every run
    cpu_level limit; // of the instruction set
    // Elements from pixel to pixel of x and of y, where they are the first of more channels; 0: Ci, Co.
    int64_t x_apart, y_apart;
    bool leaky; // results below 0 are multiplied by `slope`
    float slope;
} winograd_desc;

// Whether this CPU has the instructions: AVX2 for F32, AVX-512 with BF16 for BF16.
bool winograd_runs(const winograd_desc *d);

const char *
winograd_name(const winograd_desc *d); // "winograd F(2x2) avx512_bf16": equal names, equal packing
size_t winograd_packed_bytes(const winograd_desc *d);
// 64-byte aligned memory for a call on a team of up to `threads`.
size_t winograd_scratch_bytes(const winograd_desc *d, int threads);

// w: f32 (Co,Ci,3,3).
void winograd_pack(team *t, const winograd_desc *d, const float *w, void *packed);
// bias (Co) f32 and residual (as y) may be NULL; residual may be y.
void winograd_run(team *t, const winograd_desc *d, const void *x, const void *packed, const float *bias,
                  const void *residual, void *y, void *scratch);
