// One convolution of a dense block (Huang et al., arXiv 1608.06993): reads the first I channels of x and
// writes the O behind them, so that the block's concatenations are places in one buffer and nothing is
// copied.
//
//     y[.., I+o] = leaky(bias[o] + Σ x[oy + ky − 1, ox + kx − 1, i] · w[o,i,ky,kx]),   elsewhere y = x
#include "core/graph/op.h"

#include "core/base/threads.h"

typedef struct {
    int64_t B, H, W, P, I, O; // x [B,H,W,P], w [O,I,3,3]
} sizes;

static sizes sizes_of(const node *n) {
    shape x = n->in[0]->shape, w = n->in[1]->shape;
    return (sizes){x.d[0], x.d[1], x.d[2], x.d[3], w.d[1], w.d[0]};
}

static const char *grow_infer(node *n) {
    shape x = n->in[0]->shape, w = n->in[1]->shape;
    char at[128], bt[128];
    bool fits = x.rank == 4 && w.rank == 4 && w.d[2] == 3 && w.d[3] == 3 && w.d[0] + w.d[1] <= x.d[3];
    if (!fits || shape_count(n->in[2]->shape) != w.d[0])
        return op_error(n, "image %s, weight %s", shape_text(x, at), shape_text(w, bt));
    return same_as_first(n);
}

static double grow_flops(const node *n) {
    sizes s = sizes_of(n);
    return 18.0 * (double)(s.B * s.H * s.W) * (double)(s.I * s.O);
}

// What was written over has no gradient. The sign of a result is that of what went into the rectifier.
static void grow_grad(node *n, node *dy, node **dx) {
    node *w = n->in[1], *bias = n->in[2];
    sizes s = sizes_of(n);
    int64_t end = s.I + s.O;
    double slope = n->a.grow.slope;
    attrs a = {.conv = {3, 3, {1, 1, 1, 1, 1}}};
    node *made = slice(n, 3, s.I, s.O), *dmade = slice(dy, 3, s.I, s.O);
    node *above = NODE(OP_UNARY_GRAD, (attrs){.unary = UNARY_RELU}, ANY_SHAPE, n->dtype, made, dmade);
    node *dz = add(affine(dmade, slope, 0), affine(above, 1 - slope, 0));
    if (n->in[0]->needs_grad) {
        node *dread = NODE(OP_CONV_DX, a, SHAPE(s.B, s.H, s.W, s.I), n->dtype, dz, w);
        dx[0] = pad(add(slice(dy, 3, 0, s.I), dread), 3, 0, s.P - s.I);
        if (end < s.P) dx[0] = add(dx[0], pad(slice(dy, 3, end, s.P - end), 3, end, 0));
    }
    if (w->needs_grad) dx[1] = NODE(OP_CONV_DW, a, w->shape, w->dtype, slice(n, 3, 0, s.I), dz);
    if (bias->needs_grad) dx[2] = reduce_sum(dz, bias->shape, bias->dtype);
}

typedef struct {
    const ref_call *c;
    sizes s;
} ref_job;

static double convolved(const ref_job *j, int64_t row, int64_t ox, int64_t o) {
    const sizes *s = &j->s;
    double sum = j->c->in[2][o];
    for (int64_t k = 0; k < 9; k++) {
        int64_t y = row % s->H + k / 3 - 1, x = ox + k % 3 - 1;
        if (y < 0 || y >= s->H || x < 0 || x >= s->W) continue;
        const double *px = j->c->in[0] + ((row / s->H * s->H + y) * s->W + x) * s->P,
                     *pw = j->c->in[1] + o * s->I * 9 + k;
        for (int64_t i = 0; i < s->I; i++) sum += px[i] * pw[i * 9];
    }
    return sum;
}

static void grow_rows(void *arg, int64_t begin, int64_t end) {
    const ref_job *j = arg;
    const sizes *s = &j->s;
    for (int64_t at = begin * s->W; at < end * s->W; at++)
        for (int64_t p = 0; p < s->P; p++) {
            bool kept = p < s->I || p >= s->I + s->O;
            double v = kept ? j->c->in[0][at * s->P + p] : convolved(j, at / s->W, at % s->W, p - s->I);
            j->c->out[0][at * s->P + p] = kept || v > 0 ? v : j->c->n->a.grow.slope * v;
        }
}

static void grow_ref(const ref_call *c) {
    ref_job j = {c, sizes_of(c->n)};
    parallel_for(c->team, j.s.B * j.s.H, 1, grow_rows, &j);
}

const op OP_GROW = {.name = "grow",
                    .attrs_bytes = sizeof(((attrs *)0)->grow),
                    .infer = grow_infer,
                    .grad = grow_grad,
                    .ref = grow_ref,
                    .flops = grow_flops};

node *grow(node *x, node *w, node *bias, double slope) {
    if (is_poison(x) || is_poison(w) || is_poison(bias)) return is_poison(x) ? x : is_poison(w) ? w : bias;
    return NODE(OP_GROW, (attrs){.grow.slope = slope}, ANY_SHAPE, x->dtype, x, w, bias);
}
