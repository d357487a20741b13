// Fused attention on the CPU, o = softmax(scale · q kᵀ) v for each head, and its gradient. The score matrix
// (Tq × Tk) never exists: blocks of it live in the first-level cache.
//
// Letters: B batch, T tokens (Tq queries, Tk keys), D head dim. Any B, heads, Tq, Tk, D ≥ 1.
// Results are bit-equal for any number of threads and for a sample alone or in a batch.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/dtype.h"
#include "core/base/threads.h"
#include "core/cpu/level.h"

typedef struct {
    dtype t; // F32 or BF16, of q k v o and their gradients
    int64_t B, heads, Tq, Tk, D;
    float scale; // of the scores, usually 1/√D
    bool causal; // query i sees keys 0..i only
    // Elements from one token to the next. Head h is columns [h·D, (h+1)·D) of a token; a sample is T tokens.
    // A gradient has the stride of its tensor.
    int64_t ldq, ldk, ldv, ldo;
    cpu_level limit; // of the instruction set
} attention_desc;

// The instruction set that a limit leads to on this CPU: bf16 arithmetic only for BF16 tensors.
cpu_level attention_level(dtype t, cpu_level limit);

// Bytes of scratch (64-byte aligned) that a call on a team of up to `threads` needs.
size_t attention_scratch_bytes(const attention_desc *d, int threads, bool backward);

// q, o: [B][Tq][ldq, ldo]; k, v: [B][Tk][ldk, ldv].
// lse: [B][heads][Tq], natural logarithm of Σ exp(scaled score); NULL when no gradient will be asked for.
void attention_forward(team *threads, const attention_desc *d, const void *q, const void *k, const void *v,
                       void *o, float *lse, void *scratch);

// dout is the gradient of o; o and lse come from attention_forward. dq, dk, dv are overwritten.
void attention_backward(team *threads, const attention_desc *d, const void *q, const void *k, const void *v,
                        const void *o, const float *lse, const void *dout, void *dq, void *dk, void *dv,
                        void *scratch);
