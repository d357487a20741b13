// What the files of the CPU backend share: its kernels and how one is made.
#pragma once
#include "core/cpu/attention.h"
#include "core/cpu/dense.h"
#include "core/cpu/int8.h"
#include "core/cpu/kernels.h"
#include "core/cpu/winograd.h"
#include "core/graph/backend.h"
#include "core/graph/op.h"

// Whether Winograd's arithmetic is allowed; LEAN: with lean weights where whole ones are not small beside the
// picture.
typedef enum { WINOGRAD_NONE, WINOGRAD_LEAN, WINOGRAD_ALL } winograd_use;

typedef struct {
    backend b;
    const cpu_kernels *own;
    dense_engine *engine; // NULL in a build without oneDNN
    winograd_use winograd;
} cpu;

typedef struct cpu_kernel {
    kernel k;
    const node *n;
    const cpu_kernels *own;
    void (*run)(const struct cpu_kernel *k, const kernel_io *io);
    attention_desc attention;
    winograd_desc winograd;
    int8_desc int8;
    team *team; // packs
    dense *dense;
} cpu_kernel;

// `k` without `free`, which is the same for all. NULL when memory is short.
cpu_kernel *cpu_kernel_new(const cpu *c, const node *n, kernel k, error *err);
// Where the planner could not put y over x, x is copied there; x may be NULL.
void cpu_copy_whole(const cpu_kernel *k, const kernel_io *io, const void *x);

// Whether drawing has a faster kernel for n than oneDNN's (fast.c). *k: NULL when memory is short.
bool cpu_fast_kernel(const cpu *c, const node *n, bool weight_operand, kernel **k, error *err);
bool cpu_fast_upsamples(const backend *self, const node *n);

static inline bool float_type(dtype t) { return t == DT_F32 || t == DT_BF16; }

static inline conv_geometry geometry_of(const node *n) {
    return n->op == &OP_GROW ? (conv_geometry){1, 1, 1, 1, 1, 0} : n->a.conv.geo;
}
