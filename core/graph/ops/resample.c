// Nearest-neighbour upsampling to any size and its adjoint.
#include "core/graph/op.h"

#include <math.h>

// The source of target index i when n values become m: torch computes floor(i·(n/m)) in float32, and so do
// we.
static int64_t source(int64_t i, int64_t n, int64_t m) {
    int64_t s = (int64_t)floorf((float)i * ((float)n / (float)m));
    return s < n - 1 ? s : n - 1;
}

static const char *infer(node *n) {
    const node *x = n->in[0];
    if (x->shape.rank != 4 || n->shape.d[1] < 1 || n->shape.d[2] < 1) return "an image [B,H,W,C] is expected";
    n->shape.d[0] = x->shape.d[0];
    n->shape.d[3] = x->shape.d[3];
    n->dtype = x->dtype;
    return NULL;
}

static void upsample_grad(node *n, node *dy, node **dx) {
    dx[0] = sum_pool(dy, n->in[0]->shape.d[1], n->in[0]->shape.d[2]);
}

static void sum_pool_grad(node *n, node *dy, node **dx) {
    dx[0] = upsample_nearest(dy, n->in[0]->shape.d[1], n->in[0]->shape.d[2]);
}

// Calls for every (small, large) pair of pixels: both directions walk the same pairs.
static void walk(shape small, shape large, const double *x, double *y, bool down) {
    int64_t C = large.d[3];
    for (int64_t b = 0; b < large.d[0]; b++)
        for (int64_t i = 0; i < large.d[1]; i++)
            for (int64_t j = 0; j < large.d[2]; j++) {
                int64_t si = source(i, small.d[1], large.d[1]), sj = source(j, small.d[2], large.d[2]);
                int64_t s = ((b * small.d[1] + si) * small.d[2] + sj) * C;
                int64_t l = ((b * large.d[1] + i) * large.d[2] + j) * C;
                for (int64_t c = 0; c < C; c++) {
                    if (down)
                        y[s + c] += x[l + c];
                    else
                        y[l + c] = x[s + c];
                }
            }
}

static void upsample_ref(const ref_call *c) {
    walk(c->n->in[0]->shape, c->n->shape, c->in[0], c->out[0], false);
}

static void sum_pool_ref(const ref_call *c) {
    for (int64_t i = 0, n = shape_count(c->n->shape); i < n; i++) c->out[0][i] = 0;
    walk(c->n->shape, c->n->in[0]->shape, c->in[0], c->out[0], true);
}

const op OP_UPSAMPLE = {
    .name = "upsample_nearest", .infer = infer, .grad = upsample_grad, .ref = upsample_ref};
const op OP_SUM_POOL = {.name = "sum_pool", .infer = infer, .grad = sum_pool_grad, .ref = sum_pool_ref};

node *upsample_nearest(node *x, int64_t H, int64_t W) {
    return NODE(OP_UPSAMPLE, NO_ATTRS, SHAPE(0, H, W, 0), x->dtype, x);
}

node *sum_pool(node *x, int64_t H, int64_t W) {
    return NODE(OP_SUM_POOL, NO_ATTRS, SHAPE(0, H, W, 0), x->dtype, x);
}
