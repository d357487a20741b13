// Sums over dimensions, their adjoint, and softmax.
#include "core/graph/op.h"

#include <math.h>

static const char *check_small(node *n, shape big, shape small) {
    char a[128], b[128];
    if (shape_broadcasts(small, big)) return NULL;
    return op_error(n, "%s and %s", shape_text(small, a), shape_text(big, b));
}

// ---- reduce

static const char *reduce_infer(node *n) { return check_small(n, n->in[0]->shape, n->shape); }

static void reduce_grad(node *n, node *dy, node **dx) {
    dx[0] = broadcast(cast(dy, n->in[0]->dtype), n->in[0]->shape);
}

static void reduce_ref(const ref_call *c) {
    shape big = c->n->in[0]->shape, small = c->n->shape;
    for (int64_t i = 0, n = shape_count(small); i < n; i++) c->out[0][i] = 0;
    for (int64_t i = 0, n = shape_count(big); i < n; i++)
        c->out[0][shape_index(small, big, i)] += c->in[0][i];
}

const op OP_REDUCE = {.name = "reduce_sum",
                      .infer = reduce_infer,
                      .grad = reduce_grad,
                      .ref = reduce_ref,
                      .measure = MEASURE_ABSOLUTE};

node *reduce_sum(node *x, shape to, dtype t) {
    if (is_poison(x)) return x;
    if (shape_count(x->shape) == shape_count(to)) return cast(reshape(x, to), t);
    return NODE(OP_REDUCE, NO_ATTRS, to, t, x);
}

node *mean_all(node *x) {
    if (is_poison(x)) return x;
    return affine(reduce_sum(x, SHAPE(1), x->g->exact), 1.0 / (double)shape_count(x->shape), 0);
}

// ---- broadcast

static const char *broadcast_infer(node *n) {
    n->dtype = n->in[0]->dtype;
    return check_small(n, n->shape, n->in[0]->shape);
}

static void broadcast_grad(node *n, node *dy, node **dx) {
    dx[0] = reduce_sum(dy, n->in[0]->shape, n->dtype);
}

static void broadcast_ref(const ref_call *c) {
    shape big = c->n->shape, small = c->n->in[0]->shape;
    for (int64_t i = 0, n = shape_count(big); i < n; i++) c->out[0][i] = c->in[0][shape_index(small, big, i)];
}

const op OP_BROADCAST = {
    .name = "broadcast", .infer = broadcast_infer, .grad = broadcast_grad, .ref = broadcast_ref};

node *broadcast(node *x, shape to) {
    if (is_poison(x)) return x;
    if (shape_count(x->shape) == shape_count(to)) return reshape(x, to);
    return NODE(OP_BROADCAST, NO_ATTRS, to, x->dtype, x);
}

// ---- softmax and its logarithm, over the innermost dimension

static double log_sum_exp(const double *x, int64_t C) {
    double top = -INFINITY, sum = 0;
    for (int64_t i = 0; i < C; i++) top = x[i] > top ? x[i] : top;
    for (int64_t i = 0; i < C; i++) sum += exp(x[i] - top);
    return top + log(sum);
}

static void softmax_rows(const ref_call *c, bool logarithm) {
    int64_t R = shape_rows(c->n->shape), C = shape_last(c->n->shape);
    for (int64_t r = 0; r < R; r++) {
        const double *x = c->in[0] + r * C;
        double lse = log_sum_exp(x, C);
        for (int64_t i = 0; i < C; i++) c->out[0][r * C + i] = logarithm ? x[i] - lse : exp(x[i] - lse);
    }
}

static void softmax_ref(const ref_call *c) { softmax_rows(c, false); }
static void log_softmax_ref(const ref_call *c) { softmax_rows(c, true); }

// Both gradients read the result y: softmax y·(dy − Σ y·dy), logarithm dy − exp(y)·Σ dy.
static void softmax_grad(node *n, node *dy, node **dx) {
    dx[0] = NODE(OP_SOFTMAX_GRAD, NO_ATTRS, ANY_SHAPE, n->dtype, n, dy);
}

static void log_softmax_grad(node *n, node *dy, node **dx) {
    dx[0] = NODE(OP_LOG_SOFTMAX_GRAD, NO_ATTRS, ANY_SHAPE, n->dtype, n, dy);
}

static void softmax_grad_rows(const ref_call *c, bool logarithm) {
    int64_t R = shape_rows(c->n->shape), C = shape_last(c->n->shape);
    for (int64_t r = 0; r < R; r++) {
        const double *y = c->in[0] + r * C, *dy = c->in[1] + r * C;
        double *dx = c->out[0] + r * C, sum = 0;
        for (int64_t i = 0; i < C; i++) sum += logarithm ? dy[i] : y[i] * dy[i];
        for (int64_t i = 0; i < C; i++) dx[i] = logarithm ? dy[i] - exp(y[i]) * sum : y[i] * (dy[i] - sum);
    }
}

static void softmax_grad_ref(const ref_call *c) { softmax_grad_rows(c, false); }
static void log_softmax_grad_ref(const ref_call *c) { softmax_grad_rows(c, true); }

const op OP_SOFTMAX = {
    .name = "softmax", .infer = same_as_first, .grad = softmax_grad, .ref = softmax_ref, .inplace = 1};
const op OP_SOFTMAX_GRAD = {.name = "softmax_grad", .infer = same_as_first, .ref = softmax_grad_ref};
const op OP_LOG_SOFTMAX = {.name = "log_softmax",
                           .infer = same_as_first,
                           .grad = log_softmax_grad,
                           .ref = log_softmax_ref,
                           .inplace = 1};
const op OP_LOG_SOFTMAX_GRAD = {
    .name = "log_softmax_grad", .infer = same_as_first, .ref = log_softmax_grad_ref};

node *softmax(node *x) { return NODE(OP_SOFTMAX, NO_ATTRS, ANY_SHAPE, x->dtype, x); }
node *log_softmax(node *x) { return NODE(OP_LOG_SOFTMAX, NO_ATTRS, ANY_SHAPE, x->dtype, x); }
