// Convolutions and matrix products against a plain loop in double.
#include "core/base/mem.h"
#include "core/cpu/dense.h"

#include <criterion/criterion.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#if CALO_ONEDNN

static _Thread_local team *crew; // of the engine in use

static dense_engine *engine(int threads) {
    error err = {0};
    crew = team_new(threads);
    dense_engine *e = dense_engine_new(crew, &err);
    cr_assert(e, "%s", err.text);
    return e;
}

static void engine_free(dense_engine *e) {
    dense_engine_free(e);
    team_free(crew);
}

// ---- Tensors ----------------------------------------------------------------------------------------------

typedef struct {
    dtype type;
    size_t n;
    void *data;    // as stored
    double *value; // the same numbers, read back after rounding to the type
} tensor;

static tensor tensor_new(dtype t, int64_t n) {
    tensor x = {t, (size_t)n, mem_calloc((size_t)n, dtype_size(t)), mem_calloc((size_t)n, sizeof(double))};
    cr_assert(x.data && x.value);
    return x;
}

static void read_back(tensor *x) { dtype_to_f64(x->type, x->data, x->value, x->n); }

// Uniform in [-1, 1), the same for the same seed.
static tensor noise(dtype t, int64_t n, unsigned seed) {
    tensor x = tensor_new(t, n);
    for (size_t i = 0; i < x.n; i++) {
        seed = seed * 1664525u + 1013904223u;
        x.value[i] = (int)seed / 2147483648.;
    }
    dtype_from_f64(t, x.value, x.data, x.n);
    read_back(&x);
    return x;
}

static void tensor_free(tensor *x) {
    mem_free(x->data);
    mem_free(x->value);
}

// ---- The reference ----------------------------------------------------------------------------------------

typedef __typeof__(((dense_desc *)0)->conv) conv_shape;

static int64_t out_h(const conv_shape *c) {
    return (c->H + c->pad_top + c->pad_bottom - c->kh) / c->stride + 1;
}
static int64_t out_w(const conv_shape *c) {
    return (c->W + c->pad_left + c->pad_right - c->kw) / c->stride + 1;
}

// Visits every product of the forward convolution: y[yi] belongs with x[xi] · w[wi].
static void each_product(const conv_shape *c, dense_kind kind, const double *a, const double *b,
                         double *sum) {
    for (int64_t n = 0; n < c->B; n++)
        for (int64_t i = 0; i < out_h(c); i++)
            for (int64_t j = 0; j < out_w(c); j++)
                for (int64_t p = 0; p < c->kh; p++)
                    for (int64_t q = 0; q < c->kw; q++) {
                        int64_t h = i * c->stride - c->pad_top + p, w = j * c->stride - c->pad_left + q;
                        if (h < 0 || h >= c->H || w < 0 || w >= c->W) continue;
                        int64_t x0 = ((n * c->H + h) * c->W + w) * c->Ci;
                        int64_t y0 = ((n * out_h(c) + i) * out_w(c) + j) * c->Co;
                        for (int64_t o = 0; o < c->Co; o++)
                            for (int64_t k = 0; k < c->Ci; k++) {
                                int64_t xi = x0 + k, yi = y0 + o,
                                        wi = ((o * c->Ci + k) * c->kh + p) * c->kw + q;
                                if (kind == DENSE_CONV) sum[yi] += a[xi] * b[wi];
                                if (kind == DENSE_CONV_DX) sum[xi] += a[yi] * b[wi];
                                if (kind == DENSE_CONV_DW) sum[wi] += a[xi] * b[yi];
                            }
                    }
}

// ---- One operation against the reference ------------------------------------------------------------------

// Elementwise: the result is rounded once (2⁻⁸ of the value for bf16, 2⁻²⁴ for f32), and the f32 sum of n
// terms has taken n rounding errors of at most 2⁻²⁵ of a partial sum. Those have random signs: √n of them,
// and six standard deviations for the largest of 10⁵ samples. Partial sums are of the size of the results:
// 2⁻²² √n.
static void check_close(const tensor *y, const double *want, int64_t terms, const char *what) {
    double square = 0, unit = y->type == DT_BF16 ? 0x1.01p-8 : 0x1.01p-24;
    for (size_t i = 0; i < y->n; i++) square += want[i] * want[i];
    double sums = 0x1p-22 * sqrt((double)terms + 3) * sqrt(square / (double)y->n);
    for (size_t i = 0; i < y->n; i++) {
        double limit = unit * fabs(want[i]) + sums;
        cr_assert(fabs(y->value[i] - want[i]) <= limit, "%s: [%zu] is %.9g, not %.9g (limit %.3g)", what, i,
                  y->value[i], want[i], limit);
    }
}

typedef struct {
    tensor x, w, y; // as in dense.h; w are plain f32 values where weights are packed
    double *before; // what y holds before
    float *bias, *dbias;
    void *packed, *scratch;
} operands;

static void operands_free(operands *o) {
    tensor *t[] = {&o->x, &o->w, &o->y};
    for (int i = 0; i < 3; i++) tensor_free(t[i]);
    void *p[] = {o->before, o->bias, o->dbias, o->packed, o->scratch};
    for (int i = 0; i < 5; i++) mem_free(p[i]);
}

enum { GUARD = 256 };

// Prepares, packs, runs; nothing past the scratch and the packed weights may be written.
static void run(dense_engine *e, const dense_desc *k, operands *o, bool packed, const char *what) {
    error err = {0};
    o->before = mem_alloc(o->y.n * sizeof *o->before);
    memcpy(o->before, o->y.value, o->y.n * sizeof *o->before);
    dense *d = dense_prepare(e, k, &err);
    cr_assert(d, "%s: %s", what, err.text);
    size_t packed_size = dense_packed_bytes(d), scratch_size = dense_scratch_bytes(d);
    cr_assert_eq(packed, packed_size > 0);
    o->packed = mem_alloc(packed_size + GUARD);
    o->scratch = mem_alloc(scratch_size + GUARD);
    memset((char *)o->packed + packed_size, 0x5a, GUARD);
    memset(o->scratch, 0x5a, scratch_size + GUARD);
    if (packed) cr_assert_eq(dense_pack(d, o->w.data, o->packed, &err), OK, "%s: %s", what, err.text);
    dense_args a = {.x = o->x.data,
                    .w = packed ? o->packed : o->w.data,
                    .bias = o->bias,
                    .y = o->y.data,
                    .dbias = o->dbias,
                    .scratch = o->scratch};
    cr_assert_eq(dense_run(d, &a, &err), OK, "%s: %s", what, err.text);
    for (int i = 0; i < GUARD; i++) {
        cr_assert_eq(((char *)o->packed)[packed_size + (size_t)i], 0x5a, "%s: past the packed weights", what);
        cr_assert_eq(((char *)o->scratch)[scratch_size + (size_t)i], 0x5a, "%s: past the scratch", what);
    }
    read_back(&o->y);
    dense_free(d);
}

static void check_conv(dense_engine *e, dense_desc k, unsigned seed) {
    const conv_shape *c = &k.conv;
    int64_t big = c->B * c->H * c->W * c->Ci, small = c->B * out_h(c) * out_w(c) * c->Co;
    int64_t taps = c->Co * c->Ci * c->kh * c->kw;
    bool dw = k.kind == DENSE_CONV_DW, dx = k.kind == DENSE_CONV_DX;
    char what[200];
    snprintf(what, sizeof what, "kind %d %s %dx%dx%dx%d -> %d, kernel %dx%d stride %d pad %d%d%d%d", k.kind,
             dtype_name(k.x_type), (int)c->B, (int)c->H, (int)c->W, (int)c->Ci, (int)c->Co, (int)c->kh,
             (int)c->kw, (int)c->stride, (int)c->pad_top, (int)c->pad_left, (int)c->pad_bottom,
             (int)c->pad_right);

    operands o = {.x = noise(k.x_type, dx ? small : big, seed),
                  .w = dw ? noise(k.w_type, small, seed + 1) : noise(DT_F32, taps, seed + 1),
                  .y = tensor_new(k.y_type, dw   ? taps
                                            : dx ? big
                                                 : small)};
    o.bias = mem_calloc((size_t)c->Co, sizeof *o.bias);
    o.dbias = mem_calloc((size_t)c->Co, sizeof *o.dbias);
    for (int i = 0; i < c->Co; i++) o.bias[i] = (float)(i % 5) - 2;
    run(e, &k, &o, !dw, what);

    double *want = mem_calloc(o.y.n, sizeof *want), *w = mem_calloc(o.w.n, sizeof *w);
    memcpy(w, o.w.value, o.w.n * sizeof *w);
    if (!dw && k.w_type == DT_BF16)
        for (size_t i = 0; i < o.w.n; i++) w[i] = bf16_to_f32(f32_to_bf16((float)w[i]));
    each_product(c, k.kind, o.x.value, w, want);
    for (size_t i = 0; i < o.y.n; i++) {
        if (k.bias && !dw) want[i] += o.bias[i % (size_t)c->Co];
        want[i] *= k.scale ? k.scale : 1;
        if (k.accumulate) want[i] += o.before[i];
    }
    int64_t terms = dw ? c->B * out_h(c) * out_w(c) : (dx ? c->Co : c->Ci) * c->kh * c->kw;
    check_close(&o.y, want, terms, what);
    for (int64_t i = 0; dw && k.bias && i < c->Co; i++) {
        double sum = 0, magnitude = 0;
        for (int64_t p = i; p < small; p += c->Co) sum += o.w.value[p], magnitude += fabs(o.w.value[p]);
        cr_assert_float_eq(o.dbias[i], sum, 0x1p-20 * magnitude, "%s: bias gradient %d", what, (int)i);
    }
    mem_free(want);
    mem_free(w);
    operands_free(&o);
}

// ---- Convolutions -----------------------------------------------------------------------------------------

static const conv_shape shapes[] = {
    {1, 8, 8, 16, 16, 3, 3, 1, 1, 1, 1, 1},  {2, 9, 7, 4, 32, 3, 3, 1, 1, 1, 1, 1},
    {2, 5, 6, 32, 4, 3, 3, 1, 1, 1, 1, 1},   {1, 13, 11, 3, 5, 3, 3, 1, 1, 1, 1, 1},
    {1, 16, 16, 16, 3, 3, 3, 1, 1, 1, 1, 1}, {1, 7, 9, 17, 33, 3, 3, 1, 1, 1, 1, 1},
    {2, 8, 8, 32, 48, 3, 3, 2, 1, 1, 1, 1},  {1, 9, 11, 20, 12, 3, 3, 2, 1, 1, 1, 1},
    {1, 8, 8, 16, 32, 3, 3, 2, 0, 0, 1, 1},  {1, 11, 8, 7, 9, 3, 3, 2, 0, 0, 1, 1},
    {2, 6, 5, 40, 24, 1, 1, 1, 0, 0, 0, 0},  {1, 7, 7, 5, 3, 1, 1, 1, 0, 0, 0, 0},
    {1, 8, 9, 16, 16, 1, 1, 2, 0, 0, 0, 0},  {1, 17, 19, 4, 6, 8, 8, 8, 0, 0, 0, 0},
    {1, 6, 7, 3, 16, 5, 5, 1, 2, 2, 2, 2},   {1, 5, 5, 64, 64, 3, 3, 1, 0, 1, 2, 0},
    {1, 1, 40, 24, 36, 1, 1, 1, 0, 0, 0, 0}, {1, 3, 3, 1, 1, 3, 3, 1, 1, 1, 1, 1},
    {1, 6, 5, 8, 8, 1, 3, 1, 0, 1, 0, 1},    {1, 12, 12, 320, 64, 3, 3, 1, 1, 1, 1, 1},
};

static void check_all_shapes(dense_kind kind, dtype t) {
    if (t == DT_BF16 && !dense_has_bf16()) cr_skip_test("no bf16 here");
    dense_engine *e = engine(2);
    for (unsigned i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        dense_desc k = {.kind = kind, .x_type = t, .w_type = t, .y_type = kind == DENSE_CONV_DW ? DT_F32 : t};
        k.conv = shapes[i];
        check_conv(e, k, i);
        if (kind == DENSE_CONV_DX && k.conv.stride > 1) continue;
        k.bias = kind != DENSE_CONV_DX;
        k.accumulate = kind != DENSE_CONV_DW;
        check_conv(e, k, i);
        if (kind == DENSE_CONV_DW) continue;
        k.scale = 0.625f;
        check_conv(e, k, i);
        k.accumulate = false;
        k.y_type = DT_F32;
        check_conv(e, k, i);
    }
    engine_free(e);
}

Test(dense, conv_f32) { check_all_shapes(DENSE_CONV, DT_F32); }
Test(dense, conv_bf16) { check_all_shapes(DENSE_CONV, DT_BF16); }
Test(dense, conv_dx_f32) { check_all_shapes(DENSE_CONV_DX, DT_F32); }
Test(dense, conv_dx_bf16) { check_all_shapes(DENSE_CONV_DX, DT_BF16); }
Test(dense, conv_dw_f32) { check_all_shapes(DENSE_CONV_DW, DT_F32); }
Test(dense, conv_dw_bf16) { check_all_shapes(DENSE_CONV_DW, DT_BF16); }

// ---- Matrix products --------------------------------------------------------------------------------------

typedef __typeof__(((dense_desc *)0)->matmul) matmul_shape;

// Element (i, j) of a stored matrix of a batch.
static size_t at(int64_t i, int64_t j, int64_t rows, int64_t columns, bool transposed, int64_t row,
                 int64_t batch, int64_t b) {
    if (!row) row = transposed ? rows : columns;
    if (!batch) batch = (transposed ? columns : rows) * row;
    return (size_t)(b * batch + (transposed ? j * row + i : i * row + j));
}

static void check_matmul(dense_engine *e, dense_desc k, unsigned seed) {
    const matmul_shape *m = &k.matmul;
    char what[200];
    snprintf(what, sizeof what, "matmul %s %dx%dx%dx%d %s%s%s", dtype_name(k.x_type), (int)m->batch,
             (int)m->M, (int)m->K, (int)m->N, m->a_transposed ? "aT " : "", m->b_transposed ? "bT " : "",
             m->packed ? "packed" : "");
#define A(b, i, j) at(i, j, m->M, m->K, m->a_transposed, m->a_row, m->a_batch, b)
#define B(b, i, j) at(i, j, m->K, m->N, m->b_transposed, m->b_row, m->b_batch, b)
#define Y(b, i, j) at(i, j, m->M, m->N, false, m->y_row, m->y_batch, b)
    int64_t last = m->batch - 1;
    operands o = {
        .x = noise(k.x_type, (int64_t)A(last, m->M - 1, m->K - 1) + 1, seed),
        .w = noise(m->packed ? DT_F32 : k.w_type, (int64_t)B(last, m->K - 1, m->N - 1) + 1, seed + 1),
        .y = noise(k.y_type, (int64_t)Y(last, m->M - 1, m->N - 1) + 1, seed + 2)};
    o.bias = mem_calloc((size_t)m->N, sizeof *o.bias);
    for (int i = 0; i < m->N; i++) o.bias[i] = (float)(i % 5) - 2;
    run(e, &k, &o, m->packed, what);

    double *want = mem_calloc(o.y.n, sizeof *want);
    memcpy(want, o.before, o.y.n * sizeof *want); // gaps between rows stay as they were
    for (int64_t b = 0; b < m->batch; b++)
        for (int64_t i = 0; i < m->M; i++)
            for (int64_t j = 0; j < m->N; j++) {
                double sum = k.bias ? o.bias[j] : 0;
                for (int64_t p = 0; p < m->K; p++) {
                    double w = o.w.value[B(b, p, j)];
                    if (k.w_type == DT_BF16) w = bf16_to_f32(f32_to_bf16((float)w));
                    sum += o.x.value[A(b, i, p)] * w;
                }
                size_t y = Y(b, i, j);
                want[y] = sum * (k.scale ? k.scale : 1) + (k.accumulate ? want[y] : 0);
            }
    check_close(&o.y, want, m->K, what);
    mem_free(want);
    operands_free(&o);
}

static const matmul_shape products[] = {
    {1, 1, 64, 32},   {1, 77, 40, 96},  {1, 3, 5, 7},   {1, 130, 4, 17},
    {1, 64, 320, 64}, {1, 9, 33, 129},  {1, 200, 1, 3}, {4, 20, 30, 40},
    {3, 7, 5, 9},     {16, 64, 77, 40}, {2, 1, 17, 33}, {1, 40, 48, 24, .a_row = 0, .y_row = 80},
};

static void check_all_products(dtype t) {
    if (t == DT_BF16 && !dense_has_bf16()) cr_skip_test("no bf16 here");
    dense_engine *e = engine(2);
    for (unsigned i = 0; i < sizeof products / sizeof *products; i++)
        for (int form = 0; form < 8; form++) {
            dense_desc k = {
                .kind = DENSE_MATMUL, .x_type = t, .w_type = t, .y_type = t, .matmul = products[i]};
            k.matmul.a_transposed = form & 1;
            k.matmul.b_transposed = form >> 1 & 1;
            k.matmul.packed = form >> 2 & 1;
            if (k.matmul.packed && k.matmul.batch > 1) continue;
            check_matmul(e, k, i);
            k.bias = k.accumulate = true;
            k.scale = 0.625f;
            check_matmul(e, k, i);
            k.accumulate = false;
            k.y_type = DT_F32;
            check_matmul(e, k, i);
            if (k.matmul.packed || form & 1) continue;
            k.matmul.a_row = k.matmul.K + 16; // a head of a wider row, as in the queries of attention
            k.matmul.b_row = (form & 2 ? k.matmul.K : k.matmul.N) + 32;
            check_matmul(e, k, i);
        }
    engine_free(e);
}

Test(dense, matmul_f32) { check_all_products(DT_F32); }
Test(dense, matmul_bf16) { check_all_products(DT_BF16); }

// ---- Determinism and sharing ------------------------------------------------------------------------------

static dense *prepare(dense_engine *e, const dense_desc *k) {
    error err = {0};
    dense *d = dense_prepare(e, k, &err);
    cr_assert(d, "%s", err.text);
    return d;
}

static void pack_and_run(int threads, const dense_desc *k, const void *x, const float *w, const float *bias,
                         void *y) {
    error err = {0};
    dense_engine *e = engine(threads);
    dense *d = prepare(e, k);
    void *packed = mem_alloc(dense_packed_bytes(d)), *scratch = mem_alloc(dense_scratch_bytes(d));
    cr_assert_eq(dense_pack(d, w, packed, &err), OK);
    dense_args a = {.x = x, .w = packed, .bias = bias, .y = y, .scratch = scratch};
    cr_assert_eq(dense_run(d, &a, &err), OK, "%s", err.text);
    dense_free(d);
    engine_free(e);
    mem_free(packed);
    mem_free(scratch);
}

// With `m` images, or m equal groups of rows.
static dense_desc of_size(dense_desc k, int64_t m) {
    if (k.kind == DENSE_MATMUL)
        k.matmul.M *= m;
    else
        k.conv.B *= m;
    return k;
}

// Four images together on two threads; two and two, one by one, on one to three threads: the same bytes.
static void check_parts(const dense_desc *k, int64_t x_n, int64_t w_n, int64_t y_n) {
    tensor x = noise(k->x_type, 4 * x_n, 1), w = noise(DT_F32, w_n, 2), bias = noise(DT_F32, 4096, 3);
    tensor whole = tensor_new(k->y_type, 4 * y_n), part = tensor_new(k->y_type, 4 * y_n);
    size_t x_bytes = (size_t)x_n * dtype_size(k->x_type), y_bytes = (size_t)y_n * dtype_size(k->y_type);
    dense_desc all = of_size(*k, 4);
    pack_and_run(2, &all, x.data, w.data, bias.data, whole.data);
    for (int threads = 1; threads <= 3; threads++)
        for (int n = 1; n <= 4; n *= 2) {
            dense_desc some = of_size(*k, n);
            for (size_t i = 0; i < 4; i += (size_t)n)
                pack_and_run(threads, &some, (char *)x.data + i * x_bytes, w.data, bias.data,
                             (char *)part.data + i * y_bytes);
            cr_assert_arr_eq(part.data, whole.data, 4 * y_bytes, "kind %d %s, %d threads, %d at a time",
                             k->kind, dtype_name(k->x_type), threads, n);
        }
    tensor *used[] = {&x, &w, &bias, &whole, &part};
    for (int i = 0; i < 5; i++) tensor_free(used[i]);
}

static const conv_shape even_shapes[] = {
    {1, 32, 32, 4, 320, 3, 3, 1, 1, 1, 1, 1},   {1, 32, 32, 320, 4, 3, 3, 1, 1, 1, 1, 1},
    {1, 24, 24, 320, 320, 3, 3, 1, 1, 1, 1, 1}, {1, 8, 8, 640, 640, 3, 3, 1, 1, 1, 1, 1},
    {1, 33, 31, 64, 64, 3, 3, 1, 1, 1, 1, 1},   {1, 19, 23, 17, 33, 3, 3, 1, 1, 1, 1, 1},
    {1, 32, 32, 3, 128, 3, 3, 1, 1, 1, 1, 1},   {1, 32, 32, 128, 3, 3, 3, 1, 1, 1, 1, 1},
    {1, 32, 32, 320, 320, 3, 3, 2, 1, 1, 1, 1}, {1, 32, 32, 128, 128, 3, 3, 2, 0, 0, 1, 1},
    {1, 64, 64, 4, 32, 8, 8, 8, 0, 0, 0, 0},    {1, 64, 64, 256, 256, 3, 3, 1, 1, 1, 1, 1},
};

static void check_all_parts(dense_kind kind, dtype t) {
    if (t == DT_BF16 && !dense_has_bf16()) cr_skip_test("no bf16 here");
    for (unsigned i = 0; i < sizeof even_shapes / sizeof *even_shapes; i++) {
        dense_desc k = {.kind = kind, .x_type = t, .w_type = t, .y_type = t, .bias = kind == DENSE_CONV};
        const conv_shape *c = &even_shapes[i];
        k.conv = *c;
        if (kind == DENSE_CONV_DX && c->stride > 1) continue;
        int64_t big = c->H * c->W * c->Ci, small = out_h(c) * out_w(c) * c->Co;
        bool dx = kind == DENSE_CONV_DX;
        check_parts(&k, dx ? small : big, c->Co * c->Ci * c->kh * c->kw, dx ? big : small);
    }
}

Test(dense, conv_f32_is_the_same_whatever_the_batch_and_threads) { check_all_parts(DENSE_CONV, DT_F32); }
Test(dense, conv_bf16_is_the_same_whatever_the_batch_and_threads) { check_all_parts(DENSE_CONV, DT_BF16); }
Test(dense, conv_dx_f32_is_the_same_whatever_the_batch_and_threads) {
    check_all_parts(DENSE_CONV_DX, DT_F32);
}
Test(dense, conv_dx_bf16_is_the_same_whatever_the_batch_and_threads) {
    check_all_parts(DENSE_CONV_DX, DT_BF16);
}

static void check_all_rows(dtype t) {
    static const int64_t sizes[][3] = {{1, 1280, 320}, {77, 320, 768}, {256, 320, 1280}, {1, 3, 17},
                                       {9, 33, 129},   {64, 4, 320},   {1024, 64, 64},   {100, 2560, 320}};
    if (t == DT_BF16 && !dense_has_bf16()) cr_skip_test("no bf16 here");
    for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        int64_t M = sizes[i][0], N = sizes[i][1], K = sizes[i][2];
        dense_desc k = {.kind = DENSE_MATMUL, .x_type = t, .w_type = t, .y_type = t, .bias = true};
        k.matmul = (matmul_shape){.batch = 1, .M = M, .N = N, .K = K, .b_transposed = i & 1, .packed = true};
        check_parts(&k, M * K, N * K, M * N);
    }
}

Test(dense, matmul_f32_is_the_same_whatever_the_rows_and_threads) { check_all_rows(DT_F32); }
Test(dense, matmul_bf16_is_the_same_whatever_the_rows_and_threads) { check_all_rows(DT_BF16); }

// The keys of products never depend on the rows, those of convolutions seldom on the picture; wherever two
// keys agree the packed bytes do.
static void check_sharing(dense_engine *e, const dense_desc *a, const dense_desc *b, bool always,
                          int64_t w_n) {
    dense *d[2] = {prepare(e, a), prepare(e, b)};
    bool same = !strcmp(dense_layout_key(d[0]), dense_layout_key(d[1]));
    cr_assert(same || !always, "%s and %s", dense_layout_key(d[0]), dense_layout_key(d[1]));
    if (same) {
        tensor w = noise(DT_F32, w_n, 5);
        size_t size = dense_packed_bytes(d[0]);
        cr_assert_eq(size, dense_packed_bytes(d[1]));
        char *packed[2] = {mem_calloc(1, size), mem_calloc(1, size)};
        for (int i = 0; i < 2; i++) cr_assert_eq(dense_pack(d[i], w.data, packed[i], NULL), OK);
        cr_assert_arr_eq(packed[0], packed[1], size);
        mem_free(packed[0]);
        mem_free(packed[1]);
        tensor_free(&w);
    }
    dense_free(d[0]);
    dense_free(d[1]);
}

Test(dense, packed_weights_are_shared) {
    dense_engine *e = engine(2);
    for (int t = 0; t < 1 + dense_has_bf16(); t++) {
        dtype type = t ? DT_BF16 : DT_F32;
        dense_desc a = {.kind = DENSE_MATMUL, .x_type = type, .w_type = type, .y_type = type}, b;
        for (int M = 1; M < 5000; M = M * 3 - 1 + (M == 1)) {
            a.matmul =
                (matmul_shape){.batch = 1, .M = 2, .N = 96, .K = 40, .packed = true, .b_transposed = true};
            b = a;
            b.matmul.M = M;
            check_sharing(e, &a, &b, true, 96 * 40);
        }
        for (int H = 8; H <= 256; H *= 2) {
            a.kind = DENSE_CONV;
            a.conv = (conv_shape){1, 32, 32, 320, 320, 3, 3, 1, 1, 1, 1, 1};
            b = a;
            b.conv.H = b.conv.W = H;
            b.conv.B = 1 + H % 3;
            check_sharing(e, &a, &b, false, 320 * 320 * 9);
        }
    }
    engine_free(e);
}

// A square linear and its gradient have the same sizes and layout but hold transposed weights.
Test(dense, keys_tell_transposed_weights_apart) {
    dense_engine *e = engine(1);
    dense_desc k = {.kind = DENSE_MATMUL,
                    .matmul = {.batch = 1, .M = 8, .N = 64, .K = 64, .packed = true, .b_transposed = true}};
    dense *forward = prepare(e, &k);
    k.matmul.b_transposed = false;
    dense *backward = prepare(e, &k);
    cr_assert_str_neq(dense_layout_key(forward), dense_layout_key(backward));
    k = (dense_desc){.kind = DENSE_CONV, .conv = {1, 8, 8, 64, 64, 3, 3, 1, 1, 1, 1, 1}};
    dense *conv = prepare(e, &k);
    k.kind = DENSE_CONV_DX;
    dense *dx = prepare(e, &k);
    cr_assert_str_neq(dense_layout_key(conv), dense_layout_key(dx));
    dense *all[] = {forward, backward, conv, dx};
    for (int i = 0; i < 4; i++) dense_free(all[i]);
    engine_free(e);
}

// ---- Contexts, bad shapes ---------------------------------------------------------------------------------

static void *one_context(void *arg) {
    check_all_shapes(DENSE_CONV, DT_F32);
    return arg;
}

Test(dense, two_contexts_run_in_two_threads) {
    pthread_t t[2];
    for (int i = 0; i < 2; i++) cr_assert_eq(pthread_create(&t[i], NULL, one_context, NULL), 0);
    for (int i = 0; i < 2; i++) pthread_join(t[i], NULL);
}

Test(dense, impossible_shapes_are_errors) {
    static const conv_shape bad[] = {
        {0, 8, 8, 4, 4, 3, 3, 1},         {1, 8, 8, -4, 4, 3, 3, 1},
        {1, 2, 2, 4, 4, 3, 3, 1},         {1, 8, 8, 4, 4, 3, 3, 0},
        {1, 8, 8, 4, 4, 3, 3, 1, 3, 3},   {1, INT64_MAX, 8, 4, 4, 3, 3, 1},
        {1, 8, 8, INT64_MAX, 4, 3, 3, 1}, {1 << 30, 1 << 30, 8, 4, 4, 1, 1, 1},
        {1, 8, 8, 4, 4, 3, INT64_MAX, 1}, {1, 8, 8, 4, 4, 3, 3, 1, -1},
    };
    dense_engine *e = engine(1);
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
        error err = {0};
        cr_assert_null(dense_prepare(e, &(dense_desc){.kind = DENSE_CONV, .conv = bad[i]}, &err));
        cr_assert_eq(err.code, ERR_DATA, "%u: %s", i, err.text);
    }
    error err = {0};
    dense_desc k = {.kind = DENSE_MATMUL, .matmul = {.batch = 1, .M = INT32_MAX, .N = INT32_MAX, .K = 4}};
    cr_assert_null(dense_prepare(e, &k, &err));
    cr_assert_eq(err.code, ERR_DATA);
    engine_free(e);
}

#endif
