// Convolutions and matrix products of the CPU, over oneDNN (2.6 and 3.x). Plain pointers, no graph types.
//
// A `dense` is one operation on one shape, prepared once (code is generated then) and run many times. It is
// immutable: any thread may run it, several at once, each with its own scratch.
//
//   kind      x             w                   y
//   CONV      x (B,H,W,Ci)  packed W            y (B,Ho,Wo,Co) = scale · (x ⋆ W + bias) [+ y]
//   CONV_DX   dy            packed W            dx (B,H,W,Ci)  = scale · dy ⋆ᵀ W [+ y]
//   CONV_DW   x             dy (B,Ho,Wo,Co)     dW (Co,Ci,kh,kw), f32, plain; dbias (Co) with `bias`
//   MATMUL    a (batch,M,K) b, packed or plain  y (batch,M,N)  = scale · (a · b + bias) [+ y]
//
// Activations are NHWC, so a 1×1 convolution without stride is a MATMUL of B·H·W rows, and the weight
// gradient of a linear on (B, T, C) is best taken as a CONV_DW of a 1×1 kernel over a (B, 1, T, C) picture
// (dense.c).
//
// Determinism: CONV, stride-1 CONV_DX and packed MATMUL (a not transposed) give the same
// bytes for an image or a row whatever the batch and the number of threads. The sums of CONV_DW are split
// among the threads and depend on their number.
#pragma once
#include "core/base/dtype.h"
#include "core/base/status.h"
#include "core/base/threads.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum { DENSE_CONV, DENSE_CONV_DX, DENSE_CONV_DW, DENSE_MATMUL } dense_kind;

typedef struct {
    dense_kind kind;
    // F32 or BF16. Sums are always f32, and F32 operands are never rounded on the way in.
    dtype x_type, w_type, y_type;
    bool bias;       // f32 vector; of CONV and MATMUL an input, of CONV_DW a second result
    bool accumulate; // y holds a residual, which is added; not for CONV_DW, for CONV_DX with stride 1 only
    float scale;     // see the table; 0 means 1
    union {
        struct {
            // B, H, W, Ci, Co and the kernel are those of the forward convolution in all three kinds.
            int64_t B, H, W, Ci, Co, kh, kw, stride;
            int64_t pad_top, pad_left, pad_bottom, pad_right;
        } conv;
        struct {
            int64_t batch, M, N, K;
            bool a_transposed; // stored (K, M)
            bool b_transposed; // stored (N, K), as torch's linear weights are
            bool packed;       // b goes through dense_pack; batch must be 1
            // Strides in elements between rows as stored and between the matrices of a batch; 0 means dense.
            int64_t a_row, b_row, y_row, a_batch, b_batch, y_batch;
        } matmul;
    };
} dense_desc;

typedef struct {
    const void *x, *w;
    const float *bias;
    void *y;
    float *dbias;
    void *scratch; // dense_scratch_bytes, 64-byte aligned
} dense_args;

typedef struct dense_engine dense_engine; // one per context
typedef struct dense dense;

// Whether BF16 runs at full speed here. Follows ONEDNN_MAX_CPU_ISA.
bool dense_has_bf16(void);

// Of the oneDNN that is loaded: major, minor, patch.
void dense_version(int version[3]);

// `t` must outlive the engine; everything prepared with it runs on that many threads.
dense_engine *dense_engine_new(team *t, error *err);
void dense_engine_free(dense_engine *e); // after everything prepared with it

// ERR_DATA for a shape that makes no sense or is too large, ERR_TEMP when memory is short.
dense *dense_prepare(dense_engine *e, const dense_desc *desc, error *err);
void dense_free(dense *d);

size_t dense_scratch_bytes(const dense *d);
size_t dense_packed_bytes(const dense *d); // 0 if the kind has no packed weights
double dense_flops(const dense *d);        // of the direct method, a multiply-add counted as two
const char *dense_kernel(const dense *d);  // the library's name for the kernel

// Weights packed by one preparation fit all others of the same (tensor, key). Of MATMUL the key never depends
// on the rows; of CONV it does for a few widths (dense.c).
enum { DENSE_KEY_MAX = 200 };
const char *dense_layout_key(const dense *d);

// w: plain f32, OIHW of the forward convolution (CONV and CONV_DX) or b as the descriptor says, without gaps.
status dense_pack(const dense *d, const float *w, void *packed, error *err);

status dense_run(const dense *d, const dense_args *a, error *err);
