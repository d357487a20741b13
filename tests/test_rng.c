#include "core/base/brownian.h"
#include "core/base/rng.h"
#include "tests/golden/samplers_brownian.h"
#include "tests/golden/samplers_rng.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>

#define LENGTH(a) (sizeof(a) / sizeof(a)[0])

static void close_to(const float *got, const float *want, size_t n, double tolerance) {
    for (size_t i = 0; i < n; i++)
        cr_assert(fabs((double)got[i] - want[i]) <= tolerance, "%zu: %.9g, not %.9g", i, got[i], want[i]);
}

static uint32_t crc32_of(const void *data, size_t size) {
    uint32_t crc = ~0u;
    for (const uint8_t *p = data, *end = p + size; p < end; p++) {
        crc ^= *p;
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
    }
    return ~crc;
}

enum { U = 100000, N = 100003, STRIDE = 997, KEPT = (N + STRIDE - 1) / STRIDE, LARGEST = 40 };

// 100,000 uniforms bit for bit, then 100,003 normals of which every 997th and the 40 largest are kept.
static void compare_with_torch(uint64_t seed, uint32_t crc, const float normals[KEPT],
                               const int where[LARGEST], const float largest[LARGEST]) {
    float *x = malloc(N * sizeof *x);
    mt19937 g;
    mt_seed(&g, seed);
    mt_uniform(&g, x, U);
    cr_assert_eq(crc32_of(x, U * sizeof *x), crc);
    mt_normal(&g, x, N);
    for (int i = 0; i < KEPT; i++) close_to(x + i * STRIDE, normals + i, 1, 1e-6);
    for (int i = 0; i < LARGEST; i++)
        close_to(x + where[i], largest + i, 1, 0x1p-21); // one last place of 4 to 8
    free(x);
}

Test(rng, equals_torch_cpu) {
    compare_with_torch(0, TORCH_RAND_CRC_0, torch_randn_0, torch_randn_0_where, torch_randn_0_largest);
    compare_with_torch(42, TORCH_RAND_CRC_42, torch_randn_42, torch_randn_42_where, torch_randn_42_largest);
    // Only the low 32 bits of a seed count.
    compare_with_torch((1ull << 32) + 5, TORCH_RAND_CRC_4294967301, torch_randn_4294967301,
                       torch_randn_4294967301_where, torch_randn_4294967301_largest);
}

Test(rng, torch_keeps_the_second_normal_between_calls) {
    static const size_t calls[] = {3, 1, 5, 16, 2, 15, 17, 40, 1};
    float x[40];
    mt19937 g;
    mt_seed(&g, 7);
    const float *want = torch_randn_calls;
    for (size_t i = 0; i < LENGTH(calls); i++) {
        mt_normal(&g, x, calls[i]);
        close_to(x, want, calls[i], 1e-6);
        want += calls[i];
    }
    cr_assert_eq(want, torch_randn_calls + LENGTH(torch_randn_calls));
}

// Published values for seed 0 that users compare; n changes them.
Test(rng, known_first_values) {
    static const float n4[] = {1.5409961f, -0.2934289f, -2.1787894f, 0.5684313f};
    static const float n16[] = {-1.1258398f, -1.1523602f, -0.2505786f, -0.4338788f, 0.8487104f};
    static const float n20[] = {-1.1258398f, -1.1523602f, -0.2505786f, -0.4338788f, 0.5988395f, -1.5550951f};
    static const float nv[] = {-0.924663f, -0.425344f, -2.643846f, 0.145184f, -0.120866f};
    float x[20];
    mt19937 g;
    mt_seed(&g, 0);
    mt_normal(&g, x, 4);
    close_to(x, n4, 4, 1e-6);
    mt_seed(&g, 0);
    mt_normal(&g, x, 16);
    close_to(x, n16, 5, 1e-6);
    mt_seed(&g, 0);
    mt_normal(&g, x, 20);
    close_to(x, n20, 6, 1e-6);
    nv_normal(&(nv_rng){.seed = 0}, x, 5);
    close_to(x, nv, 5, 1e-6);
}

// The vectors of the Random123 distribution (kat_vectors).
Test(rng, philox_known_answers) {
    philox_block zero = philox(0, 0, 0);
    static const uint32_t want0[] = {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8};
    philox_block ones = philox(~0ull, ~0ull, ~0ull);
    static const uint32_t want1[] = {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd};
    cr_assert_arr_eq(zero.w, want0, sizeof want0);
    cr_assert_arr_eq(ones.w, want1, sizeof want1);
}

Test(rng, nv_calls_differ_and_count) {
    nv_rng g = {.seed = 123};
    float a[8], b[8], again[8];
    nv_normal(&g, a, 8);
    nv_normal(&g, b, 8);
    cr_assert_neq(a[0], b[0]);
    nv_normal(&(nv_rng){.seed = 123, .calls = 1}, again, 8);
    cr_assert_arr_eq(b, again, sizeof b);
}

// Any part of a stream, however cut, holds the same values.
Test(rng, stream_is_a_function_of_position) {
    enum { COUNT = 100 };
    rng_stream s = {99, 3};
    float whole[COUNT], whole_u[COUNT], part[COUNT];
    uint32_t whole_i[COUNT], part_i[COUNT];
    stream_normal(s, 1000, whole, COUNT);
    stream_uniform(s, 1000, whole_u, COUNT);
    stream_integer(s, 1000, 17, whole_i, COUNT);
    for (size_t first = 0; first < COUNT; first += 7) {
        size_t n = COUNT - first < 13 ? COUNT - first : 13;
        stream_normal(s, 1000 + first, part, n);
        cr_assert_arr_eq(part, whole + first, n * sizeof *part);
        stream_uniform(s, 1000 + first, part, n);
        cr_assert_arr_eq(part, whole_u + first, n * sizeof *part);
        stream_integer(s, 1000 + first, 17, part_i, n);
        cr_assert_arr_eq(part_i, whole_i + first, n * sizeof *part_i);
    }
    stream_normal((rng_stream){99, 4}, 1000, part, COUNT);
    for (int i = 0; i < COUNT; i++) cr_assert_neq(part[i], whole[i]);
}

// Moments within 5 standard errors: 1/sqrt(n) of the mean, sqrt(2/n), sqrt(15/n), sqrt(96/n) of powers 2
// to 4.
Test(rng, stream_moments) {
    enum { COUNT = 1 << 20 };
    float *x = malloc(COUNT * sizeof *x);
    double m[4] = {0}, lag = 0, sum = 0, se = 5 / sqrt(COUNT);
    stream_normal((rng_stream){1, 1}, 0, x, COUNT);
    for (int i = 0; i < COUNT; i++) {
        double v = x[i], p = v;
        for (int k = 0; k < 4; k++, p *= v) m[k] += p / COUNT;
        if (i) lag += v * x[i - 1] / COUNT;
    }
    cr_assert_lt(fabs(m[0]), se);
    cr_assert_lt(fabs(m[1] - 1), sqrt(2) * se);
    cr_assert_lt(fabs(m[2]), sqrt(15) * se);
    cr_assert_lt(fabs(m[3] - 3), sqrt(96) * se);
    cr_assert_lt(fabs(lag), se);
    stream_uniform((rng_stream){1, 2}, 0, x, COUNT);
    for (int i = 0; i < COUNT; i++) {
        cr_assert(x[i] >= 0 && x[i] < 1);
        sum += x[i] / COUNT;
    }
    cr_assert_lt(fabs(sum - 0.5), sqrt(1.0 / 12) * se);
    free(x);
}

Test(rng, stream_integers_cover_the_range) {
    enum { COUNT = 70000, RANGE = 7 };
    uint32_t *x = malloc(COUNT * sizeof *x);
    int count[RANGE] = {0};
    stream_integer((rng_stream){5, 0}, 0, RANGE, x, COUNT);
    for (int i = 0; i < COUNT; i++) {
        cr_assert_lt(x[i], RANGE);
        count[x[i]]++;
    }
    for (int k = 0; k < RANGE; k++)
        cr_assert_lt(abs(count[k] - COUNT / RANGE), 500); // 5 standard deviations: 463
    stream_integer((rng_stream){5, 0}, 0, 1, x, 10);
    for (int i = 0; i < 10; i++) cr_assert_eq(x[i], 0);
    free(x);
}

// ---- Brownian motion

Test(rng, seed_sequences_equal_numpy) {
    for (size_t i = 0; i < sizeof seed_sequences / sizeof *seed_sequences; i++)
        cr_assert_eq(seed_sequence(seed_sequences[i].entropy, seed_sequences[i].key, seed_sequences[i].keys,
                                   seed_sequences[i].pool),
                     seed_sequences[i].first, "%zu", i);
}

static void cpu_normals(void *arg, uint32_t seed, float *y, size_t n) {
    mt19937 mt;
    ++*(int *)arg;
    mt_seed(&mt, seed);
    mt_normal(&mt, y, n);
}

// Of torchsde, whose sums are float32: a few roundings of increments about as large as their interval's root.
Test(rng, brownian_motion_equals_torchsde) {
    float y[20];
    for (size_t i = 0; i < sizeof brownian_walks / sizeof *brownian_walks; i++) {
        const double *t = brownian_walks[i].times;
        int n = brownian_walks[i].n, where[] = {0, 1, n / 2, n - 1}, drawn = 0;
        brownian b;
        cr_assert_eq(brownian_init(&b, brownian_walks[i].seed, brownian_walks[i].low, brownian_walks[i].high,
                                   (size_t)n, cpu_normals, &drawn, NULL),
                     OK);
        for (int k = 0; k + 1 < TIMES; k++) {
            brownian_noise(&b, t[k], t[k + 1], y);
            for (int j = 0; j < 4; j++)
                cr_assert_float_eq(y[where[j]], brownian_walks[i].x[4 * k + j], 1e-5, "walk %zu, way %d", i,
                                   k);
        }
        cr_assert_leq(drawn, 1 + 33 * TIMES); // the depth of the tree for each time
        brownian_free(&b);
    }
}

// Noise of parts adds up to that of the whole, in any order, and times outside are the ends.
Test(rng, brownian_motion_is_one_path) {
    enum { VALUES = 16 };
    float whole[VALUES], first[VALUES], last[VALUES];
    int drawn = 0;
    brownian b;
    cr_assert_eq(brownian_init(&b, 11, 0.5, 10, VALUES, cpu_normals, &drawn, NULL), OK);
    for (double middle = 1; middle < 9; middle += 1.37) {
        brownian_noise(&b, 9, middle, last);
        brownian_noise(&b, 9, 0.75, whole);
        brownian_noise(&b, middle, 0.75, first);
        for (int i = 0; i < VALUES; i++)
            cr_assert_float_eq(whole[i] * sqrt(8.25),
                               first[i] * sqrt(middle - 0.75) + last[i] * sqrt(9 - middle), 2e-6);
    }
    brownian_noise(&b, 10, 0.5, whole);
    brownian_noise(&b, 20, 0, first);
    for (int i = 0; i < VALUES; i++)
        cr_assert_float_eq(first[i] * sqrt(20), whole[i] * sqrt(9.5), 2e-6); // of the same increment
    brownian_noise(&b, 3, 3 + 1e-9, first);
    for (int i = 0; i < VALUES; i++) cr_assert_eq(first[i], 0.f);
    brownian_free(&b);
}

Test(rng, brownian_increments_are_normal) {
    enum { VALUES = 20000, WAYS = 4 };
    float *y = malloc(WAYS * VALUES * sizeof *y);
    double t[WAYS + 1] = {14.6, 9, 1, 0.9, 0.03};
    int drawn = 0;
    brownian b;
    cr_assert_eq(brownian_init(&b, 5, 0.03, 14.6, VALUES, cpu_normals, &drawn, NULL), OK);
    for (int k = 0; k < WAYS; k++) brownian_noise(&b, t[k], t[k + 1], y + k * VALUES);
    for (int k = 0; k < WAYS; k++)
        for (int j = 0; j <= k; j++) { // unit variance, no correlation, within five standard errors
            double product = 0;
            for (int i = 0; i < VALUES; i++)
                product += (double)y[k * VALUES + i] * y[j * VALUES + i] / VALUES;
            cr_assert_float_eq(product, j == k, 5 * sqrt((1. + (j == k)) / VALUES), "ways %d and %d", j, k);
        }
    brownian_free(&b);
    free(y);
}
