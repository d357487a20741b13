// Winograd's convolutions against a plain loop in double.
#include "core/base/mem.h"
#include "core/cpu/winograd.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { GUARD = 256 };

typedef struct {
    winograd_desc d;
    int64_t Ho, Wo;
    size_t x_n, w_n, y_n;
    void *x, *residual, *y;
    float *w, *bias;
    double *want;
} problem;

// Uniform in [-0.5, 1), so that sums have a mean as they do behind SiLU.
static void fill(dtype t, void *p, size_t n, unsigned seed) {
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        double v = (int)seed / 2147483648. * 0.75 + 0.25;
        dtype_from_f64(t, &v, (char *)p + i * dtype_size(t), 1);
    }
}

static double value(dtype t, const void *p, size_t i) {
    double v;
    dtype_to_f64(t, (const char *)p + i * dtype_size(t), &v, 1);
    return v;
}

static void reference(problem *p) {
    const winograd_desc *d = &p->d;
    double *x = mem_alloc(p->x_n * sizeof *x);
    dtype_to_f64(d->t, p->x, x, p->x_n);
    for (int64_t b = 0, i = 0; b < d->B; b++)
        for (int64_t h = 0; h < p->Ho; h++)
            for (int64_t w = 0; w < p->Wo; w++)
                for (int64_t o = 0; o < d->Co; o++, i++) {
                    double sum = (double)p->bias[o] + value(d->t, p->residual, (size_t)i);
                    for (int tap = 0; tap < 9; tap++) {
                        int64_t y = h + tap / 3 - d->top, z = w + tap % 3 - d->left;
                        if (y < 0 || y >= d->H << d->up || z < 0 || z >= d->W << d->up) continue;
                        for (int64_t k = 0; k < d->Ci; k++)
                            sum += x[((b * d->H + (y >> d->up)) * d->W + (z >> d->up)) * d->Ci + k] *
                                   (double)p->w[(o * d->Ci + k) * 9 + tap];
                    }
                    p->want[i] = sum;
                }
    mem_free(x);
}

static problem problem_new(winograd_desc d, unsigned seed) {
    problem p = {
        .d = d, .Ho = (d.H << d.up) + d.top + d.bottom - 2, .Wo = (d.W << d.up) + d.left + d.right - 2};
    p.x_n = (size_t)(d.B * d.H * d.W * d.Ci);
    p.w_n = (size_t)(d.Co * d.Ci * 9);
    p.y_n = (size_t)(d.B * p.Ho * p.Wo * d.Co);
    p.x = mem_alloc(p.x_n * dtype_size(d.t));
    p.residual = mem_alloc(p.y_n * dtype_size(d.t));
    p.y = mem_alloc(p.y_n * dtype_size(d.t) + GUARD);
    p.w = mem_alloc(p.w_n * sizeof *p.w);
    p.bias = mem_alloc((size_t)d.Co * sizeof *p.bias);
    p.want = mem_alloc(p.y_n * sizeof *p.want);
    fill(d.t, p.x, p.x_n, seed);
    fill(d.t, p.residual, p.y_n, seed + 1);
    fill(DT_F32, p.w, p.w_n, seed + 2);
    fill(DT_F32, p.bias, (size_t)d.Co, seed + 3);
    for (size_t i = 0; i < p.w_n; i++) p.w[i] -= 0.25f;
    return p;
}

static void problem_free(problem *p) {
    void *all[] = {p->x, p->residual, p->y, p->w, p->bias, p->want};
    for (int i = 0; i < 6; i++) mem_free(all[i]);
}

// Nothing past the packed weights, the scratch or the result may be written. y holds the residual before,
// where `in_place`.
static void run(const problem *p, int threads, bool in_place) {
    team *t = team_new(threads);
    size_t packed_n = winograd_packed_bytes(&p->d), scratch_n = winograd_scratch_bytes(&p->d, threads),
           y_n = p->y_n * dtype_size(p->d.t);
    char *packed = mem_alloc(packed_n + GUARD), *scratch = mem_alloc(scratch_n + GUARD);
    memset(packed, 0x5a, packed_n + GUARD);
    memset(scratch, 0xff, scratch_n + GUARD); // NaN in both formats
    memset((char *)p->y + y_n, 0x5a, GUARD);
    if (in_place) memcpy(p->y, p->residual, y_n);
    winograd_pack(t, &p->d, p->w, packed);
    winograd_run(t, &p->d, p->x, packed, p->bias, in_place ? p->y : p->residual, p->y, scratch);
    for (int i = 0; i < GUARD; i++) {
        cr_assert_eq(packed[packed_n + (size_t)i], 0x5a, "past the packed weights");
        cr_assert_eq((unsigned char)scratch[scratch_n + (size_t)i], 0xff, "past the scratch");
        cr_assert_eq(((char *)p->y)[y_n + (size_t)i], 0x5a, "past the result");
    }
    mem_free(packed);
    mem_free(scratch);
    team_free(t);
}

// Root mean square of the error over that of the result. bf16: each operand is rounded by at most 2⁻⁹ (in the
// mean 2⁻⁹/√3), twice, and the transforms of F(2×2) let 1.9 times of it through (arXiv 1509.09308, section 5
// measures the same growth); the result is rounded once more: 2.2e-3 · 1.9 + 1.1e-3. f32: F(4×4) loses about
// four bits of 2⁻²⁴ and the sums of up to 96·9 terms lose less.
static double limit_of(dtype t) { return t == DT_BF16 ? 5.3e-3 : 1e-5; }

static double relative_error(const problem *p) {
    double error = 0, size = 0;
    for (size_t i = 0; i < p->y_n; i++) {
        double e = value(p->d.t, p->y, i) - p->want[i];
        cr_assert(isfinite(e), "[%zu] is not a number", i);
        error += e * e, size += p->want[i] * p->want[i];
    }
    return sqrt(error / size);
}

static const winograd_desc SHAPES[] = {
    {.B = 1, .H = 8, .W = 8, .Ci = 32, .Co = 64, .top = 1, .left = 1, .bottom = 1, .right = 1},
    {.B = 2, .H = 16, .W = 24, .Ci = 64, .Co = 64, .top = 1, .left = 1, .bottom = 1, .right = 1},
    {.B = 3, .H = 7, .W = 5, .Ci = 33, .Co = 65, .top = 1, .left = 1, .bottom = 1, .right = 1},
    {.B = 1, .H = 9, .W = 13, .Ci = 1, .Co = 1, .top = 1, .left = 1, .bottom = 1, .right = 1},
    {.B = 1, .H = 3, .W = 3, .Ci = 5, .Co = 130},
    {.B = 2, .H = 1, .W = 1, .Ci = 96, .Co = 17, .top = 1, .left = 1, .bottom = 1, .right = 1},
    {.B = 1, .H = 10, .W = 6, .Ci = 48, .Co = 40, .top = 2, .left = 0, .bottom = 0, .right = 2},
    {.B = 1, .H = 30, .W = 34, .Ci = 20, .Co = 80, .top = 1, .left = 1, .bottom = 1, .right = 1},
};
enum { N_SHAPES = sizeof SHAPES / sizeof *SHAPES };

static bool padded_by_one(const winograd_desc *d) {
    return d->top == 1 && d->left == 1 && d->bottom == 1 && d->right == 1;
}

// Calls with every shape, type and instruction set of this CPU.
static int each(void (*check)(winograd_desc d, unsigned seed)) {
    int checked = 0;
    for (int form = 0; form < 8; form++)
        for (unsigned i = 0; i < N_SHAPES; i++) {
            winograd_desc d = SHAPES[i];
            int kind = form % 4;
            d.t = kind >= 2 ? DT_BF16 : DT_F32;
            d.limit = kind == 0 ? CPU_AVX2 : CPU_BEST;
            d.up = kind == 3;
            d.lean = form >= 4;
            if (!winograd_runs(&d) || (d.up && !padded_by_one(&d))) continue;
            check(d, 7 * i + (unsigned)form);
            checked++;
        }
    return checked;
}

static void check_values(winograd_desc d, unsigned seed) {
    problem p = problem_new(d, seed);
    reference(&p);
    run(&p, 2, false);
    double e = relative_error(&p);
    cr_assert(e <= limit_of(d.t), "%s %dx%dx%dx%d -> %d: error %.2e", winograd_name(&d), (int)d.B, (int)d.H,
              (int)d.W, (int)d.Ci, (int)d.Co, e);
    problem_free(&p);
}

Test(winograd, convolutions_equal_the_direct_sum) {
    if (!each(check_values)) cr_skip_test("needs AVX2");
}

// An image alone and in a batch, on one thread and on more, in place and not: the same bytes.
static void check_bytes(winograd_desc d, unsigned seed) {
    problem p = problem_new(d, seed);
    size_t bytes = p.y_n * dtype_size(d.t);
    void *first = mem_alloc(bytes);
    run(&p, 1, false);
    memcpy(first, p.y, bytes);
    for (int threads = 1; threads <= 3; threads++) {
        run(&p, threads, threads > 1);
        cr_assert_arr_eq(p.y, first, bytes, "%d threads", threads);
    }
    problem one = p;
    one.d.B = 1;
    one.y_n /= (size_t)d.B;
    run(&one, 2, false);
    cr_assert_arr_eq(p.y, first, bytes / (size_t)d.B, "alone");
    mem_free(first);
    problem_free(&p);
}

Test(winograd, bytes_depend_on_neither_threads_nor_batch) {
    if (!each(check_bytes)) cr_skip_test("needs AVX2");
}
