// Views (no copy), and the copies that slice, pad and join.
#include "core/graph/op.h"

// ---- view

static shape part_shape(const node *x, int k) { return k ? x->extra[k - 1].shape : x->shape; }
static dtype part_dtype(const node *x, int k) { return k ? x->extra[k - 1].dtype : x->dtype; }

static const char *view_infer(node *n) {
    const node *x = n->in[0];
    int k = n->a.view.part;
    if (k < 0 || k > x->n_extra) return "no such extra output";
    if (n->a.view.offset + shape_count(n->shape) > shape_count(part_shape(x, k))) {
        char a[128], b[128];
        return op_error(n, "%s does not fit in %s", shape_text(n->shape, a), shape_text(part_shape(x, k), b));
    }
    n->dtype = part_dtype(x, k);
    return NULL;
}

// Only whole views of the result itself carry gradients; statistics and gradients are read, not
// differentiated.
static void view_grad(node *n, node *dy, node **dx) {
    if (n->a.view.part == 0) dx[0] = reshape(dy, n->in[0]->shape);
}

const op OP_VIEW = {
    .name = "view", .attrs_bytes = sizeof(((attrs *)0)->view), .infer = view_infer, .grad = view_grad};

node *reshape(node *x, shape s) {
    char a[128], b[128];
    if (is_poison(x) || shape_equal(x->shape, s)) return x;
    if (shape_count(x->shape) != shape_count(s))
        return poison(x->g, "cannot read %s as %s", shape_text(x->shape, a), shape_text(s, b));
    return NODE(OP_VIEW, NO_ATTRS, s, x->dtype, x);
}

node *part(node *x, int k) {
    if (is_poison(x)) return x;
    return NODE(OP_VIEW, (attrs){.view.part = k}, part_shape(x, k), part_dtype(x, k), x);
}

// ---- slice, pad, concat: [outer, axis, inner]

static int64_t outer_of(shape s, int axis) {
    int64_t n = 1;
    for (int i = 0; i < axis; i++) n *= s.d[i];
    return n;
}

static int64_t inner_of(shape s, int axis) {
    int64_t n = 1;
    for (int i = axis + 1; i < s.rank; i++) n *= s.d[i];
    return n;
}

// Copies `length` of `from` indices starting at `first` to place `at` among `to` indices, for every outer
// index.
static void copy_span(const double *x, double *y, int64_t outer, int64_t inner, int64_t from, int64_t first,
                      int64_t to, int64_t at, int64_t length) {
    for (int64_t o = 0; o < outer; o++)
        for (int64_t i = 0; i < length * inner; i++)
            y[(o * to + at) * inner + i] = x[(o * from + first) * inner + i];
}

static const char *slice_infer(node *n) {
    const node *x = n->in[0];
    int axis = n->a.span.axis;
    if (axis < 0 || axis >= x->shape.rank) return "no such axis";
    int64_t start = n->a.span.start, length = n->shape.d[axis];
    if (start < 0 || length < 1 || start + length > x->shape.d[axis])
        return op_error(n, "[%lld, %lld) of an axis of %lld", (long long)start, (long long)(start + length),
                        (long long)x->shape.d[axis]);
    n->dtype = x->dtype;
    return NULL;
}

static void slice_grad(node *n, node *dy, node **dx) {
    int axis = n->a.span.axis;
    int64_t start = n->a.span.start;
    dx[0] = pad(dy, axis, start, n->in[0]->shape.d[axis] - start - n->shape.d[axis]);
}

static void slice_ref(const ref_call *c) {
    const node *n = c->n;
    int axis = n->a.span.axis;
    copy_span(c->in[0], c->out[0], outer_of(n->shape, axis), inner_of(n->shape, axis),
              n->in[0]->shape.d[axis], n->a.span.start, n->shape.d[axis], 0, n->shape.d[axis]);
}

const op OP_SLICE = {.name = "slice",
                     .attrs_bytes = sizeof(((attrs *)0)->span),
                     .infer = slice_infer,
                     .grad = slice_grad,
                     .ref = slice_ref};

node *slice(node *x, int axis, int64_t start, int64_t length) {
    if (is_poison(x)) return x;
    shape s = x->shape;
    if (axis >= 0 && axis < s.rank) s.d[axis] = length;
    if (shape_equal(s, x->shape)) return x;
    return NODE(OP_SLICE, ((attrs){.span = {axis, start}}), s, x->dtype, x);
}

static const char *pad_infer(node *n) {
    n->dtype = n->in[0]->dtype;
    return NULL;
}

static void pad_grad(node *n, node *dy, node **dx) {
    int axis = n->a.span.axis;
    dx[0] = slice(dy, axis, n->a.span.start, n->in[0]->shape.d[axis]);
}

static void pad_ref(const ref_call *c) {
    const node *n = c->n;
    int axis = n->a.span.axis;
    int64_t length = n->in[0]->shape.d[axis];
    for (int64_t i = 0, count = shape_count(n->shape); i < count; i++) c->out[0][i] = 0;
    copy_span(c->in[0], c->out[0], outer_of(n->shape, axis), inner_of(n->shape, axis), length, 0,
              n->shape.d[axis], n->a.span.start, length);
}

const op OP_PAD = {.name = "pad",
                   .attrs_bytes = sizeof(((attrs *)0)->span),
                   .infer = pad_infer,
                   .grad = pad_grad,
                   .ref = pad_ref};

node *pad(node *x, int axis, int64_t before, int64_t after) {
    if (is_poison(x) || before + after == 0) return x;
    shape s = x->shape;
    if (axis < 0 || axis >= s.rank || before < 0 || after < 0)
        return poison(x->g, "pad: no such axis or a negative width");
    s.d[axis] += before + after;
    return NODE(OP_PAD, ((attrs){.span = {axis, before}}), s, x->dtype, x);
}

static const char *concat_infer(node *n) {
    const node *a = n->in[0], *b = n->in[1];
    int axis = n->a.span.axis;
    char at[128], bt[128];
    if (axis < 0 || axis >= a->shape.rank) return "no such axis";
    shape s = a->shape;
    s.d[axis] = b->shape.rank == s.rank ? b->shape.d[axis] : -1;
    if (!shape_equal(s, b->shape) || a->dtype != b->dtype)
        return op_error(n, "%s %s and %s %s do not join", dtype_name(a->dtype), shape_text(a->shape, at),
                        dtype_name(b->dtype), shape_text(b->shape, bt));
    s.d[axis] += a->shape.d[axis];
    n->shape = s;
    n->dtype = a->dtype;
    return NULL;
}

static void concat_grad(node *n, node *dy, node **dx) {
    int axis = n->a.span.axis;
    int64_t na = n->in[0]->shape.d[axis];
    if (n->in[0]->needs_grad) dx[0] = slice(dy, axis, 0, na);
    if (n->in[1]->needs_grad) dx[1] = slice(dy, axis, na, n->in[1]->shape.d[axis]);
}

static void concat_ref(const ref_call *c) {
    const node *n = c->n;
    int axis = n->a.span.axis;
    int64_t outer = outer_of(n->shape, axis), inner = inner_of(n->shape, axis), total = n->shape.d[axis];
    int64_t na = n->in[0]->shape.d[axis], nb = n->in[1]->shape.d[axis];
    copy_span(c->in[0], c->out[0], outer, inner, na, 0, total, 0, na);
    copy_span(c->in[1], c->out[0], outer, inner, nb, 0, total, na, nb);
}

const op OP_CONCAT = {.name = "concat",
                      .attrs_bytes = sizeof(((attrs *)0)->span),
                      .infer = concat_infer,
                      .grad = concat_grad,
                      .ref = concat_ref};

node *concat(node *a, node *b, int axis) {
    if (is_poison(a)) return a;
    return NODE(OP_CONCAT, ((attrs){.span.axis = axis}), ANY_SHAPE, a->dtype, a, b);
}
