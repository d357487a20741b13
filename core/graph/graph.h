// The graph: everything that computes is built once by plain function calls, differentiated when training,
// planned into one block of memory and run many times.
//
// Letters: B batch, H W height and width, C channels, T tokens, D head dimension, O I output and input
// features. Images are [B,H,W,C] and tokens [B,T,C], so that an image read as tokens is the same bytes.
//
// Builders never fail in the middle. A bad shape or a missing weight makes a *poison* node; whatever is built
// on it is that same node, and planning returns the first error with the path of the place it happened. So
// model code has no error handling, and every pointer a builder returns may be passed on.
#pragma once
#include "core/base/arena.h"
#include "core/base/dtype.h"
#include "core/base/status.h"
#include "core/graph/kinds.h"
#include "core/graph/shape.h"
#include "core/graph/weights.h"

typedef struct graph graph;
typedef struct node node;
typedef struct op op;
struct tap;

// How often a value changes. A node has the fastest rate of its inputs; slower values are computed once and
// kept.
typedef enum {
    RATE_MODEL,  // weights, adapter files: once per load
    RATE_PROMPT, // embeddings, control hints: once per prompt
    RATE_STEP    // latents, timestep, strengths: every run
} rate;

enum { MAX_IN = 8, MAX_EXTRA = 3 };

typedef enum { ACT_NONE, ACT_SILU } norm_act; // what a group norm applies to its result

typedef struct {
    int64_t stride;
    int64_t top, left, bottom, right; // zero padding
    int64_t twice; // 1: each pixel is read as 2×2 equal ones; only folding sets it (fold.c)
} conv_geometry;

// Attributes of a node, by op. What changes from step to step is an input, never one of these. The structs
// have no holes: their bytes are part of the key under which values are shared between plans.
typedef union {
    struct {
        const weight *w;
        const char *name; // input
        double value;     // fill
    } leaf;
    struct {
        int64_t part;   // 0 the result itself, k its k-th extra output
        int64_t offset; // elements
    } view;
    struct {
        int64_t axis, start; // slice: first index taken; pad: zeros before
    } span;
    unary_kind unary;
    binary_kind binary;
    struct {
        double scale, shift;
    } affine;
    struct {
        double low, high;
    } clamp;
    struct {
        double scale;
        int ta, tb; // operand is stored transposed
    } matmul;
    struct {
        int64_t H, W; // conv_dx: size of the result; conv_dw: kernel height and width
        conv_geometry geo;
    } conv;
    struct {
        double slope; // of what a convolution makes below 0
    } grow;
    struct {
        double eps;
        int groups;
        norm_act act;
    } norm;
    struct {
        double scale;
        int heads, causal;
    } attention;
    struct {
        double shift, max_period;
        int64_t flip_sin_to_cos;
    } timestep;
    struct {
        const void *layout; // the backend's description of a packed form, alive as long as the plan
        uint64_t key;       // equal keys, equal bytes
        size_t bytes;
    } pack;
} attrs;

struct node {
    const op *op;
    graph *g;
    int id; // creation order, which is a topological order
    int n_in;
    node *in[MAX_IN]; // optional inputs are NULL
    attrs a;
    shape shape;
    dtype dtype;
    rate rate;
    // Further outputs (statistics, the other gradients); read through `part`.
    int n_extra;
    struct {
        shape shape;
        dtype dtype;
    } extra[MAX_EXTRA];
    const char *path;
    int block;       // recomputation block, 0 for none
    bool needs_grad; // a trainable leaf is among its ancestors
};

struct graph {
    arena mem;
    dtype compute; // of activations: F32, BF16, or F64 for checking gradients
    dtype exact;   // of parameters, statistics, parameter gradients: F32, or F64 for checking gradients
    const weights *weights;
    const struct tap *const *taps; // offered every site, in this order
    int n_taps;
    node **nodes;
    int n_nodes, cap_nodes;
    char path[512]; // "down_blocks.0.resnets.1"
    int block, n_blocks;
    error err; // the first one
    node *poison;
    node poisoned; // what `poison` points to: it must be there when memory is short
};

// `compute` is DT_F32, DT_BF16 or DT_F64. Free with graph_free; nodes die with it.
void graph_init(graph *g, dtype compute);
void graph_free(graph *g);

// Path stack: names of weights, sites and messages are relative to it. push returns what pop needs.
int path_push(graph *g, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void path_pop(graph *g, int mark);

// Makes every later node poison with this message; returns the poison node.
node *poison(graph *g, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
// The same when memory is short.
node *poison_memory(graph *g);

// What is built between the two is not kept for the backward pass but computed again there.
void block_begin(graph *g);
void block_end(graph *g);

// ---- leaves

// The tensor `path.name` of g->weights, of this shape (missing 1x1 kernel dimensions are supplied).
node *graph_weight(graph *g, const char *name, shape s);
node *graph_leaf(const graph *g, const weight *w); // its node, NULL where the graph has none
// A named buffer that the caller fills.
node *graph_input(graph *g, const char *name, shape s, dtype t, rate r);
node *graph_fill(graph *g, shape s, dtype t, double value);

// ---- shapes

node *reshape(node *x, shape s); // no copy
node *part(node *x, int k);      // the k-th extra output, no copy
node *slice(node *x, int axis, int64_t start, int64_t length);
node *pad(node *x, int axis, int64_t before, int64_t after); // with zeros
node *concat(node *a, node *b, int axis);

// ---- elementwise

node *unary(node *x, unary_kind kind);
node *binary(node *a, node *b,
             binary_kind kind); // b is broadcast: each dimension 1 or a's, aligned at the innermost
node *add(node *a, node *b);
node *sub(node *a, node *b);
node *mul(node *a, node *b);
node *affine(node *x, double scale, double shift); // scale·x + shift
node *clamp(node *x, double low, double high);     // no gradient passes outside
node *cast(node *x, dtype t);
node *geglu(node *x);                    // [.., 2C] → [.., C]: first half · gelu(second half)
node *prelu(node *x, node *slope);       // x where it is positive, slope·x elsewhere; slope [C]
node *leaky_relu(node *x, double slope); // the same with one slope for all

// ---- reductions

node *reduce_sum(node *x, shape to,
                 dtype t); // sums over the dimensions that are 1 in `to`; adjoint of broadcast
node *broadcast(node *x, shape to);
node *mean_all(node *x); // a scalar [1] of g->exact
node *softmax(node *x);  // over the innermost dimension
node *log_softmax(node *x);

// ---- dense

// op(a)·op(b)·scale + bias, [.., M, K]·[.., K, N]. A two-dimensional b serves every row of a. Result in type
// t.
node *matmul(node *a, node *b, node *bias, bool ta, bool tb, double scale, dtype t);
// x [B,H,W,I], w [O,I,kh,kw], bias [O] or NULL → [B,H',W',O]
node *conv2d(node *x, node *w, node *bias, conv_geometry geo);
// x [B,H,W,P] with leaky_relu(conv2d(the first I channels of x)) in place of channels I to I+O; w [O,I,3,3]
node *grow(node *x, node *w, node *bias, double slope);

// ---- norms, attention, resampling, look-ups

node *group_norm(node *x, node *gamma, node *beta, int groups, double eps, norm_act act); // [B,..,C]
// The same by statistics [B,G,2] from elsewhere, mean and 1/σ of each group; without a gradient
node *group_normalise(node *x, node *gamma, node *beta, node *stats, int groups, norm_act act);
node *layer_norm(node *x, node *gamma, node *beta, double eps);
// q [B,Tq,h·D], k v [B,Tk,h·D] → [B,Tq,h·D]; softmax(scale·q·kᵀ)·v per head
node *attention(node *q, node *k, node *v, int heads, double scale, bool causal);
node *upsample_nearest(node *x, int64_t H, int64_t W); // [B,h,w,C] → [B,H,W,C]
node *sum_pool(node *x, int64_t H, int64_t W);         // its adjoint: sums what upsampling would copy
node *embedding(node *ids, node *table);               // ids I32 [..], table [V,C] → [..,C]
// t [B] → [B,dim]: sines and cosines as in DDPM; diffusers' get_timestep_embedding
node *timestep_embedding(node *t, int64_t dim, bool flip_sin_to_cos, double shift, double max_period);

// ---- layers: named weights, offered to the taps (adapters/adapter.h)

node *linear(node *x, const char *name, int64_t out, bool bias);
node *conv(node *x, const char *name, int64_t out, int kernel, conv_geometry geo, bool bias);
node *conv3x3(node *x, const char *name, int64_t out, int stride); // padding 1, with bias
node *norm_group(node *x, const char *name, int groups, double eps, norm_act act);
node *norm_layer(node *x, const char *name, double eps);

// ---- gradients

// d(loss)/d(wrt[i]) for a scalar loss, as further nodes; out[i] is NULL where the loss does not depend on
// wrt[i]. Every wrt is a leaf (weight or input).
void graph_grad(graph *g, node *loss, node *const *wrt, int n, node **out);
// Lets gradients flow to this leaf; graph_weight does it for trainable weights. Call before building on it.
void graph_require_grad(node *leaf);
