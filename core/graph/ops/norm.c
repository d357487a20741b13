// Group norm (with SiLU, since nearly every one is followed by it) and layer norm. Both keep (mean, 1/σ) for
// the gradient as an extra output.
#include "core/graph/op.h"

#include <math.h>

// One normalised set: `rows` rows of `width` values, `stride` apart. A layer norm is one row, a group norm
// the channels of one group at every pixel.
typedef struct {
    int64_t rows, width, stride;
} set;

static void statistics(const double *x, set s, double eps, double *stats) {
    double sum = 0, square = 0, n = (double)(s.rows * s.width);
    for (int64_t r = 0; r < s.rows; r++)
        for (int64_t i = 0; i < s.width; i++) sum += x[r * s.stride + i];
    double mean = sum / n;
    for (int64_t r = 0; r < s.rows; r++)
        for (int64_t i = 0; i < s.width; i++) square += pow(x[r * s.stride + i] - mean, 2);
    stats[0] = mean;
    stats[1] = 1 / sqrt(square / n + eps);
}

static double silu_slope(double z) {
    double s = 1 / (1 + exp(-z));
    return s + z * s * (1 - s);
}

static void normalise(const double *x, const double *gamma, const double *beta, const double *stats, set s,
                      norm_act act, double *y) {
    for (int64_t r = 0; r < s.rows; r++)
        for (int64_t i = 0; i < s.width; i++) {
            double z = (x[r * s.stride + i] - stats[0]) * stats[1] * gamma[i] + beta[i];
            y[r * s.stride + i] = act == ACT_SILU ? z / (1 + exp(-z)) : z;
        }
}

// x̂ = (x − μ)/σ, z = γx̂ + β, y = act(z). With dz = dy·act'(z) and means taken over the set:
//     dγ = Σ dz·x̂,  dβ = Σ dz,  dx = (γ·dz − mean(γ·dz) − x̂·mean(γ·dz·x̂)) / σ
static void normalise_grad(const double *x, const double *gamma, const double *beta, const double *stats,
                           const double *dy, set s, norm_act act, double *dx, double *dgamma, double *dbeta) {
    double m1 = 0, m2 = 0, n = (double)(s.rows * s.width);
    for (int64_t r = 0; r < s.rows; r++)
        for (int64_t i = 0; i < s.width; i++) {
            int64_t at = r * s.stride + i;
            double xh = (x[at] - stats[0]) * stats[1];
            double dz = dy[at] * (act == ACT_SILU ? silu_slope(xh * gamma[i] + beta[i]) : 1);
            dgamma[i] += dz * xh;
            dbeta[i] += dz;
            m1 += gamma[i] * dz / n;
            m2 += gamma[i] * dz * xh / n;
            dx[at] = gamma[i] * dz;
        }
    for (int64_t r = 0; r < s.rows; r++)
        for (int64_t i = 0; i < s.width; i++) {
            int64_t at = r * s.stride + i;
            dx[at] = (dx[at] - m1 - (x[at] - stats[0]) * stats[1] * m2) * stats[1];
        }
}

static const char *check(node *n) {
    const node *x = n->in[0], *gamma = n->in[1], *beta = n->in[2];
    int64_t C = shape_last(x->shape);
    if (shape_count(gamma->shape) != C || shape_count(beta->shape) != C)
        return op_error(n, "%lld channels, but scale and shift have %lld and %lld", (long long)C,
                        (long long)shape_count(gamma->shape), (long long)shape_count(beta->shape));
    n->shape = x->shape;
    n->dtype = x->dtype;
    return NULL;
}

// Results of both gradients: dx, dγ, dβ.
static const char *grad_infer(node *n) {
    same_as_first(n);
    n->n_extra = 2;
    for (int i = 0; i < 2; i++) {
        n->extra[i].shape = n->in[1]->shape;
        n->extra[i].dtype = n->in[1]->dtype;
    }
    return NULL;
}

static void norm_grad(node *n, const op *o, node *dy, node **dx) {
    node *d = NODE(*o, n->a, ANY_SHAPE, n->dtype, n->in[0], n->in[1], n->in[2], part(n, 1), dy);
    dx[0] = d;
    dx[1] = part(d, 1);
    dx[2] = part(d, 2);
}

static void clear(double *p, int64_t n) {
    for (int64_t i = 0; i < n; i++) p[i] = 0;
}

// ---- group norm: [B, S pixels, G groups of C/G]

static const char *group_norm_infer(node *n) {
    shape x = n->in[0]->shape;
    int G = n->a.norm.groups;
    if (G < 1 || x.rank < 2 || shape_last(x) % G)
        return op_error(n, "%lld channels in %d groups", (long long)shape_last(x), G);
    n->n_extra = 1;
    n->extra[0].shape = SHAPE(x.d[0], G, 2);
    n->extra[0].dtype = n->g->exact;
    return check(n);
}

static void group_norm_grad(node *n, node *dy, node **dx) { norm_grad(n, &OP_GROUP_NORM_GRAD, dy, dx); }

static void group_norm_ref(const ref_call *c) {
    shape x = c->n->shape;
    int64_t B = x.d[0], C = shape_last(x), G = c->n->a.norm.groups, S = shape_count(x) / B / C;
    set s = {S, C / G, C};
    for (int64_t b = 0; b < B; b++)
        for (int64_t g = 0; g < G; g++) {
            int64_t at = b * S * C + g * s.width;
            double *stats = c->out[1] + 2 * (b * G + g);
            statistics(c->in[0] + at, s, c->n->a.norm.eps, stats);
            normalise(c->in[0] + at, c->in[1] + g * s.width, c->in[2] + g * s.width, stats, s,
                      c->n->a.norm.act, c->out[0] + at);
        }
}

static void group_norm_grad_ref(const ref_call *c) {
    shape x = c->n->shape;
    int64_t B = x.d[0], C = shape_last(x), G = c->n->a.norm.groups, S = shape_count(x) / B / C;
    set s = {S, C / G, C};
    clear(c->out[1], C);
    clear(c->out[2], C);
    for (int64_t b = 0; b < B; b++)
        for (int64_t g = 0; g < G; g++) {
            int64_t at = b * S * C + g * s.width, first = g * s.width;
            normalise_grad(c->in[0] + at, c->in[1] + first, c->in[2] + first, c->in[3] + 2 * (b * G + g),
                           c->in[4] + at, s, c->n->a.norm.act, c->out[0] + at, c->out[1] + first,
                           c->out[2] + first);
        }
}

const op OP_GROUP_NORM = {.name = "group_norm",
                          .attrs_bytes = sizeof(((attrs *)0)->norm),
                          .infer = group_norm_infer,
                          .grad = group_norm_grad,
                          .ref = group_norm_ref};
const op OP_GROUP_NORM_GRAD = {.name = "group_norm_grad",
                               .attrs_bytes = sizeof(((attrs *)0)->norm),
                               .infer = grad_infer,
                               .ref = group_norm_grad_ref};

node *group_norm(node *x, node *gamma, node *beta, int groups, double eps, norm_act act) {
    return NODE(OP_GROUP_NORM, ((attrs){.norm = {eps, groups, act}}), ANY_SHAPE, x->dtype, x, gamma, beta);
}

// ---- group norm by statistics from elsewhere: of a picture of which x is a part

static const char *group_normalise_infer(node *n) {
    shape x = n->in[0]->shape;
    int G = n->a.norm.groups;
    if (G < 1 || x.rank < 2 || shape_last(x) % G)
        return op_error(n, "%lld channels in %d groups", (long long)shape_last(x), G);
    if (!shape_equal(n->in[3]->shape, SHAPE(x.d[0], G, 2)))
        return op_error(n, "statistics that are not [%lld,%d,2]", (long long)x.d[0], G);
    return check(n);
}

static void group_normalise_ref(const ref_call *c) {
    shape x = c->n->shape;
    int64_t B = x.d[0], C = shape_last(x), G = c->n->a.norm.groups, S = shape_count(x) / B / C;
    set s = {S, C / G, C};
    for (int64_t i = 0; i < B * G; i++) {
        int64_t at = i / G * S * C + i % G * s.width, first = i % G * s.width;
        normalise(c->in[0] + at, c->in[1] + first, c->in[2] + first, c->in[3] + 2 * i, s, c->n->a.norm.act,
                  c->out[0] + at);
    }
}

const op OP_GROUP_NORMALISE = {.name = "group_normalise",
                               .attrs_bytes = sizeof(((attrs *)0)->norm),
                               .infer = group_normalise_infer,
                               .ref = group_normalise_ref,
                               .inplace = 1};

node *group_normalise(node *x, node *gamma, node *beta, node *stats, int groups, norm_act act) {
    return NODE(OP_GROUP_NORMALISE, ((attrs){.norm = {0, groups, act}}), ANY_SHAPE, x->dtype, x, gamma, beta,
                stats);
}

// ---- layer norm: every row of C

static const char *layer_norm_infer(node *n) {
    n->n_extra = 1;
    n->extra[0].shape = SHAPE(shape_rows(n->in[0]->shape), 2);
    n->extra[0].dtype = n->g->exact;
    return check(n);
}

static void layer_norm_grad(node *n, node *dy, node **dx) { norm_grad(n, &OP_LAYER_NORM_GRAD, dy, dx); }

static void layer_norm_ref(const ref_call *c) {
    int64_t R = shape_rows(c->n->shape), C = shape_last(c->n->shape);
    set s = {1, C, C};
    for (int64_t r = 0; r < R; r++) {
        statistics(c->in[0] + r * C, s, c->n->a.norm.eps, c->out[1] + 2 * r);
        normalise(c->in[0] + r * C, c->in[1], c->in[2], c->out[1] + 2 * r, s, ACT_NONE, c->out[0] + r * C);
    }
}

static void layer_norm_grad_ref(const ref_call *c) {
    int64_t R = shape_rows(c->n->shape), C = shape_last(c->n->shape);
    set s = {1, C, C};
    clear(c->out[1], C);
    clear(c->out[2], C);
    for (int64_t r = 0; r < R; r++)
        normalise_grad(c->in[0] + r * C, c->in[1], c->in[2], c->in[3] + 2 * r, c->in[4] + r * C, s, ACT_NONE,
                       c->out[0] + r * C, c->out[1], c->out[2]);
}

const op OP_LAYER_NORM = {.name = "layer_norm",
                          .attrs_bytes = sizeof(((attrs *)0)->norm),
                          .infer = layer_norm_infer,
                          .grad = layer_norm_grad,
                          .ref = layer_norm_ref};
const op OP_LAYER_NORM_GRAD = {.name = "layer_norm_grad",
                               .attrs_bytes = sizeof(((attrs *)0)->norm),
                               .infer = grad_infer,
                               .ref = layer_norm_grad_ref};

node *layer_norm(node *x, node *gamma, node *beta, double eps) {
    return NODE(OP_LAYER_NORM, ((attrs){.norm = {eps, 1, ACT_NONE}}), ANY_SHAPE, x->dtype, x, gamma, beta);
}
