// Products in 8 bits against their definition in double, by which codes are exact and only the scaling is
// rounded.
#include "core/base/mem.h"
#include "core/cpu/int8.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

typedef struct {
    int8_desc d;
    float *w, *bias, *x, *residual; // values as the kernel reads them
    void *x_stored, *residual_stored, *y, *packed;
} problem;

static float noise(unsigned *seed) {
    *seed = *seed * 1664525u + 1013904223u;
    return (float)((int)*seed / 2147483648.);
}

static void *stored(dtype t, float *v, int64_t n) {
    void *p = mem_calloc((size_t)n, dtype_size(t));
    double *wide = mem_calloc((size_t)n, sizeof *wide);
    cr_assert(p && wide);
    for (int64_t i = 0; i < n; i++) wide[i] = v[i];
    dtype_from_f64(t, wide, p, (size_t)n);
    dtype_to_f32(t, p, v, (size_t)n);
    mem_free(wide);
    return p;
}

static float *values(int64_t n, unsigned seed, float size) {
    float *v = mem_calloc((size_t)n, sizeof *v);
    cr_assert(v);
    for (int64_t i = 0; i < n; i++) v[i] = size * noise(&seed);
    return v;
}

static int64_t rows(const int8_desc *d) { return (d->H + d->top + d->bottom - d->kh) / d->stride + 1; }
static int64_t columns(const int8_desc *d) { return (d->W + d->left + d->right - d->kw) / d->stride + 1; }
static int64_t inputs(const int8_desc *d) { return d->B * d->H * d->W * d->Ci; }
static int64_t outputs(const int8_desc *d) { return d->B * rows(d) * columns(d) * d->Co; }

// Rows of W are whole numbers times a scale, as q8's are.
static problem pose(int8_desc d) {
    int64_t K = d.Ci * d.kh * d.kw, M = d.B * d.H * d.W;
    problem p = {
        .d = d, .w = values(d.Co * K, 1, 1), .bias = values(d.Co, 2, 1), .x = values(M * d.Ci, 3, 1)};
    for (int64_t n = 0; n < d.Co; n++)
        for (int64_t k = 0; k < K; k++)
            p.w[n * K + k] = rintf(p.w[n * K + k] * 127) * (0.01f + 0.001f * (float)n);
    for (int64_t n = 0; n < d.Co; n++) p.w[n * K + n % K] = 127 * (0.01f + 0.001f * (float)n);
    for (int64_t m = 0; m < M; m++) // a pixel of zeros among them, and some above and below zero alone
        for (int64_t k = 0; k < d.Ci; k++) {
            float *x = &p.x[m * d.Ci + k];
            *x = (float)(m % 7) * (m % 5 == 1 ? fabsf(*x) : m % 5 == 2 ? -1 - *x / 4 : *x);
        }
    p.residual = values(outputs(&d), 4, 1);
    p.x_stored = stored(d.t, p.x, inputs(&d));
    p.residual_stored = stored(d.t, p.residual, outputs(&d));
    p.y = mem_calloc((size_t)outputs(&d), dtype_size(d.t));
    p.packed = mem_calloc(int8_packed_bytes(&p.d), 1);
    cr_assert(p.y && p.packed);
    return p;
}

static void end(problem *p) {
    void *all[] = {p->w, p->bias, p->x, p->residual, p->x_stored, p->residual_stored, p->y, p->packed};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) mem_free(all[i]);
}

// Of `d`, which is the problem's description with fewer pictures or rows, from value `first` of x on.
static void run(const problem *p, const int8_desc *d, int threads, int64_t first, const float *bias,
                const void *residual, void *y) {
    team *t = team_new(threads);
    void *scratch = mem_alloc(int8_scratch_bytes(d, threads));
    cr_assert(t && scratch);
    int8_pack(t, &p->d, p->w, p->packed);
    int8_run(t, d, (const char *)p->x_stored + (size_t)first * dtype_size(d->t), p->packed, bias, residual, y,
             scratch);
    mem_free(scratch);
    team_free(t);
}

static double scale_of(const float *w, int64_t K) {
    double most = 0;
    for (int64_t k = 0; k < K; k++) most = fmax(most, fabs(w[k]));
    return most / 127;
}

// One tap of one output: its exact value, and into *terms the size of what is added in f32.
static double tap_of(const int8_desc *d, const float *x, const float *w, double scale, double *terms) {
    float low = 0, high = 0;
    for (int64_t k = 0; k < d->Ci; k++) {
        low = fminf(low, x[k]);
        high = fmaxf(high, x[k]);
    }
    float step = high / 255 - low / 255, factor = step > 0 ? 1 / step : 0;
    double codes = 0, ones = 0;
    for (int64_t k = 0; k < d->Ci; k++) {
        double code = rint(w[k * d->kh * d->kw] / scale);
        codes += code * fmin(fmax(rintf(fmaf(x[k], factor, -(low * factor))), 0), 255);
        ones += code;
    }
    *terms += fabs(codes * step * scale) + fabs(ones * low * scale);
    return (codes * step + ones * low) * scale;
}

static double wanted(const problem *p, int64_t i, double *terms) {
    const int8_desc *d = &p->d;
    int64_t n = i % d->Co, m = i / d->Co, K = d->Ci * d->kh * d->kw;
    int64_t top = m / columns(d) % rows(d) * d->stride - d->top, left = m % columns(d) * d->stride - d->left;
    double scale = scale_of(p->w + n * K, K), sum = 0;
    for (int64_t tap = 0; tap < d->kh * d->kw; tap++) {
        int64_t y = top + tap / d->kw, x = left + tap % d->kw, b = m / columns(d) / rows(d);
        if (y < 0 || y >= d->H || x < 0 || x >= d->W) continue;
        sum += tap_of(d, p->x + ((b * d->H + y) * d->W + x) * d->Ci, p->w + n * K + tap, scale, terms);
    }
    return sum;
}

static void compare(int8_desc d, bool extras) {
    problem p = pose(d);
    memcpy(p.y, p.residual_stored, (size_t)outputs(&d) * dtype_size(d.t)); // in place
    run(&p, &d, 1, 0, extras ? p.bias : NULL, extras ? p.y : NULL, p.y);
    for (int64_t i = 0; i < outputs(&d); i++) {
        double terms = 0, sum = wanted(&p, i, &terms), got;
        double want = sum + (extras ? p.bias[i % d.Co] + (double)p.residual[i] : 0);
        dtype_to_f64(d.t, (const char *)p.y + (size_t)i * dtype_size(d.t), &got, 1);
        // each tap's sums as floats, their factors and additions; then the type's rounding
        double allowed = (terms + 2) * (double)(7 + d.kh * d.kw) * 0x1p-24;
        if (d.t == DT_BF16) allowed += fabs(want) * 0x1p-8;
        cr_assert_leq(fabs(got - want), allowed, "%ldx%ld, %ldx%ld, %ld>%ld at %ld: %g, not %g", (long)d.H,
                      (long)d.W, (long)d.kh, (long)d.kw, (long)d.Ci, (long)d.Co, (long)i, got, want);
    }
    end(&p);
}

Test(int8, is_its_definition) {
    if (!int8_runs()) cr_skip_test("no VNNI");
    static const int64_t SIZES[][3] = {{1, 1, 1},     {1, 64, 64},    {6, 65, 17},    {7, 3, 3},
                                       {97, 130, 70}, {200, 64, 320}, {13, 320, 1281}};
    for (size_t i = 0; i < sizeof SIZES / sizeof *SIZES; i++)
        for (int t = 0; t < 2; t++)
            for (int extras = 0; extras < 2; extras++)
                compare(int8_linear(t ? DT_BF16 : DT_F32, SIZES[i][0], SIZES[i][1], SIZES[i][2]), extras);
}

Test(int8, convolutions_are_their_definition) {
    if (!int8_runs()) cr_skip_test("no VNNI");
    static const int8_desc SHAPES[] = {
        {DT_F32, 1, 8, 8, 64, 64, 3, 3, 1, 1, 1, 1, 1},  {DT_F32, 2, 7, 5, 20, 67, 3, 3, 2, 1, 1, 1, 1},
        {DT_F32, 2, 9, 12, 33, 5, 3, 3, 2, 0, 0, 1, 1},  {DT_F32, 3, 1, 1, 4, 1, 3, 3, 1, 1, 1, 1, 1},
        {DT_F32, 1, 6, 40, 17, 70, 1, 3, 1, 0, 2, 0, 0}, {DT_F32, 1, 11, 11, 9, 130, 1, 1, 2, 0, 0, 0, 0}};
    for (size_t i = 0; i < sizeof SHAPES / sizeof *SHAPES; i++)
        for (int t = 0; t < 2; t++)
            for (int extras = 0; extras < 2; extras++) {
                int8_desc d = SHAPES[i];
                d.t = t ? DT_BF16 : DT_F32;
                compare(d, extras);
            }
}

Test(int8, rows_depend_on_nothing_else) {
    enum { M = 211, N = 200, K = 77 };
    if (!int8_runs()) cr_skip_test("no VNNI");
    problem p = pose(int8_linear(DT_BF16, M, N, K));
    uint16_t *some = mem_calloc(M * N, sizeof *some);
    cr_assert(some);
    run(&p, &p.d, 1, 0, p.bias, NULL, p.y);
    for (int threads = 1; threads <= 3; threads++)
        for (int64_t first = 0; first < M; first += 50) {
            int8_desc d = int8_linear(DT_BF16, M - first, N, K);
            run(&p, &d, threads, first * K, p.bias, NULL, some);
            cr_assert_arr_eq(some, (uint16_t *)p.y + first * N, (size_t)((M - first) * N) * 2);
        }
    mem_free(some);
    end(&p);
}

Test(int8, pictures_depend_on_nothing_else) {
    if (!int8_runs()) cr_skip_test("no VNNI");
    problem p = pose((int8_desc){DT_F32, 4, 9, 11, 48, 150, 3, 3, 1, 1, 1, 1, 1});
    int64_t each = outputs(&p.d) / p.d.B;
    float *some = mem_calloc((size_t)outputs(&p.d), sizeof *some);
    cr_assert(some);
    run(&p, &p.d, 1, 0, p.bias, NULL, p.y);
    for (int threads = 1; threads <= 3; threads++)
        for (int64_t first = 0; first < p.d.B; first++) {
            int8_desc d = p.d;
            d.B = p.d.B - first;
            run(&p, &d, threads, first * inputs(&p.d) / p.d.B, p.bias, NULL, some);
            cr_assert_arr_eq(some, (float *)p.y + first * each, (size_t)(d.B * each) * sizeof *some);
        }
    mem_free(some);
    end(&p);
}

Test(int8, what_is_not_finite_is_not_hidden) {
    enum { H = 5, W = 4, C = 40, N = 5 };
    if (!int8_runs()) cr_skip_test("no VNNI");
    const float bad[] = {NAN, INFINITY, -INFINITY};
    for (int t = 0; t < 2; t++)
        for (int b = 0; b < 3; b++) {
            problem p = pose((int8_desc){t ? DT_BF16 : DT_F32, 1, H, W, C, N, 3, 3, 1, 1, 1, 1, 1});
            p.x[W * C + 33] = bad[b]; // row 1, column 0
            mem_free(p.x_stored);
            p.x_stored = stored(p.d.t, p.x, H * W * C);
            run(&p, &p.d, 1, 0, p.bias, NULL, p.y);
            for (int i = 0; i < H * W * N; i++) {
                double got;
                dtype_to_f64(p.d.t, (const char *)p.y + (size_t)i * dtype_size(p.d.t), &got, 1);
                cr_assert_eq(isnan(got), i / N / W <= 2 && i / N % W <= 1);
            }
            end(&p);
        }
}

Test(int8, values_of_any_size) {
    if (!int8_runs()) cr_skip_test("no VNNI");
    const float sizes[] = {0x1p-140f, 0x1p-110f, 0x1p-60f, 0x1p60f, 0x1p100f};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        float x[4] = {sizes[i], -sizes[i], sizes[i], sizes[i] / 2}, w[4] = {0x1p-7f, 0, -0x1p-8f, 0}, y;
        int8_desc d = int8_linear(DT_F32, 1, 1, 4);
        void *packed = mem_alloc(int8_packed_bytes(&d)), *scratch = mem_alloc(int8_scratch_bytes(&d, 1));
        cr_assert(packed && scratch);
        int8_pack(NULL, &d, w, packed);
        int8_run(NULL, &d, x, packed, NULL, NULL, &y, scratch);
        // Codes are within half a step of 1/127; what is far below the smallest scale may be lost.
        cr_expect_float_eq(y, sizes[i] * 0x1p-8f, sizes[i] * 0x1p-7f / 64 + 0x1p-90f);
        mem_free(packed);
        mem_free(scratch);
    }
}

Test(int8, sums_that_could_overflow_are_refused) {
    int8_desc most = int8_linear(DT_F32, 1, 1, 65000), more = int8_linear(DT_F32, 1, 1, 66000);
    cr_expect(int8_fits(&most));
    cr_expect_not(int8_fits(&more));
}
