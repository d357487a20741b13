// The kernels, compiled once for each instruction set; KERNELS is the name of the table.
#include "core/cpu/kernels.h"
#include "core/cpu/kernels_layout.h"
#include "core/cpu/vec_math.h"

#include <math.h>

// fn(dtype, job, begin, end) as a loop body of parallel_for, one copy for each activation type
#define TYPED(fn, job)                                                                                       \
    static void fn##_pass(void *arg, int64_t begin, int64_t end) {                                           \
        const job *j = arg;                                                                                  \
        if (j->t == DT_BF16)                                                                                 \
            fn(DT_BF16, j, begin, end);                                                                      \
        else                                                                                                 \
            fn(DT_F32, j, begin, end);                                                                       \
    }

#include "core/cpu/kernels_norm.h"
#include "core/cpu/kernels_pointwise.h"
#include "core/cpu/kernels_reduce.h"
#include "core/cpu/kernels_move.h"

extern const cpu_kernels KERNELS;
const cpu_kernels KERNELS = {
    .group_norm = group_norm,
    .group_normalise = group_normalise,
    .group_norm_grad = group_norm_grad,
    .layer_norm = layer_norm,
    .layer_norm_grad = layer_norm_grad,
    .softmax = softmax,
    .softmax_grad = softmax_grad,
    .log_softmax = log_softmax,
    .log_softmax_grad = log_softmax_grad,
    .geglu = geglu,
    .geglu_grad = geglu_grad,
    .unary = unary,
    .unary_grad = unary_grad,
    .binary = binary,
    .affine = affine,
    .prelu = prelu,
    .leaky_rows = leaky_rows,
    .clamp = clamp,
    .clamp_grad = clamp_grad,
    .cast = cast,
    .fill = fill,
    .reduce_sum = reduce_sum,
    .sum_squares = sum_squares,
    .copy_block = copy_block,
    .upsample_nearest = upsample_nearest,
    .sum_pool = sum_pool,
    .embedding = embedding,
    .embedding_grad = embedding_grad,
    .timestep_embedding = timestep_embedding,
    .adamw = adamw,
    .ema = ema,
};
