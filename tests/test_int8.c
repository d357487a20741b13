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

// Rows of W are whole numbers times a scale, as q8's are.
static problem pose(dtype t, int64_t M, int64_t N, int64_t K) {
    problem p = {
        .d = {t, M, N, K}, .w = values(N * K, 1, 1), .bias = values(N, 2, 1), .x = values(M * K, 3, 1)};
    for (int64_t n = 0; n < N; n++)
        for (int64_t k = 0; k < K; k++)
            p.w[n * K + k] = rintf(p.w[n * K + k] * 127) * (0.01f + 0.001f * (float)n);
    for (int64_t n = 0; n < N; n++) p.w[n * K + n % K] = 127 * (0.01f + 0.001f * (float)n);
    for (int64_t m = 0; m < M; m++)
        for (int64_t k = 0; k < K; k++) p.x[m * K + k] *= (float)(m % 7); // a row of zeros among them
    p.residual = values(M * N, 4, 1);
    p.x_stored = stored(t, p.x, M * K);
    p.residual_stored = stored(t, p.residual, M * N);
    p.y = mem_calloc((size_t)(M * N), dtype_size(t));
    p.packed = mem_calloc(int8_packed_bytes(&p.d), 1);
    cr_assert(p.y && p.packed);
    return p;
}

static void end(problem *p) {
    void *all[] = {p->w, p->bias, p->x, p->residual, p->x_stored, p->residual_stored, p->y, p->packed};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) mem_free(all[i]);
}

static void run(const problem *p, int threads, int64_t first, int64_t rows, const float *bias,
                const void *residual, void *y) {
    team *t = team_new(threads);
    int8_desc d = p->d;
    d.M = rows;
    void *scratch = mem_alloc(int8_scratch_bytes(&d, threads));
    cr_assert(t && scratch);
    int8_pack(t, &p->d, p->w, p->packed);
    int8_run(t, &d, (const char *)p->x_stored + (size_t)(first * d.K) * dtype_size(d.t), p->packed, bias,
             residual, y, scratch);
    mem_free(scratch);
    team_free(t);
}

static double wanted(const problem *p, int64_t m, int64_t n) {
    const float *x = p->x + m * p->d.K, *w = p->w + n * p->d.K;
    double most = 0, w_most = 0, sum = 0;
    for (int64_t k = 0; k < p->d.K; k++) {
        most = fmax(most, fabs(x[k]));
        w_most = fmax(w_most, fabs(w[k]));
    }
    float factor = most > 0 ? 127 / (float)most : 0;
    for (int64_t k = 0; k < p->d.K; k++) sum += rintf(x[k] * factor) * rint(w[k] / (w_most / 127));
    return sum * (most / 127) * (w_most / 127);
}

static void compare(dtype t, int64_t M, int64_t N, int64_t K, bool extras) {
    problem p = pose(t, M, N, K);
    memcpy(p.y, p.residual_stored, (size_t)(M * N) * dtype_size(t)); // in place
    run(&p, 1, 0, M, extras ? p.bias : NULL, extras ? p.y : NULL, p.y);
    for (int64_t i = 0; i < M * N; i++) {
        int64_t m = i / N, n = i % N;
        double sum = wanted(&p, m, n), want = sum + (extras ? p.bias[n] + (double)p.residual[i] : 0), got;
        dtype_to_f64(t, (const char *)p.y + (size_t)i * dtype_size(t), &got, 1);
        // the sum as a float, three factors and two additions; then the type's rounding
        double allowed = (fabs(sum) + 2) * 8 * 0x1p-24 + (t == DT_BF16 ? fabs(want) * 0x1p-8 : 0);
        cr_assert_leq(fabs(got - want), allowed, "%ldx%ldx%ld at (%ld,%ld): %g, not %g", (long)M, (long)N,
                      (long)K, (long)m, (long)n, got, want);
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
                compare(t ? DT_BF16 : DT_F32, SIZES[i][0], SIZES[i][1], SIZES[i][2], extras);
}

Test(int8, rows_depend_on_nothing_else) {
    enum { M = 211, N = 200, K = 77 };
    if (!int8_runs()) cr_skip_test("no VNNI");
    problem p = pose(DT_BF16, M, N, K);
    uint16_t *some = mem_calloc(M * N, sizeof *some);
    cr_assert(some);
    run(&p, 1, 0, M, p.bias, NULL, p.y);
    for (int threads = 1; threads <= 3; threads++)
        for (int64_t first = 0; first < M; first += 50) {
            run(&p, threads, first, M - first, p.bias, NULL, some);
            cr_assert_arr_eq(some, (uint16_t *)p.y + first * N, (size_t)((M - first) * N) * 2);
        }
    mem_free(some);
    end(&p);
}

Test(int8, what_is_not_finite_is_not_hidden) {
    enum { M = 3, N = 5, K = 40 };
    if (!int8_runs()) cr_skip_test("no VNNI");
    const float bad[] = {NAN, INFINITY, -INFINITY};
    for (int t = 0; t < 2; t++)
        for (int b = 0; b < 3; b++) {
            problem p = pose(t ? DT_BF16 : DT_F32, M, N, K);
            p.x[K + 33] = bad[b];
            mem_free(p.x_stored);
            p.x_stored = stored(p.d.t, p.x, M * K);
            run(&p, 1, 0, M, p.bias, NULL, p.y);
            for (int i = 0; i < M * N; i++) {
                double got;
                dtype_to_f64(p.d.t, (const char *)p.y + (size_t)i * dtype_size(p.d.t), &got, 1);
                cr_assert_eq(isnan(got), i / N == 1);
            }
            end(&p);
        }
}

Test(int8, sums_that_could_overflow_are_refused) {
    cr_expect(int8_fits(&(int8_desc){DT_F32, 1, 1, 65000}));
    cr_expect_not(int8_fits(&(int8_desc){DT_F32, 1, 1, 66000}));
}
