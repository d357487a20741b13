// The parametric rectifier (He et al., arXiv 1502.01852): y = x where x > 0, else slope·x, one slope for each
// channel. With constant slopes it is the leaky rectifier.
#include "core/graph/op.h"

#include <math.h>

static const char *prelu_infer(node *n) {
    const node *x = n->in[0], *slope = n->in[1];
    char at[128], bt[128];
    if (slope->shape.rank != 1 || slope->shape.d[0] != shape_last(x->shape) || slope->dtype != n->g->exact)
        return op_error(n, "slopes %s for %s", shape_text(slope->shape, at), shape_text(x->shape, bt));
    return same_as_first(n);
}

// dx = slope·dy + (1 − slope)·[x > 0]·dy, d(slope) = Σ min(x, 0)·dy
static void prelu_grad(node *n, node *dy, node **dx) {
    node *x = n->in[0], *slope = n->in[1];
    if (x->needs_grad) {
        node *above = NODE(OP_UNARY_GRAD, (attrs){.unary = UNARY_RELU}, ANY_SHAPE, n->dtype, x, dy);
        dx[0] = add(mul(dy, slope), mul(above, affine(slope, -1, 1)));
    }
    if (slope->needs_grad) dx[1] = reduce_sum(mul(dy, clamp(x, -INFINITY, 0)), slope->shape, slope->dtype);
}

static void prelu_ref(const ref_call *c) {
    int64_t C = shape_last(c->n->shape);
    for (int64_t i = 0, n = shape_count(c->n->shape); i < n; i++) {
        double x = c->in[0][i];
        c->out[0][i] = x > 0 ? x : c->in[1][i % C] * x;
    }
}

const op OP_PRELU = {
    .name = "prelu", .infer = prelu_infer, .grad = prelu_grad, .ref = prelu_ref, .inplace = 1};

node *prelu(node *x, node *slope) {
    if (is_poison(x) || is_poison(slope)) return is_poison(x) ? x : slope;
    return NODE(OP_PRELU, NO_ATTRS, ANY_SHAPE, x->dtype, x, slope);
}

node *leaky_relu(node *x, double slope) {
    if (is_poison(x)) return x;
    return prelu(x, graph_fill(x->g, SHAPE(shape_last(x->shape)), x->g->exact, slope));
}
