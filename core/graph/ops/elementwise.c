// One value in, one value out.
#include "core/graph/op.h"

#include <math.h>

// ---- unary

static double sigmoid(double x) { return 1 / (1 + exp(-x)); }
static double normal_cdf(double x) { return 0.5 * erfc(-x * M_SQRT1_2); }
static const double TANH_C = 0.044715, SQRT_2_PI = 0.79788456080286535588;

static double unary_value(unary_kind k, double x) {
    switch (k) {
    case UNARY_SILU:
        return x * sigmoid(x);
    case UNARY_GELU:
        return x * normal_cdf(x);
    case UNARY_GELU_TANH:
        return 0.5 * x * (1 + tanh(SQRT_2_PI * (x + TANH_C * x * x * x)));
    case UNARY_QUICK_GELU:
        return x * sigmoid(1.702 * x);
    case UNARY_RELU:
        return x > 0 ? x : 0;
    case UNARY_TANH:
        return tanh(x);
    case UNARY_SIGMOID:
        return sigmoid(x);
    case UNARY_EXP:
        return exp(x);
    case UNARY_LOG:
        return log(x);
    case UNARY_ABS:
        return fabs(x);
    case UNARY_SQUARE:
        return x * x;
    case UNARY_SQRT:
        return sqrt(x);
    default:
        return NAN;
    }
}

static double swish_slope(double x, double b) { // d/dx of x·sigmoid(b·x)
    double s = sigmoid(b * x);
    return s + b * x * s * (1 - s);
}

static double unary_slope(unary_kind k, double x) {
    switch (k) {
    case UNARY_SILU:
        return swish_slope(x, 1);
    case UNARY_GELU:
        return normal_cdf(x) + x * exp(-0.5 * x * x) / sqrt(2 * M_PI);
    case UNARY_GELU_TANH: {
        double t = tanh(SQRT_2_PI * (x + TANH_C * x * x * x));
        return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * SQRT_2_PI * (1 + 3 * TANH_C * x * x);
    }
    case UNARY_QUICK_GELU:
        return swish_slope(x, 1.702);
    case UNARY_RELU:
        return x > 0;
    case UNARY_TANH:
        return 1 - tanh(x) * tanh(x);
    case UNARY_SIGMOID:
        return sigmoid(x) * (1 - sigmoid(x));
    case UNARY_EXP:
        return exp(x);
    case UNARY_LOG:
        return 1 / x;
    case UNARY_ABS:
        return (x > 0) - (x < 0);
    case UNARY_SQUARE:
        return 2 * x;
    case UNARY_SQRT:
        return 0.5 / sqrt(x);
    default:
        return NAN;
    }
}

static void unary_grad(node *n, node *dy, node **dx) {
    dx[0] = NODE(OP_UNARY_GRAD, n->a, ANY_SHAPE, n->dtype, n->in[0], dy);
}

static void unary_ref(const ref_call *c) {
    for (int64_t i = 0, n = shape_count(c->n->shape); i < n; i++)
        c->out[0][i] = unary_value(c->n->a.unary, c->in[0][i]);
}

static void unary_grad_ref(const ref_call *c) {
    for (int64_t i = 0, n = shape_count(c->n->shape); i < n; i++)
        c->out[0][i] = c->in[1][i] * unary_slope(c->n->a.unary, c->in[0][i]);
}

const op OP_UNARY = {.name = "unary",
                     .attrs_bytes = sizeof(((attrs *)0)->unary),
                     .infer = same_as_first,
                     .grad = unary_grad,
                     .ref = unary_ref,
                     .inplace = 1};
const op OP_UNARY_GRAD = {.name = "unary_grad",
                          .attrs_bytes = sizeof(((attrs *)0)->unary),
                          .infer = same_as_first,
                          .ref = unary_grad_ref,
                          .inplace = 3};

node *unary(node *x, unary_kind kind) {
    return NODE(OP_UNARY, (attrs){.unary = kind}, ANY_SHAPE, x->dtype, x);
}

// ---- binary

static const char *binary_infer(node *n) {
    const node *a = n->in[0], *b = n->in[1];
    char at[128], bt[128];
    if (a->dtype != b->dtype || !shape_broadcasts(b->shape, a->shape))
        return op_error(n, "%s %s cannot be broadcast to %s %s", dtype_name(b->dtype),
                        shape_text(b->shape, bt), dtype_name(a->dtype), shape_text(a->shape, at));
    return same_as_first(n);
}

static void binary_grad(node *n, node *dy, node **dx) {
    node *a = n->in[0], *b = n->in[1], *da = dy, *db = dy;
    switch (n->a.binary) {
    case BINARY_ADD:
        break;
    case BINARY_SUB:
        db = b->needs_grad ? affine(dy, -1, 0) : NULL;
        break;
    case BINARY_MUL:
        da = a->needs_grad ? mul(dy, b) : NULL;
        db = b->needs_grad ? mul(dy, a) : NULL;
        break;
    case BINARY_DIV: // y = a/b: dy/b, −dy·y/b
        da = binary(dy, b, BINARY_DIV);
        db = b->needs_grad ? affine(mul(da, n), -1, 0) : NULL;
        break;
    }
    dx[0] = da;
    if (b->needs_grad) dx[1] = reduce_sum(db, b->shape, b->dtype);
}

static double binary_value(binary_kind k, double a, double b) {
    switch (k) {
    case BINARY_ADD:
        return a + b;
    case BINARY_SUB:
        return a - b;
    case BINARY_MUL:
        return a * b;
    case BINARY_DIV:
        return a / b;
    }
    return NAN;
}

static void binary_ref(const ref_call *c) {
    const node *n = c->n;
    for (int64_t i = 0, count = shape_count(n->shape); i < count; i++)
        c->out[0][i] =
            binary_value(n->a.binary, c->in[0][i], c->in[1][shape_index(n->in[1]->shape, n->shape, i)]);
}

const op OP_BINARY = {.name = "binary",
                      .attrs_bytes = sizeof(((attrs *)0)->binary),
                      .infer = binary_infer,
                      .grad = binary_grad,
                      .ref = binary_ref,
                      .inplace = 1};

node *binary(node *a, node *b, binary_kind kind) {
    if (is_poison(a) || is_poison(b)) return is_poison(a) ? a : b;
    return NODE(OP_BINARY, (attrs){.binary = kind}, ANY_SHAPE, a->dtype, a, cast(b, a->dtype));
}

static node *commutative(node *a, node *b, binary_kind kind) {
    return shape_count(b->shape) > shape_count(a->shape) ? binary(b, a, kind) : binary(a, b, kind);
}

node *add(node *a, node *b) { return commutative(a, b, BINARY_ADD); }
node *sub(node *a, node *b) { return binary(a, b, BINARY_SUB); }
node *mul(node *a, node *b) { return commutative(a, b, BINARY_MUL); }

// ---- affine, clamp, cast

static void affine_grad(node *n, node *dy, node **dx) { dx[0] = affine(dy, n->a.affine.scale, 0); }

static void affine_ref(const ref_call *c) {
    for (int64_t i = 0, n = shape_count(c->n->shape); i < n; i++)
        c->out[0][i] = c->n->a.affine.scale * c->in[0][i] + c->n->a.affine.shift;
}

const op OP_AFFINE = {.name = "affine",
                      .attrs_bytes = sizeof(((attrs *)0)->affine),
                      .infer = same_as_first,
                      .grad = affine_grad,
                      .ref = affine_ref,
                      .inplace = 1};

node *affine(node *x, double scale, double shift) {
    if (scale == 1 && shift == 0) return x;
    return NODE(OP_AFFINE, ((attrs){.affine = {scale, shift}}), ANY_SHAPE, x->dtype, x);
}

static void clamp_grad(node *n, node *dy, node **dx) {
    dx[0] = NODE(OP_CLAMP_GRAD, n->a, ANY_SHAPE, n->dtype, n->in[0], dy);
}

static void clamp_ref(const ref_call *c) {
    double low = c->n->a.clamp.low, high = c->n->a.clamp.high;
    for (int64_t i = 0, n = shape_count(c->n->shape); i < n; i++) {
        double x = c->in[0][i];
        c->out[0][i] = x < low ? low : x > high ? high : x; // a NaN stays one
    }
}

static void clamp_grad_ref(const ref_call *c) {
    for (int64_t i = 0, n = shape_count(c->n->shape); i < n; i++) {
        double x = c->in[0][i];
        c->out[0][i] = x >= c->n->a.clamp.low && x <= c->n->a.clamp.high ? c->in[1][i] : 0;
    }
}

const op OP_CLAMP = {.name = "clamp",
                     .attrs_bytes = sizeof(((attrs *)0)->clamp),
                     .infer = same_as_first,
                     .grad = clamp_grad,
                     .ref = clamp_ref,
                     .inplace = 1};
const op OP_CLAMP_GRAD = {.name = "clamp_grad",
                          .attrs_bytes = sizeof(((attrs *)0)->clamp),
                          .infer = same_as_first,
                          .ref = clamp_grad_ref,
                          .inplace = 3};

node *clamp(node *x, double low, double high) {
    return NODE(OP_CLAMP, ((attrs){.clamp = {low, high}}), ANY_SHAPE, x->dtype, x);
}

static const char *cast_infer(node *n) {
    n->shape = n->in[0]->shape;
    return NULL;
}

static void cast_grad(node *n, node *dy, node **dx) { dx[0] = cast(dy, n->in[0]->dtype); }

static void cast_ref(const ref_call *c) {
    for (int64_t i = 0, n = shape_count(c->n->shape); i < n; i++) c->out[0][i] = c->in[0][i];
}

const op OP_CAST = {.name = "cast", .infer = cast_infer, .grad = cast_grad, .ref = cast_ref};

node *cast(node *x, dtype t) {
    if (is_poison(x) || x->dtype == t) return x;
    return NODE(OP_CAST, NO_ATTRS, ANY_SHAPE, t, x);
}

// ---- geglu

static const char *geglu_infer(node *n) {
    int64_t C = shape_last(n->in[0]->shape);
    if (C % 2) return op_error(n, "%lld channels cannot be halved", (long long)C);
    n->shape = shape_with_last(n->in[0]->shape, C / 2);
    n->dtype = n->in[0]->dtype;
    return NULL;
}

static void geglu_grad(node *n, node *dy, node **dx) {
    dx[0] = NODE(OP_GEGLU_GRAD, NO_ATTRS, ANY_SHAPE, n->dtype, n->in[0], dy);
}

static void geglu_ref(const ref_call *c) {
    int64_t R = shape_rows(c->n->shape), C = shape_last(c->n->shape);
    for (int64_t r = 0; r < R; r++)
        for (int64_t i = 0; i < C; i++) {
            const double *x = c->in[0] + 2 * C * r;
            c->out[0][C * r + i] = x[i] * unary_value(UNARY_GELU, x[C + i]);
        }
}

static void geglu_grad_ref(const ref_call *c) {
    int64_t R = shape_rows(c->n->shape), C = shape_last(c->n->shape) / 2;
    for (int64_t r = 0; r < R; r++)
        for (int64_t i = 0; i < C; i++) {
            const double *x = c->in[0] + 2 * C * r;
            double dy = c->in[1][C * r + i], *dx = c->out[0] + 2 * C * r;
            dx[i] = dy * unary_value(UNARY_GELU, x[C + i]);
            dx[C + i] = dy * x[i] * unary_slope(UNARY_GELU, x[C + i]);
        }
}

const op OP_GEGLU = {.name = "geglu", .infer = geglu_infer, .grad = geglu_grad, .ref = geglu_ref};
const op OP_GEGLU_GRAD = {.name = "geglu_grad", .infer = same_as_first, .ref = geglu_grad_ref};

node *geglu(node *x) { return NODE(OP_GEGLU, NO_ATTRS, ANY_SHAPE, x->dtype, x); }
