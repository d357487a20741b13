// Two-dimensional convolution of NHWC images with torch-layout weights [O,I,kh,kw], and its two gradients.
//
//     y[b,oy,ox,o] = bias[o] + Σ x[b, oy·s + ky − top, ox·s + kx − left, i] · w[o,i,ky,kx]
#include "core/graph/op.h"

#include "core/base/threads.h"

typedef struct {
    int64_t B, H, W, I, OH, OW, O, kh, kw; // x [B,H,W,I], y [B,OH,OW,O]
    int64_t s, top, left, up;              // up: a pixel of x is up×up of the picture
} geometry;

static geometry geometry_of(shape x, shape y, int64_t kh, int64_t kw, conv_geometry g) {
    return (geometry){x.d[0], x.d[1], x.d[2],   x.d[3], y.d[1], y.d[2],     y.d[3],
                      kh,     kw,     g.stride, g.top,  g.left, 1 + g.twice};
}

static geometry of_node(const node *n) {
    conv_geometry g = n->a.conv.geo;
    if (n->op == &OP_CONV_DX) {
        shape w = n->in[1]->shape;
        return geometry_of(n->shape, n->in[0]->shape, w.d[2], w.d[3], g);
    }
    if (n->op == &OP_CONV_DW)
        return geometry_of(n->in[0]->shape, n->in[1]->shape, n->a.conv.H, n->a.conv.W, g);
    shape w = n->in[1]->shape;
    return geometry_of(n->in[0]->shape, n->shape, w.d[2], w.d[3], g);
}

static double conv_flops(const node *n) {
    geometry g = of_node(n);
    return 2.0 * (double)(g.B * g.OH * g.OW) * (double)(g.O * g.I * g.kh * g.kw);
}

// ---- forward

static const char *conv_infer(node *n) {
    shape x = n->in[0]->shape, w = n->in[1]->shape;
    conv_geometry g = n->a.conv.geo;
    char at[128], bt[128];
    if (x.rank != 4 || w.rank != 4 || x.d[3] != w.d[1])
        return op_error(n, "image %s, weight %s", shape_text(x, at), shape_text(w, bt));
    int64_t H = x.d[1] + g.top + g.bottom - w.d[2], W = x.d[2] + g.left + g.right - w.d[3];
    if (H < 0 || W < 0 || g.stride < 1) return op_error(n, "an image of %s is too small", shape_text(x, at));
    if (n->in[2] && shape_count(n->in[2]->shape) != w.d[0])
        return "the bias has another size than the result";
    n->shape = SHAPE(x.d[0], H / g.stride + 1, W / g.stride + 1, w.d[0]);
    n->dtype = n->in[0]->dtype;
    return NULL;
}

static void conv_grad(node *n, node *dy, node **dx) {
    node *x = n->in[0], *w = n->in[1], *bias = n->in[2];
    attrs a = n->a;
    if (x->needs_grad) dx[0] = NODE(OP_CONV_DX, a, x->shape, x->dtype, dy, w);
    a.conv.H = w->shape.d[2];
    a.conv.W = w->shape.d[3];
    if (w->needs_grad) dx[1] = NODE(OP_CONV_DW, a, w->shape, w->dtype, x, dy);
    if (bias && bias->needs_grad) dx[2] = reduce_sum(dy, bias->shape, bias->dtype);
}

typedef struct {
    const ref_call *c;
    geometry g;
} ref_job;

static void forward_rows(void *arg, int64_t begin, int64_t end) {
    const ref_job *j = arg;
    const geometry *g = &j->g;
    const double *x = j->c->in[0], *w = j->c->in[1], *bias = j->c->in[2], *residual = j->c->in[3];
    for (int64_t row = begin; row < end; row++)
        for (int64_t ox = 0; ox < g->OW; ox++)
            for (int64_t o = 0; o < g->O; o++) {
                int64_t b = row / g->OH, oy = row % g->OH, at = (row * g->OW + ox) * g->O + o;
                double sum = (bias ? bias[o] : 0) + (residual ? residual[at] : 0);
                for (int64_t k = 0; k < g->kh * g->kw; k++) {
                    int64_t y = oy * g->s + k / g->kw - g->top, xx = ox * g->s + k % g->kw - g->left;
                    if (y < 0 || y >= g->H * g->up || xx < 0 || xx >= g->W * g->up) continue;
                    const double *px = x + ((b * g->H + y / g->up) * g->W + xx / g->up) * g->I,
                                 *pw = w + o * g->I * g->kh * g->kw + k;
                    for (int64_t i = 0; i < g->I; i++) sum += px[i] * pw[i * g->kh * g->kw];
                }
                j->c->out[0][at] = sum;
            }
}

static void conv_ref(const ref_call *c) {
    ref_job j = {c, of_node(c->n)};
    parallel_for(c->team, j.g.B * j.g.OH, 1, forward_rows, &j);
}

const op OP_CONV = {.name = "conv2d",
                    .attrs_bytes = sizeof(((attrs *)0)->conv),
                    .infer = conv_infer,
                    .grad = conv_grad,
                    .ref = conv_ref,
                    .flops = conv_flops};

// in[3], a residual of the result's shape and type, is put there by folding only.
node *conv2d(node *x, node *w, node *bias, conv_geometry geo) {
    return NODE(OP_CONV, (attrs){.conv.geo = geo}, ANY_SHAPE, x->dtype, x, w, bias, NULL);
}

// ---- gradient of the image: every y that x touched, through the same weight

static void dx_rows(void *arg, int64_t begin, int64_t end) {
    const ref_job *j = arg;
    const geometry *g = &j->g;
    const double *dy = j->c->in[0], *w = j->c->in[1];
    for (int64_t row = begin; row < end; row++)
        for (int64_t x = 0; x < g->W; x++)
            for (int64_t i = 0; i < g->I; i++) {
                int64_t b = row / g->H, y = row % g->H;
                double sum = 0;
                for (int64_t k = 0; k < g->kh * g->kw; k++) {
                    int64_t oy = y + g->top - k / g->kw, ox = x + g->left - k % g->kw;
                    if (oy < 0 || ox < 0 || oy % g->s || ox % g->s || oy / g->s >= g->OH ||
                        ox / g->s >= g->OW)
                        continue;
                    const double *p = dy + ((b * g->OH + oy / g->s) * g->OW + ox / g->s) * g->O;
                    for (int64_t o = 0; o < g->O; o++) sum += p[o] * w[(o * g->I + i) * g->kh * g->kw + k];
                }
                j->c->out[0][(row * g->W + x) * g->I + i] = sum;
            }
}

static void conv_dx_ref(const ref_call *c) {
    ref_job j = {c, of_node(c->n)};
    parallel_for(c->team, j.g.B * j.g.H, 1, dx_rows, &j);
}

const op OP_CONV_DX = {
    .name = "conv2d_dx", .attrs_bytes = sizeof(((attrs *)0)->conv), .ref = conv_dx_ref, .flops = conv_flops};

// ---- gradient of the weight: for each tap, x shifted against dy

static void dw_rows(void *arg, int64_t begin, int64_t end) {
    const ref_job *j = arg;
    const geometry *g = &j->g;
    const double *x = j->c->in[0], *dy = j->c->in[1];
    for (int64_t at = begin; at < end; at++) {
        int64_t k = at % (g->kh * g->kw), i = at / (g->kh * g->kw) % g->I, o = at / (g->kh * g->kw) / g->I;
        double sum = 0;
        for (int64_t p = 0; p < g->B * g->OH * g->OW; p++) {
            int64_t ox = p % g->OW, oy = p / g->OW % g->OH, b = p / g->OW / g->OH;
            int64_t y = oy * g->s + k / g->kw - g->top, xx = ox * g->s + k % g->kw - g->left;
            if (y >= 0 && y < g->H && xx >= 0 && xx < g->W)
                sum += x[((b * g->H + y) * g->W + xx) * g->I + i] * dy[p * g->O + o];
        }
        j->c->out[0][at] = sum;
    }
}

static void conv_dw_ref(const ref_call *c) {
    ref_job j = {c, of_node(c->n)};
    parallel_for(c->team, shape_count(c->n->shape), 16, dw_rows, &j);
}

const op OP_CONV_DW = {
    .name = "conv2d_dw", .attrs_bytes = sizeof(((attrs *)0)->conv), .ref = conv_dw_ref, .flops = conv_flops};
