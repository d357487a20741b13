// Between the attention driver (attention.c: work items and scratch) and its arithmetic (attention_tmpl.c,
// once for each instruction set).
#pragma once
#include "core/cpu/attention.h"

typedef struct {
    attention_desc d;
    const void *q, *k, *v, *o, *dout;
    void *out, *dq, *dk, *dv;
    float *lse;
    const float *lse_in;
    float *packed;     // forward: keys and values of all heads, [B·heads][pack_bytes]
    float *dq_partial; // backward with several key chunks: [chunk][B·heads][Tq][D]
    int64_t chunks;
} attention_args;

// `head` counts B·heads. Byte counts are multiples of 64.
typedef struct {
    int64_t queries;                                        // in a work item of `forward`
    int64_t (*pack_bytes)(const attention_desc *d);         // one head
    int64_t (*forward_lane_bytes)(const attention_desc *d); // one thread
    int64_t (*backward_lane_bytes)(const attention_desc *d, int64_t chunk_keys);
    void (*pack)(const attention_args *a, int64_t head, int64_t k0, int64_t k1); // k0 even
    void (*forward)(const attention_args *a, int64_t head, int64_t q0, float *lane);
    void (*backward)(const attention_args *a, int64_t head, int64_t chunk, int64_t k0, int64_t k1,
                     float *lane);
} attention_kernels;

extern const attention_kernels attention_portable, attention_avx2, attention_avx512, attention_avx512bf16;
