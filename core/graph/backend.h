// What a backend gives the planner: for each node a prepared kernel.
#pragma once
#include "core/graph/graph.h"

struct team;

typedef struct {
    const void *in[MAX_IN]; // NULL for an optional input that is not there
    void *out[1 + MAX_EXTRA];
    void *scratch;
    struct team *team;
} kernel_io;

// Everything that can be decided before running is decided when a kernel is prepared. Immutable afterwards.
typedef struct kernel {
    const char *name; // for people: "dnnl conv bf16"
    status (*run)(const struct kernel *k, const kernel_io *io, error *err);
    void (*free)(struct kernel *k);
    size_t scratch;   // bytes it needs while it runs
    unsigned inplace; // bit i: the result may overwrite input i
    // Operand 1 wanted in a packed form: 0 bytes for none. Equal keys and equal weights give equal bytes.
    size_t packed_bytes;
    uint64_t packed_key;
    status (*pack)(const struct kernel *k, const void *weight, void *packed, error *err);
} kernel;

typedef struct backend {
    const char *name;
    struct team *team;
    // weight_operand: n->in[1] is f32 and made of weights alone, so that packing it pays. The kernel may ask
    // for it packed.
    kernel *(*prepare)(const struct backend *self, const node *n, bool weight_operand, error *err);
    // Whether the convolution n is faster on the picture before its nearest-neighbour upsampling by two
    // (conv_geometry.twice). NULL: never.
    bool (*upsamples)(const struct backend *self, const node *n);
    void (*free)(struct backend *self);
} backend;

void kernel_free(kernel *k);

// Runs an op's reference: any op, any type, no library.
kernel *reference_kernel(const node *n, error *err);
// A backend of nothing but references.
backend *reference_backend(struct team *team);
void backend_free(backend *b);
