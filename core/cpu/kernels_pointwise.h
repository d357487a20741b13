// Part of kernels_tmpl.c: activations, arithmetic with broadcasting, softmax, optimiser steps.

// ---- Functions of one value -------------------------------------------------------------------------------

// The tanh form of GELU is x·sigmoid(2u) with u = √(2/π)·(x + 0.044715 x³), as (1 + tanh u)/2 = sigmoid(2u):
// nothing cancels. This gives the sigmoid and d(2u)/dx.
INLINE vf gelu_gate(vf x, vf *slope) {
    vf square = x * x;
    *slope = 1.59576912f + 0.214064453f * square;
    return vec_sigmoid(x * (1.59576912f + 0.0713548163f * square));
}

INLINE vf unary_value(unary_kind kind, vf x) {
    vf slope;
    switch (kind) {
    case UNARY_SILU:
        return vec_silu(x);
    case UNARY_GELU:
        return x * vec_normal(x, &slope);
    case UNARY_GELU_TANH:
        return x * gelu_gate(x, &slope);
    case UNARY_QUICK_GELU:
        return x * vec_sigmoid(1.702f * x);
    case UNARY_RELU:
        return sel(x < 0, splat(0), x);
    case UNARY_TANH:
        return vec_tanh(x);
    case UNARY_SIGMOID:
        return vec_sigmoid(x);
    case UNARY_EXP:
        return vec_exp(x);
    case UNARY_LOG:
        return vec_log(x);
    case UNARY_ABS:
        return vec_abs(x);
    case UNARY_SQUARE:
        return x * x;
    default:
        return vec_sqrt(x);
    }
}

INLINE vf unary_slope(unary_kind kind, vf x) {
    vf p, q;
    switch (kind) {
    case UNARY_SILU:
        return silu_slope(x);
    case UNARY_GELU:
        p = vec_normal(x, &q);
        return p + x * q;
    case UNARY_GELU_TANH:
        p = gelu_gate(x, &q);
        return p + x * p * (1 - p) * q;
    case UNARY_QUICK_GELU:
        p = vec_sigmoid(1.702f * x);
        return p * (1 + 1.702f * x * (1 - p));
    case UNARY_RELU:
        return sel(x <= 0, splat(0), sel(x > 0, splat(1), x));
    case UNARY_TANH:
        p = vec_tanh(x);
        return 1 - p * p;
    case UNARY_SIGMOID:
        p = vec_sigmoid(x);
        return p * (1 - p);
    case UNARY_EXP:
        return vec_exp(x);
    case UNARY_LOG:
        return 1 / x;
    case UNARY_ABS:
        return sel(x > 0, splat(1), sel(x < 0, splat(-1), x));
    case UNARY_SQUARE:
        return 2 * x;
    default:
        return 0.5f / vec_sqrt(x);
    }
}

typedef struct {
    dtype t, to;
    int kind;
    const void *x, *dy;
    void *y;
    float scale, shift, low, high;
} point_job;

INLINE void unary_span(dtype t, unary_kind kind, const point_job *j, int64_t begin, int64_t end) {
    LANE_LOOP(i, begin, end,
              { store_part(t, j->y, i, left, unary_value(kind, load_part(t, j->x, i, left))); });
}

INLINE void unary_grad_span(dtype t, unary_kind kind, const point_job *j, int64_t begin, int64_t end) {
    LANE_LOOP(i, begin, end, {
        vf x = load_part(t, j->x, i, left), dy = load_part(t, j->dy, i, left);
        store_part(t, j->y, i, left, dy * unary_slope(kind, x));
    });
}

// One loop for each kind, so that no loop decides anything.
#define EACH_KIND(span)                                                                                      \
    switch (j->kind) {                                                                                       \
        ONE_KIND(span, UNARY_SILU)                                                                           \
        ONE_KIND(span, UNARY_GELU)                                                                           \
        ONE_KIND(span, UNARY_GELU_TANH)                                                                      \
        ONE_KIND(span, UNARY_QUICK_GELU)                                                                     \
        ONE_KIND(span, UNARY_RELU)                                                                           \
        ONE_KIND(span, UNARY_TANH)                                                                           \
        ONE_KIND(span, UNARY_SIGMOID)                                                                        \
        ONE_KIND(span, UNARY_EXP)                                                                            \
        ONE_KIND(span, UNARY_LOG)                                                                            \
        ONE_KIND(span, UNARY_ABS)                                                                            \
        ONE_KIND(span, UNARY_SQUARE)                                                                         \
        ONE_KIND(span, UNARY_SQRT)                                                                           \
    }
#define ONE_KIND(span, kind)                                                                                 \
    case kind:                                                                                               \
        span(t, kind, j, i, end);                                                                            \
        break;

INLINE void unary_kinds(dtype t, const point_job *j, int64_t i, int64_t end){EACH_KIND(unary_span)} INLINE
    void unary_grad_kinds(dtype t, const point_job *j, int64_t i, int64_t end){
        EACH_KIND(unary_grad_span)} TYPED(unary_kinds, point_job) TYPED(unary_grad_kinds, point_job)

        static void unary(team *tm, unary_kind kind, dtype t, const void *x, void *y, int64_t n) {
    point_job j = {.t = t, .kind = (int)kind, .x = x, .y = y};
    parallel_for(tm, n, BLOCK, unary_kinds_pass, &j);
}

static void unary_grad(team *tm, unary_kind kind, dtype t, const void *x, const void *dy, void *dx,
                       int64_t n) {
    point_job j = {.t = t, .kind = (int)kind, .x = x, .dy = dy, .y = dx};
    parallel_for(tm, n, BLOCK, unary_grad_kinds_pass, &j);
}

INLINE void affine_span(dtype t, const point_job *j, int64_t begin, int64_t end) {
    vf scale = splat(j->scale), shift = splat(j->shift);
    LANE_LOOP(i, begin, end, { store_part(t, j->y, i, left, load_part(t, j->x, i, left) * scale + shift); });
}
TYPED(affine_span, point_job)

static void affine(team *tm, dtype t, const void *x, void *y, int64_t n, float scale, float shift) {
    point_job j = {.t = t, .x = x, .y = y, .scale = scale, .shift = shift};
    parallel_for(tm, n, BLOCK, affine_span_pass, &j);
}

INLINE void clamp_span(dtype t, const point_job *j, int64_t begin, int64_t end) {
    vf low = splat(j->low), high = splat(j->high);
    LANE_LOOP(i, begin, end, {
        vf x = load_part(t, j->x, i, left);
        store_part(t, j->y, i, left, sel(x < low, low, sel(x > high, high, x)));
    });
}
TYPED(clamp_span, point_job)

static void clamp(team *tm, dtype t, const void *x, void *y, int64_t n, float low, float high) {
    point_job j = {.t = t, .x = x, .y = y, .low = low, .high = high};
    parallel_for(tm, n, BLOCK, clamp_span_pass, &j);
}

INLINE void clamp_grad_span(dtype t, const point_job *j, int64_t begin, int64_t end) {
    vf low = splat(j->low), high = splat(j->high);
    LANE_LOOP(i, begin, end, {
        vf x = load_part(t, j->x, i, left), dy = load_part(t, j->dy, i, left);
        store_part(t, j->y, i, left, sel((x >= low) & (x <= high), dy, splat(0)));
    });
}
TYPED(clamp_grad_span, point_job)

static void clamp_grad(team *tm, dtype t, const void *x, const void *dy, void *dx, int64_t n, float low,
                       float high) {
    point_job j = {.t = t, .x = x, .dy = dy, .y = dx, .low = low, .high = high};
    parallel_for(tm, n, BLOCK, clamp_grad_span_pass, &j);
}

INLINE void cast_to(dtype t, dtype to, const point_job *j, int64_t begin, int64_t end) {
    LANE_LOOP(i, begin, end, { store_part(to, j->y, i, left, load_part(t, j->x, i, left)); });
}

INLINE void cast_span(dtype t, const point_job *j, int64_t i, int64_t end) {
    if (t == j->to)
        memcpy((char *)j->y + i * (int64_t)dtype_size(t), (const char *)j->x + i * (int64_t)dtype_size(t),
               (size_t)(end - i) * dtype_size(t));
    else
        cast_to(t, t == DT_F32 ? DT_BF16 : DT_F32, j, i, end);
}
TYPED(cast_span, point_job)

static void cast(team *tm, dtype from, const void *x, dtype to, void *y, int64_t n) {
    point_job j = {.t = from, .to = to, .x = x, .y = y};
    parallel_for(tm, n, BLOCK, cast_span_pass, &j);
}

INLINE void fill_span(dtype t, const point_job *j, int64_t begin, int64_t end) {
    LANE_LOOP(i, begin, end, { store_part(t, j->y, i, left, splat(j->scale)); });
}
TYPED(fill_span, point_job)

static void fill(team *tm, dtype t, void *y, int64_t n, float value) {
    point_job j = {.t = t, .y = y, .scale = value};
    parallel_for(tm, n, BLOCK, fill_span_pass, &j);
}

// ---- Arithmetic with broadcasting -------------------------------------------------------------------------

typedef struct {
    dtype t, tb;
    binary_kind kind;
    const void *a, *b;
    void *y;
    int64_t n[4], step[4]; // step: how far one index moves in b, 0 where b is broadcast
    int64_t blocks;        // a row (the last dim) is cut into this many
} binary_job;

INLINE vf binary_value(binary_kind kind, vf a, vf b) {
    switch (kind) {
    case BINARY_ADD:
        return a + b;
    case BINARY_SUB:
        return a - b;
    case BINARY_MUL:
        return a * b;
    default:
        return a / b;
    }
}

INLINE void binary_row(dtype t, dtype tb, binary_kind kind, const binary_job *j, int64_t at, int64_t b,
                       int64_t n) {
    if (j->step[3]) {
        LANE_LOOP(i, 0, n, {
            vf v = load_part(t, j->a, at + i, left), w = load_part(tb, j->b, b + i, left);
            store_part(t, j->y, at + i, left, binary_value(kind, v, w));
        });
    } else {
        vf w = splat(tb == DT_F32 ? ((const float *)j->b)[b] : bf16_to_f32(((const uint16_t *)j->b)[b]));
        LANE_LOOP(i, 0, n, {
            store_part(t, j->y, at + i, left, binary_value(kind, load_part(t, j->a, at + i, left), w));
        });
    }
}

// Units are (row, block) pairs; the row's index runs along like the digits of a number.
INLINE void binary_rows(dtype t, dtype tb, binary_kind kind, const binary_job *j, int64_t u, int64_t end) {
    int64_t row = u / j->blocks, block = u % j->blocks, len = j->n[3];
    int64_t i2 = row % j->n[2], i1 = row / j->n[2] % j->n[1], i0 = row / j->n[2] / j->n[1];
    for (; u < end; u++) {
        int64_t c = block * BLOCK, n = len - c < BLOCK ? len - c : BLOCK;
        int64_t b = i0 * j->step[0] + i1 * j->step[1] + i2 * j->step[2] + c * j->step[3];
        binary_row(t, tb, kind, j, row * len + c, b, n);
        if (++block < j->blocks) continue;
        block = 0;
        row++;
        if (++i2 < j->n[2]) continue;
        i2 = 0;
        if (++i1 < j->n[1]) continue;
        i1 = 0;
        i0++;
    }
}

INLINE void binary_kinds(dtype t, dtype tb, const binary_job *j, int64_t u, int64_t end) {
    switch (j->kind) {
    case BINARY_ADD:
        binary_rows(t, tb, BINARY_ADD, j, u, end);
        break;
    case BINARY_SUB:
        binary_rows(t, tb, BINARY_SUB, j, u, end);
        break;
    case BINARY_MUL:
        binary_rows(t, tb, BINARY_MUL, j, u, end);
        break;
    default:
        binary_rows(t, tb, BINARY_DIV, j, u, end);
    }
}

INLINE void binary_types(dtype t, const binary_job *j, int64_t u, int64_t end) {
    if (j->tb == DT_BF16)
        binary_kinds(t, DT_BF16, j, u, end);
    else
        binary_kinds(t, DT_F32, j, u, end);
}
TYPED(binary_types, binary_job)

// Joins neighbouring dims that b treats alike, so that rows get long: (B,H,W,C) with b = [C] becomes
// (1,1,BHW,C).
static void join_dims(binary_job *j, const int64_t shape[4], const int64_t b_shape[4]) {
    int k = 3;
    bool whole[4];
    for (int i = 0; i < 4; i++) j->n[i] = 1, whole[i] = true;
    for (int i = 3; i >= 0; i--) {
        if (shape[i] == 1) continue;
        bool w = b_shape[i] != 1;
        if (j->n[k] != 1 && whole[k] != w) k--;
        j->n[k] *= shape[i];
        whole[k] = w;
    }
    int64_t size = 1;
    for (int i = 3; i >= 0; i--) {
        j->step[i] = whole[i] ? size : 0;
        if (whole[i]) size *= j->n[i];
    }
}

static void binary(team *tm, binary_kind kind, dtype t, const void *a, dtype tb, const void *b,
                   const int64_t b_shape[4], void *y, const int64_t shape[4]) {
    binary_job j = {.t = t, .tb = tb, .kind = kind, .a = a, .b = b, .y = y};
    if (shape[0] * shape[1] * shape[2] * shape[3] == 0) return;
    join_dims(&j, shape, b_shape);
    j.blocks = (j.n[3] + BLOCK - 1) / BLOCK;
    parallel_for(tm, j.n[0] * j.n[1] * j.n[2] * j.blocks, 1 + BLOCK / (j.n[3] + 1), binary_types_pass, &j);
}

// ---- Rows: softmax and GEGLU ------------------------------------------------------------------------------

typedef struct {
    dtype t;
    const void *x, *dy; // dy of prelu: its slopes
    void *y;
    int64_t C;
    bool log;
} row_job;

// In f32 the exponentials wait in y for their sum; bf16 would round them, so there they are computed twice.
INLINE void softmax_row(dtype t, const row_job *j, int64_t at) {
    int64_t C = j->C;
    vf low = splat(-__builtin_inff()), top = low, sum = {0};
    LANE_LOOP(c, 0, C, { top = vec_max(load_pad(t, j->x, at + c, left, low), top); });
    top = splat(vec_top(top));
    LANE_LOOP(c, 0, C, {
        vf e = vec_exp(load_pad(t, j->x, at + c, left, low) - top);
        if (t == DT_F32) store_part(t, j->y, at + c, left, e);
        sum += e;
    });
    vf scale = 1 / splat(vec_sum(sum));
    LANE_LOOP(c, 0, C, {
        vf e =
            t == DT_F32 ? load_part(t, j->y, at + c, left) : vec_exp(load_part(t, j->x, at + c, left) - top);
        store_part(t, j->y, at + c, left, e * scale);
    });
}

INLINE void log_softmax_row(dtype t, const row_job *j, int64_t at) {
    int64_t C = j->C;
    vf low = splat(-__builtin_inff()), top = low, sum = {0};
    LANE_LOOP(c, 0, C, { top = vec_max(load_pad(t, j->x, at + c, left, low), top); });
    top = splat(vec_top(top));
    LANE_LOOP(c, 0, C, { sum += vec_exp(load_pad(t, j->x, at + c, left, low) - top); });
    vf log_total = vec_log(splat(vec_sum(sum)));
    LANE_LOOP(c, 0, C,
              { store_part(t, j->y, at + c, left, load_part(t, j->x, at + c, left) - top - log_total); });
}

INLINE void softmax_rows(dtype t, const row_job *j, int64_t r, int64_t end) {
    for (; r < end; r++)
        if (j->log)
            log_softmax_row(t, j, r * j->C);
        else
            softmax_row(t, j, r * j->C);
}

// softmax: dx = y·(dy − Σ y·dy); log softmax: dx = dy − exp(y)·Σ dy
INLINE void softmax_grad_rows(dtype t, const row_job *j, int64_t r, int64_t end) {
    int64_t C = j->C;
    for (; r < end; r++) {
        vf sum = {0};
        LANE_LOOP(c, 0, C, {
            vf dy = load_part(t, j->dy, r * C + c, left);
            sum += j->log ? dy : dy * load_part(t, j->x, r * C + c, left);
        });
        sum = splat(vec_sum(sum));
        LANE_LOOP(c, 0, C, {
            vf y = load_part(t, j->x, r * C + c, left), dy = load_part(t, j->dy, r * C + c, left);
            store_part(t, j->y, r * C + c, left, j->log ? dy - vec_exp(y) * sum : y * (dy - sum));
        });
    }
}

INLINE void geglu_rows(dtype t, const row_job *j, int64_t r, int64_t end) {
    int64_t C = j->C;
    for (; r < end; r++)
        LANE_LOOP(c, 0, C, {
            vf a = load_part(t, j->x, 2 * r * C + c, left), b = load_part(t, j->x, (2 * r + 1) * C + c, left);
            store_part(t, j->y, r * C + c, left, a * unary_value(UNARY_GELU, b));
        });
}

INLINE void geglu_grad_rows(dtype t, const row_job *j, int64_t r, int64_t end) {
    int64_t C = j->C;
    for (; r < end; r++)
        LANE_LOOP(c, 0, C, {
            int64_t ia = 2 * r * C + c, ib = ia + C;
            vf a = load_part(t, j->x, ia, left), b = load_part(t, j->x, ib, left);
            vf dy = load_part(t, j->dy, r * C + c, left), density, p = vec_normal(b, &density);
            store_part(t, j->y, ia, left, dy * (b * p));
            store_part(t, j->y, ib, left, dy * a * (p + b * density));
        });
}

INLINE void prelu_rows(dtype t, const row_job *j, int64_t r, int64_t end) {
    int64_t C = j->C;
    for (; r < end; r++)
        LANE_LOOP(c, 0, C, {
            vf x = load_part(t, j->x, r * C + c, left), slope = load_part(DT_F32, j->dy, c, left);
            store_part(t, j->y, r * C + c, left, sel(x > 0, x, slope * x));
        });
}
TYPED(prelu_rows, row_job)

typedef struct {
    dtype t;
    const void *x;
    void *y;
    float slope;
    int64_t C, apart;
} leaky_job;

INLINE void leaky_span(dtype t, const leaky_job *j, int64_t r, int64_t end) {
    vf slope = splat(j->slope);
    for (; r < end; r++)
        LANE_LOOP(c, 0, j->C, {
            vf x = load_part(t, j->x, r * j->C + c, left);
            store_part(t, j->y, r * j->apart + c, left, sel(x > 0, x, slope * x));
        });
}
TYPED(leaky_span, leaky_job)

static void leaky_rows(team *tm, dtype t, const void *x, float slope, void *y, int64_t apart, int64_t R,
                       int64_t C) {
    leaky_job j = {t, x, y, slope, C, apart};
    if (C > 0) parallel_for(tm, R, 1 + BLOCK / C, leaky_span_pass, &j);
}
TYPED(softmax_rows, row_job)
TYPED(softmax_grad_rows, row_job)
TYPED(geglu_rows, row_job)
TYPED(geglu_grad_rows, row_job)

static void row_loop(team *tm, void (*pass)(void *, int64_t, int64_t), row_job j, int64_t R) {
    if (j.C > 0) parallel_for(tm, R, 1 + BLOCK / j.C, pass, &j);
}

static void softmax(team *tm, dtype t, const void *x, void *y, int64_t R, int64_t C) {
    row_loop(tm, softmax_rows_pass, (row_job){t, x, NULL, y, C, false}, R);
}

static void softmax_grad(team *tm, dtype t, const void *y, const void *dy, void *dx, int64_t R, int64_t C) {
    row_loop(tm, softmax_grad_rows_pass, (row_job){t, y, dy, dx, C, false}, R);
}

static void log_softmax(team *tm, dtype t, const void *x, void *y, int64_t R, int64_t C) {
    row_loop(tm, softmax_rows_pass, (row_job){t, x, NULL, y, C, true}, R);
}

static void log_softmax_grad(team *tm, dtype t, const void *y, const void *dy, void *dx, int64_t R,
                             int64_t C) {
    row_loop(tm, softmax_grad_rows_pass, (row_job){t, y, dy, dx, C, true}, R);
}

static void geglu(team *tm, dtype t, const void *x, void *y, int64_t R, int64_t C) {
    row_loop(tm, geglu_rows_pass, (row_job){t, x, NULL, y, C, false}, R);
}

static void geglu_grad(team *tm, dtype t, const void *x, const void *dy, void *dx, int64_t R, int64_t C) {
    row_loop(tm, geglu_grad_rows_pass, (row_job){t, x, dy, dx, C, false}, R);
}

static void prelu(team *tm, dtype t, const void *x, const float *slope, void *y, int64_t R, int64_t C) {
    row_loop(tm, prelu_rows_pass, (row_job){t, x, slope, y, C, false}, R);
}

// ---- Optimiser --------------------------------------------------------------------------------------------

typedef struct {
    const adamw_step *s;
    float *p, *m, *v;
    const float *g;
    float decay;
} step_job;

static void adamw_pass(void *arg, int64_t begin, int64_t end) {
    const step_job *j = arg;
    const adamw_step s = *j->s;
    vf keep = splat(1 - s.lr * s.wd), rate = splat(s.lr / s.c1), root = splat(1 / sqrtf(s.c2)),
       eps = splat(s.eps);
    LANE_LOOP(i, begin, end, {
        vf g = load_part(DT_F32, j->g, i, left) * splat(s.grad_scale);
        vf m = load_part(DT_F32, j->m, i, left), v = load_part(DT_F32, j->v, i, left);
        m = s.b1 * m + (1 - s.b1) * g;
        v = s.b2 * v + (1 - s.b2) * (g * g);
        store_part(DT_F32, j->m, i, left, m);
        store_part(DT_F32, j->v, i, left, v);
        vf p = load_part(DT_F32, j->p, i, left) * keep - rate * m / (vec_sqrt(v) * root + eps);
        store_part(DT_F32, j->p, i, left, p);
    });
}

static void adamw(team *tm, const adamw_step *s, float *p, float *m, float *v, const float *g, int64_t n) {
    step_job j = {s, p, m, v, g, 0};
    parallel_for(tm, n, BLOCK, adamw_pass, &j);
}

static void ema_pass(void *arg, int64_t begin, int64_t end) {
    const step_job *j = arg;
    vf rate = splat(1 - j->decay);
    LANE_LOOP(i, begin, end, {
        vf e = load_part(DT_F32, j->m, i, left), p = load_part(DT_F32, j->g, i, left);
        store_part(DT_F32, j->m, i, left, e + rate * (p - e));
    });
}

static void ema(team *tm, float *e, const float *p, int64_t n, float decay) {
    step_job j = {.m = e, .g = p, .decay = decay};
    parallel_for(tm, n, BLOCK, ema_pass, &j);
}
