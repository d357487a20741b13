// Every kernel at every level of this CPU against plain loops in double; those loops' gradients against
// finite differences. Tolerances: an f32 result may miss by a few roundings (eps = 2⁻²⁴ each) of its largest
// term, a bf16 result by half an ulp (2⁻⁹ of its value) more.
#include "core/base/mem.h"
#include "core/cpu/kernels.h"

#include <criterion/criterion.h>
#include <float.h>
#include <math.h>
#include <stdio.h>

// ---- Arrays with a double twin ----------------------------------------------------------------------------

typedef struct {
    dtype t;
    int64_t n;
    void *p;
    double *d; // the same values
} array;

static uint64_t seed = 1;
static double uniform(void) { // (−1, 1)
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (double)(int64_t)seed / 0x1p63;
}
static int64_t between(int64_t lo, int64_t hi) {
    return lo + (int64_t)((uniform() + 1) / 2 * (double)(hi - lo + 1));
}
static double normal(void) { return (uniform() + uniform() + uniform() + uniform()) * 0.866; }

static void refresh(array *a) { dtype_to_f64(a->t, a->p, a->d, (size_t)a->n); }

static array make(dtype t, int64_t n, double mean, double sd) {
    array a = {t, n, mem_alloc((size_t)n * dtype_size(t)), mem_alloc((size_t)n * sizeof(double))};
    for (int64_t i = 0; i < n; i++) a.d[i] = mean + sd * normal();
    dtype_from_f64(t, a.d, a.p, (size_t)n);
    refresh(&a);
    return a;
}

static void drop(array *a) {
    mem_free(a->p);
    mem_free(a->d);
}

static double *zeros(int64_t n) { return mem_calloc((size_t)n + 1, sizeof(double)); }

// |got − want| ≤ eps·(|want| + size), plus the rounding to bf16; NaN only where NaN is wanted.
static void check(const char *what, cpu_level level, array *got, const double *want, double eps,
                  double size) {
    refresh(got);
    for (int64_t i = 0; i < got->n; i++) {
        double g = got->d[i], w = want[i], tol = eps * (fabs(w) + size);
        if (got->t == DT_BF16) tol += fabs(w) * 0x1p-8;
        bool same = isnan(w) ? isnan(g) : g == w || fabs(g - w) <= tol;
        cr_assert(same, "%s %s %s [%ld of %ld]: %.9g, not %.9g (off by %.2g, tolerance %.2g)", what,
                  cpu_level_name(level), dtype_name(got->t), (long)i, (long)got->n, g, w, fabs(g - w), tol);
    }
}

#define EACH_LEVEL(k, level)                                                                                 \
    for (cpu_level level = CPU_BASE; level <= cpu_level_within(CPU_BEST); level++)                           \
        for (const cpu_kernels *k = cpu_kernels_for(level); k; k = NULL)
#define EACH_TYPE(t) for (dtype t = DT_F32; t <= DT_BF16; t++)

static const double EPS = 0x1p-24;

// ---- Functions of one value -------------------------------------------------------------------------------

static double sigmoid(double x) { return 1 / (1 + exp(-x)); }

static double unary_ref(unary_kind kind, double x) {
    switch (kind) {
    case UNARY_SILU:
        return x / (1 + exp(-x));
    case UNARY_GELU:
        return x * 0.5 * erfc(-x * M_SQRT1_2);
    case UNARY_GELU_TANH:
        return 0.5 * x * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case UNARY_QUICK_GELU:
        return x / (1 + exp(-1.702 * x));
    case UNARY_RELU:
        return x < 0 ? 0 : x;
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
    default:
        return sqrt(x);
    }
}

static double unary_slope_ref(unary_kind kind, double x) {
    double s, u;
    switch (kind) {
    case UNARY_SILU:
        s = sigmoid(x);
        return s + x * s * (1 - s);
    case UNARY_GELU:
        return 0.5 * erfc(-x * M_SQRT1_2) + x * exp(-x * x / 2) / sqrt(2 * M_PI);
    case UNARY_GELU_TANH:
        s = tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x));
        u = sqrt(2 / M_PI) * (1 + 3 * 0.044715 * x * x);
        return 0.5 * (1 + s) + 0.5 * x * (1 - s * s) * u;
    case UNARY_QUICK_GELU:
        s = sigmoid(1.702 * x);
        return s + 1.702 * x * s * (1 - s);
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
    default:
        return 0.5 / sqrt(x);
    }
}

static bool positive_only(unary_kind kind) { return kind == UNARY_LOG || kind == UNARY_SQRT; }

Test(kernels, unary_and_its_gradient) {
    EACH_LEVEL(k, level) EACH_TYPE(t) for (unary_kind kind = 0; kind < UNARY_COUNT; kind++) {
        int64_t n = between(1, 70) + 40000 * (kind % 3 == 0);
        bool positive = positive_only(kind);
        array x = make(t, n, positive ? 9 : 0, positive ? 2 : 3), dy = make(t, n, 0, 1), y = make(t, n, 7, 1);
        double *want = zeros(n);
        char what[40];
        snprintf(what, sizeof what, "unary %d", (int)kind);
        for (int64_t i = 0; i < n; i++) want[i] = unary_ref(kind, x.d[i]);
        k->unary(NULL, kind, t, x.p, y.p, n);
        check(what, level, &y, want, 6 * EPS, 1);
        for (int64_t i = 0; i < n; i++) want[i] = dy.d[i] * unary_slope_ref(kind, x.d[i]);
        k->unary_grad(NULL, kind, t, x.p, dy.p, y.p, n);
        // GELU's slopes multiply a rounding of sigmoid or Φ by up to x·d(2u)/dx = 11
        check(what, level, &y, want, 40 * EPS, 1);
        drop(&x), drop(&dy), drop(&y), mem_free(want);
    }
}

Test(kernels, unary_slopes_are_derivatives) {
    for (unary_kind kind = 0; kind < UNARY_COUNT; kind++)
        for (double x = -4.05; x < 4; x += 0.1) {
            if (positive_only(kind) && x < 0.1) continue;
            double h = 1e-5, d = (unary_ref(kind, x + h) - unary_ref(kind, x - h)) / (2 * h);
            cr_assert_float_eq(unary_slope_ref(kind, x), d, 1e-6 * (1 + fabs(d)), "kind %d at %g", (int)kind,
                               x);
        }
}

// exp, log, tanh and sigmoid over the whole range of floats: 5 roundings of relative error (3e-7), below the
// normal range half a step of the subnormals per rounding.
Test(kernels, functions_over_the_full_range) {
    static const unary_kind KINDS[] = {UNARY_EXP, UNARY_LOG, UNARY_TANH, UNARY_SIGMOID, UNARY_SQRT};
    enum { N = 1 << 16 };
    array x = make(DT_F32, N, 0, 1), y = make(DT_F32, N, 0, 1);
    double *want = zeros(N);
    for (uint32_t i = 0; i < N;
         i++) { // every sign, exponent and 128 mantissas: infinities and NaN among them
        uint32_t u = i << 16 | (i * 2654435761u >> 16);
        memcpy((float *)x.p + i, &u, 4);
    }
    refresh(&x);
    for (size_t q = 0; q < sizeof KINDS / sizeof *KINDS; q++) {
        for (int i = 0; i < N; i++) want[i] = (double)(float)unary_ref(KINDS[q], x.d[i]);
        char what[40];
        snprintf(what, sizeof what, "full range %d", (int)KINDS[q]);
        EACH_LEVEL(k, level) {
            k->unary(NULL, KINDS[q], DT_F32, x.p, y.p, N);
            // a sigmoid below the normal range may be 0: 1/(1 + exp(−x)) overflows inside
            check(what, level, &y, want, 5 * EPS, KINDS[q] == UNARY_SIGMOID ? FLT_MIN / EPS : FLT_MIN);
        }
    }
    drop(&x), drop(&y), mem_free(want);
}

// A dense sweep where the exponential functions have their interesting values.
Test(kernels, functions_keep_relative_precision) {
    static const unary_kind KINDS[] = {UNARY_EXP,  UNARY_TANH, UNARY_SIGMOID,   UNARY_SILU,
                                       UNARY_GELU, UNARY_LOG,  UNARY_QUICK_GELU};
    enum { N = 200001 };
    array x = make(DT_F32, N, 0, 1), y = make(DT_F32, N, 0, 1);
    double *want = zeros(N);
    EACH_LEVEL(k, level) for (size_t q = 0; q < sizeof KINDS / sizeof *KINDS; q++) {
        double range = KINDS[q] == UNARY_EXP ? 87 : 5;
        for (int i = 0; i < N; i++) {
            double v = KINDS[q] == UNARY_LOG ? 0.2 + i * 1e-5 : (i - N / 2) * 2 * range / N;
            ((float *)x.p)[i] = (float)v;
        }
        refresh(&x);
        double worst = 0;
        k->unary(NULL, KINDS[q], DT_F32, x.p, y.p, N);
        refresh(&y);
        for (int i = 0; i < N; i++) {
            double w = unary_ref(KINDS[q], x.d[i]), e = w == 0 ? fabs(y.d[i]) : fabs(y.d[i] / w - 1);
            if (e > worst) worst = e;
        }
        // exp(−x²/2) and exp(−1.702 x) take their argument rounded: up to 12 and 9 units of eps more
        double limit = KINDS[q] == UNARY_GELU || KINDS[q] == UNARY_QUICK_GELU ? 1.2e-6 : 4e-7;
        cr_assert_lt(worst, limit, "kind %d %s: %.3g", (int)KINDS[q], cpu_level_name(level), worst);
    }
    drop(&x), drop(&y), mem_free(want);
}

Test(kernels, nan_comes_out_of_every_function) {
    EACH_LEVEL(k, level) EACH_TYPE(t) for (unary_kind kind = 0; kind < UNARY_COUNT; kind++) {
        array x = make(t, 37, 1, 0), y = make(t, 37, 0, 0), one = make(t, 37, 1, 0);
        x.d[3] = x.d[36] = NAN;
        dtype_from_f64(t, x.d, x.p, 37);
        k->unary(NULL, kind, t, x.p, y.p, 37);
        refresh(&y);
        for (int i = 0; i < 37; i++) cr_assert_eq(isnan(y.d[i]), i == 3 || i == 36, "%d", (int)kind);
        k->unary_grad(NULL, kind, t, x.p, one.p, y.p, 37);
        refresh(&y);
        for (int i = 0; i < 37; i++) cr_assert_eq(isnan(y.d[i]), i == 3 || i == 36, "%d", (int)kind);
        k->unary_grad(NULL, kind, t, one.p, x.p, y.p, 37);
        refresh(&y);
        for (int i = 0; i < 37; i++) cr_assert_eq(isnan(y.d[i]), i == 3 || i == 36, "%d", (int)kind);
        drop(&x), drop(&y), drop(&one);
    }
}

// ---- Norms ------------------------------------------------------------------------------------------------
// A layer norm is a group norm with S = 1, G = 1; one reference serves both.

typedef struct {
    int64_t B, S, C, G;
    double eps;
    bool silu;
    const double *x, *gamma, *beta; // gamma, beta may be NULL
} norm_ref;

static int64_t group_of(const norm_ref *r, int64_t i) {
    return i / (r->S * r->C) * r->G + i % r->C / (r->C / r->G);
}

static void norm_stats_ref(const norm_ref *r, double *stats) {
    int64_t n = r->B * r->S * r->C;
    double per = (double)(r->S * (r->C / r->G)), *square = zeros(r->B * r->G);
    memset(stats, 0, (size_t)(r->B * r->G * 2) * sizeof *stats);
    for (int64_t i = 0; i < n; i++) stats[2 * group_of(r, i)] += r->x[i] / per;
    for (int64_t i = 0; i < n; i++) {
        int64_t g = group_of(r, i);
        square[g] += (r->x[i] - stats[2 * g]) * (r->x[i] - stats[2 * g]) / per;
    }
    for (int64_t g = 0; g < r->B * r->G; g++) stats[2 * g + 1] = 1 / sqrt(square[g] + r->eps);
    mem_free(square);
}

static double norm_z(const norm_ref *r, const double *stats, int64_t i, double *xhat) {
    int64_t g = group_of(r, i), c = i % r->C;
    *xhat = (r->x[i] - stats[2 * g]) * stats[2 * g + 1];
    return *xhat * (r->gamma ? r->gamma[c] : 1) + (r->beta ? r->beta[c] : 0);
}

static void norm_forward_ref(const norm_ref *r, double *stats, double *y) {
    norm_stats_ref(r, stats);
    for (int64_t i = 0; i < r->B * r->S * r->C; i++) {
        double xhat, z = norm_z(r, stats, i, &xhat);
        y[i] = r->silu ? unary_ref(UNARY_SILU, z) : z;
    }
}

static void norm_grad_ref(const norm_ref *r, const double *dy, double *dx, double *dgamma, double *dbeta) {
    int64_t n = r->B * r->S * r->C, groups = r->B * r->G;
    double per = (double)(r->S * (r->C / r->G)), *stats = zeros(2 * groups), *m = zeros(2 * groups);
    norm_stats_ref(r, stats);
    memset(dgamma, 0, (size_t)r->C * sizeof *dgamma);
    memset(dbeta, 0, (size_t)r->C * sizeof *dbeta);
    for (int pass = 0; pass < 2; pass++)
        for (int64_t i = 0; i < n; i++) {
            int64_t g = group_of(r, i), c = i % r->C;
            double xhat, z = norm_z(r, stats, i, &xhat);
            double dz = dy[i] * (r->silu ? unary_slope_ref(UNARY_SILU, z) : 1),
                   d = dz * (r->gamma ? r->gamma[c] : 1);
            if (pass == 0) {
                dgamma[c] += dz * xhat;
                dbeta[c] += dz;
                m[2 * g] += d / per;
                m[2 * g + 1] += d * xhat / per;
            } else {
                dx[i] = (d - m[2 * g] - xhat * m[2 * g + 1]) * stats[2 * g + 1];
            }
        }
    mem_free(stats), mem_free(m);
}

static double norm_loss(const norm_ref *r, const double *w) {
    int64_t n = r->B * r->S * r->C;
    double *stats = zeros(2 * r->B * r->G), *y = zeros(n), s = 0;
    norm_forward_ref(r, stats, y);
    for (int64_t i = 0; i < n; i++) s += w[i] * y[i];
    mem_free(stats), mem_free(y);
    return s;
}

static void check_slope(const norm_ref *r, const double *w, double *at, double want) {
    double h = 1e-5, keep = *at, up, down;
    *at = keep + h, up = norm_loss(r, w);
    *at = keep - h, down = norm_loss(r, w);
    *at = keep;
    cr_assert_float_eq((up - down) / (2 * h), want, 1e-6 * (1 + fabs(want)));
}

Test(kernels, norm_reference_gradient_is_a_derivative) {
    for (int silu = 0; silu < 2; silu++) {
        array x = make(DT_F32, 2 * 3 * 6, 1, 2), p = make(DT_F32, 12, 1, 1), w = make(DT_F32, 36, 0, 1);
        norm_ref r = {2, 3, 6, 2, 1e-5, silu, x.d, p.d, p.d + 6};
        double dx[36], dgamma[6], dbeta[6];
        norm_grad_ref(&r, w.d, dx, dgamma, dbeta);
        for (int i = 0; i < 36; i++) check_slope(&r, w.d, x.d + i, dx[i]);
        for (int i = 0; i < 6; i++) check_slope(&r, w.d, p.d + i, dgamma[i]);
        for (int i = 0; i < 6; i++) check_slope(&r, w.d, p.d + 6 + i, dbeta[i]);
        drop(&x), drop(&p), drop(&w);
    }
}

// Means are exact to a few roundings of the data, rstd to its own.
static void check_stats(const char *what, cpu_level level, array *stats, const double *want, double eps,
                        double size) {
    refresh(stats);
    for (int64_t i = 0; i < stats->n; i++) {
        double off = fabs(stats->d[i] - want[i]), tol = eps * (i & 1 ? want[i] : size);
        cr_assert(off <= tol, "%s stats %s [%ld]: %.9g, not %.9g (tolerance %.2g)", what,
                  cpu_level_name(level), (long)i, stats->d[i], want[i], tol);
    }
}

static double largest(const double *x, int64_t n) {
    double m = 0;
    for (int64_t i = 0; i < n; i++) m = fmax(m, fabs(x[i]));
    return m;
}

// x̂ carries the rounding of the mean, eps·|mean|/σ, once from the stored mean and once from x itself in
// bf16's reference (exact there); everything else is a few roundings of terms of size 1 to |x̂|max.
static void norm_case(int64_t B, int64_t S, int64_t C, int64_t G, double ratio, bool silu, bool plain) {
    int64_t n = B * S * C;
    EACH_LEVEL(k, level) EACH_TYPE(t) {
        array x = make(t, n, ratio * 2, 2), dy = make(t, n, 0, 1), y = make(t, n, 0, 1);
        array gamma = make(DT_F32, C, 1, 0.3), beta = make(DT_F32, C, 0, 0.5),
              stats = make(DT_F32, B * G * 2, 0, 1);
        array dgamma = make(DT_F32, C, 0, 1), dbeta = make(DT_F32, C, 0, 1);
        norm_ref r = {B, S, C, G, 1e-5, silu, x.d, plain ? NULL : gamma.d, plain ? NULL : beta.d};
        const float *pg = plain ? NULL : gamma.p, *pb = plain ? NULL : beta.p;
        double *want = zeros(n), *want_stats = zeros(2 * B * G), *wg = zeros(C), *wb = zeros(C);
        void *scratch = mem_alloc(group_norm_scratch(B, S, C));
        norm_forward_ref(&r, want_stats, want);
        double rstd = 0;
        for (int64_t g = 0; g < B * G; g++) rstd = fmax(rstd, want_stats[2 * g + 1]);
        double noise = 8 + 2 * largest(want_stats, 1) * rstd; // in units of EPS
        k->group_norm(NULL, t, x.p, pg, pb, y.p, stats.p, B, S, C, G, 1e-5f, silu, scratch);
        check_stats("group_norm", level, &stats, want_stats, 2 * noise * EPS, largest(x.d, n));
        check("group_norm", level, &y, want, 2 * noise * EPS, 2);
        k->group_normalise(NULL, t, x.p, pg, pb, stats.p, y.p, B, S, C, G, silu, scratch);
        check("group_normalise", level, &y, want, 2 * noise * EPS, 2);
        norm_grad_ref(&r, dy.d, want, wg, wb);
        k->group_norm_grad(NULL, t, x.p, pg, pb, stats.p, dy.p, y.p, dgamma.p, dbeta.p, B, S, C, G, silu,
                           scratch);
        check("group_norm dx", level, &y, want, 6 * noise * EPS, 2 * rstd);
        check("group_norm dgamma", level, &dgamma, wg, 2 * noise * EPS, 2 * (double)(B * S));
        check("group_norm dbeta", level, &dbeta, wb, 2 * noise * EPS, 2 * (double)(B * S));
        drop(&x), drop(&dy), drop(&y), drop(&gamma), drop(&beta), drop(&stats), drop(&dgamma), drop(&dbeta);
        mem_free(want), mem_free(want_stats), mem_free(wg), mem_free(wb), mem_free(scratch);
    }
}

Test(kernels, group_norm_and_its_gradient) {
    static const int64_t PER[] = {1, 2, 3, 10, 32};
    for (int i = 0; i < 12; i++) {
        int64_t per = PER[i % 5], G = between(1, 130 / per);
        norm_case(between(1, 3), between(2, 300), per * G, G, 0, i & 1, i % 3 == 0);
    }
    norm_case(1, 1, 7, 1, 0, false, false);
    norm_case(2, 700, 64, 32, 0, true, false); // past the size of one task
}

Test(kernels, group_norm_far_from_zero) {
    norm_case(1, 400, 6, 3, 1e3, false, false);
    norm_case(2, 129, 40, 4, 1e4, true, false);
}

static void layer_case(int64_t R, int64_t C, double ratio, bool plain) {
    EACH_LEVEL(k, level) EACH_TYPE(t) {
        array x = make(t, R * C, ratio * 2, 2), dy = make(t, R * C, 0, 1), y = make(t, R * C, 0, 1);
        array gamma = make(DT_F32, C, 1, 0.3), beta = make(DT_F32, C, 0, 0.5),
              stats = make(DT_F32, R * 2, 0, 1);
        array dgamma = make(DT_F32, C, 0, 1), dbeta = make(DT_F32, C, 0, 1);
        norm_ref r = {R, 1, C, 1, 1e-3, false, x.d, plain ? NULL : gamma.d, plain ? NULL : beta.d};
        double *want = zeros(R * C), *want_stats = zeros(2 * R), *wg = zeros(C), *wb = zeros(C);
        void *scratch = mem_alloc(layer_norm_scratch(R, C));
        norm_forward_ref(&r, want_stats, want);
        double rstd = 0;
        for (int64_t i = 0; i < R; i++) rstd = fmax(rstd, want_stats[2 * i + 1]);
        double noise = 8 + 2 * largest(want_stats, 1) * rstd;
        k->layer_norm(NULL, t, x.p, plain ? NULL : gamma.p, plain ? NULL : beta.p, y.p, stats.p, R, C, 1e-3f);
        check_stats("layer_norm", level, &stats, want_stats, 2 * noise * EPS, largest(x.d, R * C));
        check("layer_norm", level, &y, want, 2 * noise * EPS, 2);
        norm_grad_ref(&r, dy.d, want, wg, wb);
        k->layer_norm_grad(NULL, t, x.p, plain ? NULL : gamma.p, stats.p, dy.p, y.p, dgamma.p, dbeta.p, R, C,
                           scratch);
        check("layer_norm dx", level, &y, want, 6 * noise * EPS, 2 * rstd);
        check("layer_norm dgamma", level, &dgamma, wg, 2 * noise * EPS, 2 * (double)R);
        check("layer_norm dbeta", level, &dbeta, wb, 2 * noise * EPS, 2 * (double)R);
        drop(&x), drop(&dy), drop(&y), drop(&gamma), drop(&beta), drop(&stats), drop(&dgamma), drop(&dbeta);
        mem_free(want), mem_free(want_stats), mem_free(wg), mem_free(wb), mem_free(scratch);
    }
}

Test(kernels, layer_norm_and_its_gradient) {
    for (int i = 0; i < 8; i++) layer_case(between(1, 300), between(3, 130), 0, i == 4);
    layer_case(5, 1280, 0, false);
    layer_case(40, 96, 1e3, false);
}

// ---- Softmax, GEGLU ---------------------------------------------------------------------------------------

static double row_total(const double *a, const double *b, int64_t C) {
    double s = 0;
    for (int64_t c = 0; c < C; c++) s += a[c] * (b ? b[c] : 1);
    return s;
}

Test(kernels, softmax_and_its_gradient) {
    EACH_LEVEL(k, level) EACH_TYPE(t) for (int i = 0; i < 6; i++) {
        int64_t R = between(1, 40), C = between(1, 130), n = R * C;
        array x = make(t, n, 0, 4), y = make(t, n, 0, 1), dy = make(t, n, 0, 1), dx = make(t, n, 0, 1);
        double *soft = zeros(n), *lsoft = zeros(n), *want = zeros(n);
        for (int64_t r = 0; r < R; r++) {
            double s = 0;
            for (int64_t c = 0; c < C; c++) s += exp(x.d[r * C + c]);
            for (int64_t c = 0; c < C; c++) lsoft[r * C + c] = x.d[r * C + c] - log(s);
            for (int64_t c = 0; c < C; c++) soft[r * C + c] = exp(lsoft[r * C + c]);
        }
        k->softmax(NULL, t, x.p, y.p, R, C);
        check("softmax", level, &y, soft, 24 * EPS, 0.1);
        for (int64_t r = 0; r < R; r++) {
            double s = row_total(y.d + r * C, dy.d + r * C, C);
            for (int64_t c = r * C; c < (r + 1) * C; c++) want[c] = y.d[c] * (dy.d[c] - s);
        }
        k->softmax_grad(NULL, t, y.p, dy.p, dx.p, R, C);
        check("softmax_grad", level, &dx, want, 8 * EPS, 2);
        k->log_softmax(NULL, t, x.p, y.p, R, C);
        check("log_softmax", level, &y, lsoft, 4 * EPS, 16);
        for (int64_t r = 0; r < R; r++) {
            double s = row_total(dy.d + r * C, NULL, C);
            for (int64_t c = r * C; c < (r + 1) * C; c++) want[c] = dy.d[c] - exp(y.d[c]) * s;
        }
        k->log_softmax_grad(NULL, t, y.p, dy.p, dx.p, R, C);
        check("log_softmax_grad", level, &dx, want, 8 * EPS, (double)C);
        drop(&x), drop(&y), drop(&dy), drop(&dx), mem_free(soft), mem_free(lsoft), mem_free(want);
    }
}

// The rows whose sums overflow without care, and a mask of −∞.
Test(kernels, softmax_of_large_values) {
    EACH_LEVEL(k, level) {
        float x[3] = {3000, 2999, -INFINITY}, y[3];
        k->softmax(NULL, DT_F32, x, y, 1, 3);
        cr_assert_float_eq(y[0], 0.7310586, 1e-6);
        cr_assert_eq(y[2], 0);
        x[1] = NAN;
        k->softmax(NULL, DT_F32, x, y, 1, 3);
        cr_assert(isnan(y[0]) && isnan(y[1]) && isnan(y[2]), "%s", cpu_level_name(level));
    }
}

Test(kernels, geglu_and_its_gradient) {
    EACH_LEVEL(k, level) EACH_TYPE(t) for (int i = 0; i < 4; i++) {
        int64_t R = between(1, 20), C = between(1, 130), n = R * C;
        array x = make(t, 2 * n, 0, 2), y = make(t, n, 0, 1), dy = make(t, n, 0, 1),
              dx = make(t, 2 * n, 0, 1);
        double *want = zeros(n), *want_dx = zeros(2 * n);
        for (int64_t j = 0; j < n; j++) {
            int64_t ia = j / C * 2 * C + j % C, ib = ia + C;
            want[j] = x.d[ia] * unary_ref(UNARY_GELU, x.d[ib]);
            want_dx[ia] = dy.d[j] * unary_ref(UNARY_GELU, x.d[ib]);
            want_dx[ib] = dy.d[j] * x.d[ia] * unary_slope_ref(UNARY_GELU, x.d[ib]);
        }
        k->geglu(NULL, t, x.p, y.p, R, C);
        check("geglu", level, &y, want, 8 * EPS, 4);
        k->geglu_grad(NULL, t, x.p, dy.p, dx.p, R, C);
        check("geglu_grad", level, &dx, want_dx, 8 * EPS, 8);
        drop(&x), drop(&y), drop(&dy), drop(&dx), mem_free(want), mem_free(want_dx);
    }
}

// ---- Broadcasting and sums --------------------------------------------------------------------------------

static int64_t volume(const int64_t n[4]) { return n[0] * n[1] * n[2] * n[3]; }

// Where element i of a tensor of shape n lies in one of shape m, whose dims are 1 or those of n.
static int64_t broadcast_index(int64_t i, const int64_t n[4], const int64_t m[4]) {
    int64_t at = 0, digit[4];
    for (int d = 3; d >= 0; d--) digit[d] = i % n[d], i /= n[d];
    for (int d = 0; d < 4; d++) at = at * m[d] + (m[d] == 1 ? 0 : digit[d]);
    return at;
}

static double binary_ref(binary_kind kind, double a, double b) {
    return kind == BINARY_ADD ? a + b : kind == BINARY_SUB ? a - b : kind == BINARY_MUL ? a * b : a / b;
}

Test(kernels, binary_over_every_broadcast) {
    EACH_LEVEL(k, level) EACH_TYPE(t) EACH_TYPE(tb) for (unsigned mask = 0; mask < 16; mask++) {
        binary_kind kind = (binary_kind)(mask % (BINARY_DIV + 1));
        int64_t n[4], m[4];
        for (int d = 0; d < 4; d++) n[d] = between(1, d == 3 ? 40 : 5), m[d] = mask >> d & 1 ? n[d] : 1;
        array a = make(t, volume(n), 0, 1), b = make(tb, volume(m), 3, 0.5), y = make(t, volume(n), 0, 1);
        double *want = zeros(volume(n));
        for (int64_t i = 0; i < volume(n); i++)
            want[i] = binary_ref(kind, a.d[i], b.d[broadcast_index(i, n, m)]);
        k->binary(NULL, kind, t, a.p, tb, b.p, m, y.p, n);
        check("binary", level, &y, want, 2 * EPS, 0);
        drop(&a), drop(&b), drop(&y), mem_free(want);
    }
}

static void reduce_case(const int64_t n[4], unsigned mask) {
    int64_t m[4];
    for (int d = 0; d < 4; d++) m[d] = mask >> d & 1 ? 1 : n[d];
    double terms = (double)volume(n) / (double)volume(m);
    EACH_LEVEL(k, level) EACH_TYPE(t) EACH_TYPE(ty) {
        array x = make(t, volume(n), 0.3, 1), y = make(ty, volume(m), 0, 1);
        double *want = zeros(volume(m));
        void *scratch = mem_alloc(reduce_sum_scratch(n, mask));
        for (int64_t i = 0; i < volume(n); i++) want[broadcast_index(i, n, m)] += x.d[i];
        k->reduce_sum(NULL, t, x.p, ty, y.p, n, mask, scratch);
        check("reduce_sum", level, &y, want, 4 * EPS, terms);
        drop(&x), drop(&y), mem_free(want), mem_free(scratch);
    }
}

Test(kernels, reduce_sum_over_every_mask) {
    for (unsigned mask = 0; mask < 16; mask++) {
        int64_t n[4];
        for (int d = 0; d < 4; d++) n[d] = between(1, 12);
        reduce_case(n, mask);
    }
    reduce_case((int64_t[4]){2, 1, 3000, 33}, 7);   // bias gradient
    reduce_case((int64_t[4]){1, 1, 1, 100003}, 15); // full sum
    reduce_case((int64_t[4]){3, 5000, 1, 1}, 2);    // one sum per sample
    reduce_case((int64_t[4]){600, 2, 300, 3}, 5);   // two separate runs
}

Test(kernels, sum_squares) {
    EACH_LEVEL(k, level) {
        array x = make(DT_F32, 100001, 0.1, 1);
        void *scratch = mem_alloc(sum_squares_scratch(x.n));
        double want = row_total(x.d, x.d, x.n);
        cr_assert_float_eq(k->sum_squares(NULL, x.p, x.n, scratch), want, want * 8 * EPS, "%s",
                           cpu_level_name(level));
        cr_assert_eq(k->sum_squares(NULL, x.p, 0, scratch), 0);
        drop(&x), mem_free(scratch);
    }
}

Test(kernels, affine_cast_fill) {
    EACH_LEVEL(k, level) EACH_TYPE(t) EACH_TYPE(to) {
        int64_t n = between(1, 40000);
        array x = make(t, n, 0, 3), y = make(to, n, 0, 1), z = make(t, n, 0, 1);
        double *want = zeros(n);
        k->cast(NULL, t, x.p, to, y.p, n);
        for (int64_t i = 0; i < n; i++)
            want[i] = to == DT_BF16 ? bf16_to_f32(f32_to_bf16((float)x.d[i])) : x.d[i];
        refresh(&y);
        for (int64_t i = 0; i < n; i++) cr_assert_eq(y.d[i], want[i]);
        k->affine(NULL, t, x.p, z.p, n, 0.5f, -1.25f);
        for (int64_t i = 0; i < n; i++) want[i] = 0.5 * x.d[i] - 1.25;
        check("affine", level, &z, want, EPS, 1);
        k->fill(NULL, t, z.p, n, 0.75f);
        refresh(&z);
        for (int64_t i = 0; i < n; i++) cr_assert_eq(z.d[i], 0.75);
        drop(&x), drop(&y), drop(&z), mem_free(want);
    }
}

Test(kernels, clamp_and_its_gradient) {
    EACH_LEVEL(k, level) EACH_TYPE(t) {
        int64_t n = between(1, 40000);
        array x = make(t, n, 0, 3), dy = make(t, n, 0, 1), y = make(t, n, 0, 1);
        k->clamp(NULL, t, x.p, y.p, n, -0.75f, 1.5f);
        refresh(&y);
        for (int64_t i = 0; i < n; i++) cr_assert_eq(y.d[i], fmin(fmax(x.d[i], -0.75), 1.5));
        k->clamp_grad(NULL, t, x.p, dy.p, y.p, n, -0.75f, 1.5f);
        refresh(&y);
        for (int64_t i = 0; i < n; i++) cr_assert_eq(y.d[i], x.d[i] >= -0.75 && x.d[i] <= 1.5 ? dy.d[i] : 0);
        drop(&x), drop(&dy), drop(&y);
    }
}

// ---- Moves ------------------------------------------------------------------------------------------------

// Two tensors side by side, the way channels are concatenated, then a zeroed border.
Test(kernels, copy_block_concatenates_and_clears) {
    EACH_LEVEL(k, level) {
        enum { R = 50, A = 7, B = 11, N = A + B };
        uint8_t a[R * A], b[R * B], y[R * N];
        for (int i = 0; i < R * A; i++) a[i] = (uint8_t)(i * 7 + 1);
        for (int i = 0; i < R * B; i++) b[i] = (uint8_t)(i * 5 + 2);
        k->copy_block(NULL, a, A, y, N, R, A);
        k->copy_block(NULL, b, B, y + A, N, R, B);
        for (int r = 0; r < R; r++)
            for (int c = 0; c < N; c++) cr_assert_eq(y[r * N + c], c < A ? a[r * A + c] : b[r * B + c - A]);
        k->copy_block(NULL, NULL, 0, y + 3, N, R, 2);
        for (int r = 0; r < R; r++)
            for (int c = 0; c < N; c++)
                cr_assert_eq(y[r * N + c], c == 3 || c == 4 ? 0 : c < A ? a[r * A + c] : b[r * B + c - A]);
    }
}

Test(kernels, copy_block_of_one_long_run) {
    enum { N = 300001 };
    uint8_t *a = mem_alloc(N), *b = mem_calloc(N, 1);
    for (int i = 0; i < N; i++) a[i] = (uint8_t)(i % 251);
    EACH_LEVEL(k, level) {
        memset(b, 0, N);
        k->copy_block(NULL, a, N, b, N, 1, N);
        cr_assert_arr_eq(a, b, N);
        k->copy_block(NULL, NULL, 0, b, N, 1, N);
        for (int i = 0; i < N; i++) cr_assert_eq(b[i], 0);
    }
    mem_free(a), mem_free(b);
}

Test(kernels, upsample_and_its_adjoint) {
    EACH_LEVEL(k, level) EACH_TYPE(t) for (int i = 0; i < 8; i++) {
        int64_t B = between(1, 2), H = between(1, 9), W = between(1, 9), C = between(1, 40);
        int64_t H2 = i < 2 ? 2 * H : between(1, 23), W2 = i < 2 ? 2 * W : between(1, 23), n = B * H * W * C;
        array x = make(t, n, 0, 1), y = make(t, B * H2 * W2 * C, 0, 1), dx = make(t, n, 0, 1);
        double *want = zeros(y.n), *adjoint = zeros(n);
        for (int64_t b = 0; b < B; b++)
            for (int64_t v = 0; v < H2; v++)
                for (int64_t u = 0; u < W2; u++)
                    for (int64_t c = 0; c < C; c++) {
                        int64_t from =
                            ((b * H + nearest_index(v, H, H2)) * W + nearest_index(u, W, W2)) * C + c;
                        int64_t to = ((b * H2 + v) * W2 + u) * C + c;
                        want[to] = x.d[from];
                        adjoint[from] += x.d[from];
                    }
        k->upsample_nearest(NULL, t, x.p, y.p, B, H, W, C, H2, W2);
        check("upsample_nearest", level, &y, want, 0, 0);
        k->sum_pool(NULL, t, y.p, dx.p, B, H, W, C, H2, W2);
        check("sum_pool", level, &dx, adjoint, 64 * EPS, 1);
        drop(&x), drop(&y), drop(&dx), mem_free(want), mem_free(adjoint);
    }
}

Test(kernels, embedding_and_its_gradient) {
    EACH_LEVEL(k, level) EACH_TYPE(t) EACH_TYPE(tt) {
        int64_t N = 77, V = between(1, 300), C = between(1, 70);
        array table = make(tt, V * C, 0, 1), y = make(t, N * C, 0, 1), dtable = make(DT_F32, V * C, 0, 1);
        double *want = zeros(N * C), *grad = zeros(V * C);
        int32_t ids[77];
        for (int i = 0; i < N; i++) ids[i] = (int32_t)between(0, V - 1);
        ids[5] = -1, ids[6] = (int32_t)V, ids[7] = INT32_MIN, ids[8] = INT32_MAX;
        for (int64_t i = 0; i < N * C; i++)
            want[i] = i / C >= 5 && i / C <= 8 ? 0 : table.d[ids[i / C] * C + i % C];
        k->embedding(NULL, tt, table.p, ids, t, y.p, N, V, C);
        check("embedding", level, &y, want, 0, 0);
        for (int64_t i = 0; i < N * C; i++)
            if (i / C < 5 || i / C > 8) grad[ids[i / C] * C + i % C] += y.d[i];
        k->embedding_grad(NULL, t, ids, y.p, dtable.p, N, V, C);
        check("embedding_grad", level, &dtable, grad, 80 * EPS, 1);
        drop(&table), drop(&y), drop(&dtable), mem_free(want), mem_free(grad);
    }
}

// PyTorch's nearest (2.13, interpolate with size=) rounds n/n2 to f32: index 41 of 82 is source 0 of 2,
// not 1.
Test(kernels, nearest_index_is_pytorchs) {
    cr_assert_eq(nearest_index(41, 2, 82), 0);
    cr_assert_eq(nearest_index(47, 2, 94), 0);
    cr_assert_eq(nearest_index(48, 2, 94), 1);
    for (int i = 0; i < 200; i++) cr_assert_eq(nearest_index(i, 100, 200), i / 2);
}

// Values of diffusers 0.42: get_timestep_embedding.
Test(kernels, timestep_embedding_is_diffusers) {
    static const float T1[] = {0, 999, 37.5f}, T2[] = {981, 3};
    static const double WANT1[] = {1,          1,          1,          0,           0,         0,
                                   0.9996498,  -0.7286733, -0.5492647, -0.02646075, 0.6848614, 0.8356485,
                                   0.98024267, -0.1689849, 0.9967381,  -0.1977988,  0.9856187, 0.0807034};
    static const double WANT2[] = {0.7332518, -0.3757644, 0.0979427, 0.6799572,  -0.9267152, 0.9951921, 0,
                                   0.1411200, 0.0299955,  3e-4,      -0.9899925, 0.9995500,  1.0,       0};
    EACH_LEVEL(k, level) {
        float y[18];
        k->timestep_embedding(NULL, T1, y, 3, 6, true, 0, 10000);
        for (int i = 0; i < 18; i++) cr_assert_float_eq(y[i], WANT1[i], 1e-6, "%d: %.8f", i, y[i]);
        k->timestep_embedding(NULL, T2, y, 2, 7, false, 1, 10000);
        for (int i = 0; i < 14; i++) cr_assert_float_eq(y[i], WANT2[i], 1e-6, "%d: %.8f", i, y[i]);
    }
}

// ---- Optimiser --------------------------------------------------------------------------------------------

Test(kernels, adamw_and_ema) {
    EACH_LEVEL(k, level) {
        int64_t n = 1003;
        array p = make(DT_F32, n, 0, 1), m = make(DT_F32, n, 0, 0.1), v = make(DT_F32, n, 2, 0.2);
        array g = make(DT_F32, n, 0, 1), e = make(DT_F32, n, 0, 1);
        adamw_step s = {1e-2f, 0.9f, 0.99f, 1e-8f, 0.1f, 0.271f, 0.029701f, 0.5f};
        double *wp = zeros(n), *wm = zeros(n), *wv = zeros(n), *we = zeros(n);
        for (int64_t i = 0; i < n; i++) {
            double gi = g.d[i] * (double)s.grad_scale, b1 = (double)s.b1, b2 = (double)s.b2;
            wm[i] = b1 * m.d[i] + (1 - b1) * gi;
            wv[i] = b2 * v.d[i] + (1 - b2) * gi * gi;
            wp[i] = p.d[i] * (1 - (double)s.lr * (double)s.wd) -
                    (double)s.lr / (double)s.c1 * wm[i] / (sqrt(wv[i]) / sqrt((double)s.c2) + (double)s.eps);
            we[i] = 0.999 * e.d[i] + 0.001 * p.d[i];
        }
        k->ema(NULL, e.p, p.p, n, 0.999f);
        check("ema", level, &e, we, 2 * EPS, 1);
        k->adamw(NULL, &s, p.p, m.p, v.p, g.p, n);
        check("adamw m", level, &m, wm, 4 * EPS, 1);
        check("adamw v", level, &v, wv, 4 * EPS, 1);
        check("adamw p", level, &p, wp, 4 * EPS, 1);
        drop(&p), drop(&m), drop(&v), drop(&g), drop(&e), mem_free(wp), mem_free(wm), mem_free(wv),
            mem_free(we);
    }
}

// ---- Independence of threads and batch --------------------------------------------------------------------

Test(kernels, results_do_not_depend_on_threads) {
    enum { B = 3, S = 1000, C = 40, N = B * S * C };
    static const int64_t SHAPE[4] = {B, 10, S / 10, C};
    team *teams[3] = {team_new(1), team_new(2), team_new(3)};
    EACH_LEVEL(k, level) EACH_TYPE(t) {
        array x = make(t, N, 1, 2), dy = make(t, N, 0, 1), gamma = make(DT_F32, C, 1, 1);
        void *scratch = mem_alloc(group_norm_scratch(B, S, C) + layer_norm_scratch(B * S, C) +
                                  reduce_sum_scratch(SHAPE, 7) + sum_squares_scratch(N));
        enum { KEPT = 2 * N + B * 8 + 6 * C + 2 * B * S };
        float *out[3];
        double squares[3];
        for (int i = 0; i < 3; i++) {
            float *y = out[i] = mem_calloc(KEPT + 2 * N, sizeof(float));
            float *dx = y + N, *stats = dx + N, *sums = stats + B * 8, *rows = sums + 6 * C;
            k->group_norm(teams[i], t, x.p, gamma.p, NULL, y, stats, B, S, C, 4, 1e-5f, true, scratch);
            k->group_norm_grad(teams[i], t, x.p, gamma.p, NULL, stats, dy.p, dx, sums, sums + C, B, S, C, 4,
                               true, scratch);
            float *ly = out[i] + KEPT, *ldx = ly + N;
            k->layer_norm(teams[i], t, x.p, gamma.p, NULL, ly, rows, B * S, C, 1e-5f);
            k->layer_norm_grad(teams[i], t, x.p, gamma.p, rows, dy.p, ldx, sums + 2 * C, sums + 3 * C, B * S,
                               C, scratch);
            k->reduce_sum(teams[i], t, x.p, DT_F32, sums + 4 * C, SHAPE, 7, scratch);
            k->reduce_sum(teams[i], t, x.p, DT_F32, sums + 5 * C, SHAPE, 15, scratch);
            squares[i] = k->sum_squares(teams[i], y, N / 2, scratch);
        }
        for (int i = 1; i < 3; i++) {
            cr_assert_eq(memcmp(out[0], out[i], (KEPT + 2 * N) * sizeof(float)), 0, "%s",
                         cpu_level_name(level));
            cr_assert_eq(squares[0], squares[i]);
        }
        // the second sample alone gives the bits it had in the batch
        size_t item = dtype_size(t), sample = (size_t)(S * C) * item;
        float *alone = mem_alloc(sample), stats[8];
        k->group_norm(teams[1], t, (char *)x.p + sample, gamma.p, NULL, alone, stats, 1, S, C, 4, 1e-5f, true,
                      scratch);
        cr_assert_eq(memcmp(alone, (char *)out[0] + sample, sample), 0);
        cr_assert_eq(memcmp(stats, out[0] + 2 * N + 8, sizeof stats), 0);
        for (int i = 0; i < 3; i++) mem_free(out[i]);
        drop(&x), drop(&dy), drop(&gamma), mem_free(scratch), mem_free(alone);
    }
    for (int i = 0; i < 3; i++) team_free(teams[i]);
}

// A NaN anywhere in a group, a row or a sum is seen in the whole result.
Test(kernels, nan_spreads_through_statistics) {
    EACH_LEVEL(k, level) EACH_TYPE(t) {
        array x = make(t, 2 * 50 * 6, 0, 1), y = make(t, 600, 0, 1), stats = make(DT_F32, 600, 0, 1);
        char scratch[20000] __attribute__((aligned(64)));
        cr_assert_leq(group_norm_scratch(2, 50, 6), sizeof scratch);
        x.d[37 * 6 + 4] = NAN; // sample 0, group 1 of 2
        dtype_from_f64(t, x.d, x.p, 600);
        k->group_norm(NULL, t, x.p, NULL, NULL, y.p, stats.p, 2, 50, 6, 2, 1e-5f, true, scratch);
        refresh(&y);
        for (int i = 0; i < 600; i++)
            cr_assert_eq(isnan(y.d[i]), i < 300 && i % 6 >= 3, "%s", cpu_level_name(level));
        k->layer_norm(NULL, t, x.p, NULL, NULL, y.p, NULL, 100, 6, 1e-5f);
        refresh(&y);
        for (int i = 0; i < 600; i++) cr_assert_eq(isnan(y.d[i]), i / 6 == 37);
        float sum[6];
        k->reduce_sum(NULL, t, x.p, DT_F32, sum, (int64_t[4]){1, 1, 100, 6}, 7, scratch);
        for (int c = 0; c < 6; c++) cr_assert_eq(isnan(sum[c]), c == 4);
        drop(&x), drop(&y), drop(&stats);
    }
}
