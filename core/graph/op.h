// An op is complete in one place: builder, shape rule, gradient rule, plain C reference, one row in
// ops/table.c.
#pragma once
#include "core/graph/graph.h"

struct team;

// The reference works on doubles whatever the types of the tensors are: it is read to understand the op,
// checked by finite differences in float64, and what every kernel is compared with.
typedef struct {
    const node *n;
    struct team *team;
    const double *in[MAX_IN]; // NULL for an optional input that is not there
    double *out[1 + MAX_EXTRA];
} ref_call;

// What the error of a kernel is measured against, where a result may be small by cancellation.
typedef enum {
    MEASURE_RESULT,   // the size of each result
    MEASURE_ABSOLUTE, // what the op gives on absolute inputs: the bound of a sum
    MEASURE_LARGEST   // the largest result: softmax over one key has dq = dk = 0, but dv is not
} error_measure;

struct op {
    const char *name;
    // Sets shape, dtype and extra outputs of n from its inputs; returns what is wrong, or NULL.
    const char *(*infer)(node *n);
    // Adds nodes for the gradient with respect to the inputs that need one; the others may stay NULL.
    // NULL: no gradient passes this op.
    void (*grad)(node *n, node *dy, node **dx);
    // NULL for leaves and views, which have no kernel.
    void (*ref)(const ref_call *c);
    double (*flops)(const node *n); // NULL: bytes are what it costs
    error_measure measure;
    size_t attrs_bytes; // of the member of `attrs` that it uses
    // Bit i: the result may overwrite input i, which has then the same shape and type.
    unsigned inplace;
};

// Makes a node: a poison input gives poison back, then the op's shape rule decides. `want` and `t` are what
// the builder asks for, where the op leaves a choice; a shape rule finds them in n->shape and n->dtype.
node *node_new(graph *g, const op *o, int n_in, node *const *in, attrs a, shape want, dtype t);
bool is_poison(const node *n);
// A message in the graph's arena, for infer.
const char *op_error(node *n, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
// A shape rule: the result is like the first input.
const char *same_as_first(node *n);

// node_new with the inputs in braces: NODE(OP_CONV, a, want, type, x, w, bias). The first input is never
// NULL.
#define NODE(O, A, WANT, TYPE, ...)                                                                          \
    node_new(((node *[]){__VA_ARGS__})[0]->g, &(O), (int)(sizeof((node *[]){__VA_ARGS__}) / sizeof(node *)), \
             (node *[]){__VA_ARGS__}, A, WANT, TYPE)
#define NO_ATTRS ((attrs){0})
#define ANY_SHAPE ((shape){0})

extern const op OP_POISON, OP_WEIGHT, OP_INPUT, OP_FILL, OP_PACK;
extern const op OP_VIEW, OP_SLICE, OP_PAD, OP_CONCAT;
extern const op OP_UNARY, OP_UNARY_GRAD, OP_BINARY, OP_AFFINE, OP_CLAMP, OP_CLAMP_GRAD, OP_CAST, OP_GEGLU,
    OP_GEGLU_GRAD, OP_PRELU;
extern const op OP_REDUCE, OP_BROADCAST, OP_SOFTMAX, OP_SOFTMAX_GRAD, OP_LOG_SOFTMAX, OP_LOG_SOFTMAX_GRAD;
extern const op OP_MATMUL, OP_CONV, OP_CONV_DX, OP_CONV_DW, OP_GROW;
extern const op OP_GROUP_NORM, OP_GROUP_NORM_GRAD, OP_GROUP_NORMALISE, OP_LAYER_NORM, OP_LAYER_NORM_GRAD;
extern const op OP_ATTENTION, OP_ATTENTION_GRAD;
extern const op OP_UPSAMPLE, OP_SUM_POOL, OP_EMBEDDING, OP_EMBEDDING_GRAD, OP_TIMESTEP;

// Every op that has a reference, ended by NULL: what the op driver walks.
extern const op *const OPS[];
