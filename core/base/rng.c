#include "core/base/rng.h"

#include <math.h>

// ---- MT19937 (Matsumoto and Nishimura 1998) ----

enum { MT_N = 624, MT_M = 397 };

void mt_seed(mt19937 *g, uint64_t seed) {
    *g = (mt19937){.next = MT_N};
    g->state[0] = (uint32_t)seed;
    for (uint32_t i = 1; i < MT_N; i++) {
        uint32_t last = g->state[i - 1];
        g->state[i] = 1812433253u * (last ^ last >> 30) + i;
    }
}

static void mt_refill(mt19937 *g) {
    uint32_t *s = g->state;
    for (int i = 0; i < MT_N; i++) {
        uint32_t y = (s[i] & 0x80000000u) | (s[(i + 1) % MT_N] & 0x7fffffffu);
        s[i] = s[(i + MT_M) % MT_N] ^ y >> 1 ^ (y & 1 ? 0x9908b0dfu : 0);
    }
    g->next = 0;
}

uint32_t mt_u32(mt19937 *g) {
    if (g->next == MT_N) mt_refill(g);
    uint32_t y = g->state[g->next++];
    y ^= y >> 11;
    y ^= y << 7 & 0x9d2c5680u;
    y ^= y << 15 & 0xefc60000u;
    return y ^ y >> 18;
}

void mt_uniform(mt19937 *g, float *out, size_t n) {
    for (size_t i = 0; i < n; i++) out[i] = (float)(mt_u32(g) & 0xffffff) * 0x1p-24f;
}

static double mt_uniform53(mt19937 *g) {
    uint64_t high = mt_u32(g);
    uint64_t bits = high << 32 | mt_u32(g);
    return (double)(bits & ((1ull << 53) - 1)) * 0x1p-53;
}

// Box-Muller in double, one value at a time; the sine waits for the next call.
static double mt_normal_one(mt19937 *g) {
    if (g->has_spare) {
        g->has_spare = false;
        return g->spare;
    }
    double angle = 2 * M_PI * mt_uniform53(g);
    double radius = sqrt(-2 * log1p(-mt_uniform53(g)));
    g->has_spare = true;
    g->spare = radius * sin(angle);
    return radius * cos(angle);
}

// Box-Muller over 16 uniforms: element j pairs with element j + 8. torch rounds the angle to float32, which
// moves a normal by up to 2e-6; the same rounding here keeps the two within 1e-6.
static void normal_block16(float *u) {
    for (int j = 0; j < 8; j++) {
        double radius = sqrt(-2 * log(1 - (double)u[j]));
        double angle = (float)(2 * M_PI) * u[j + 8];
        u[j] = (float)(radius * cos(angle));
        u[j + 8] = (float)(radius * sin(angle));
    }
}

void mt_normal(mt19937 *g, float *out, size_t n) {
    if (n < 16) {
        for (size_t i = 0; i < n; i++) out[i] = (float)mt_normal_one(g);
        return;
    }
    mt_uniform(g, out, n);
    for (size_t i = 0; i + 16 <= n; i += 16) normal_block16(out + i);
    if (n % 16) { // the last 16 places are drawn anew and overlap the block before
        mt_uniform(g, out + n - 16, 16);
        normal_block16(out + n - 16);
    }
}

// ---- Philox ----

philox_block philox(uint64_t key, uint64_t counter_low, uint64_t counter_high) {
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    uint32_t c0 = (uint32_t)counter_low, c1 = (uint32_t)(counter_low >> 32);
    uint32_t c2 = (uint32_t)counter_high, c3 = (uint32_t)(counter_high >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xd2511f53u * c0, p1 = (uint64_t)0xcd9e8d57u * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        k0 += 0x9e3779b9u;
        k1 += 0xbb67ae85u;
    }
    return (philox_block){{c0, c1, c2, c3}};
}

// A word as the middle of its interval of (0, 1): never 0, so its logarithm is finite.
static double open_unit(uint32_t word) { return word * 0x1p-32 + 0x1p-33; }

void nv_normal(nv_rng *g, float *out, size_t n) {
    for (size_t i = 0; i < n; i++) {
        philox_block b = philox(g->seed, g->calls, (uint32_t)i);
        out[i] = (float)(sqrt(-2 * log(open_unit(b.w[0]))) * sin(2 * M_PI * open_unit(b.w[1])));
    }
    g->calls++;
}

// ---- numpy's SeedSequence ----

static uint32_t hash_word(uint32_t value, uint32_t *constant, uint32_t multiplier) {
    value ^= *constant;
    *constant *= multiplier;
    value *= *constant;
    return value ^ value >> 16;
}

static void hash_into(uint32_t *to, uint32_t value, uint32_t *constant) {
    uint32_t mixed = 0xca01f9ddu * *to - 0x4973f715u * hash_word(value, constant, 0x931e8875u);
    *to = mixed ^ mixed >> 16;
}

// The 32-bit words of v, least first, at least one.
static int words_of(uint64_t v, uint32_t words[2]) {
    words[0] = (uint32_t)v;
    words[1] = (uint32_t)(v >> 32);
    return words[1] ? 2 : 1;
}

uint32_t seed_sequence(uint64_t entropy, const uint64_t *spawn_key, int keys, int pool) {
    uint32_t mixed[MAX_POOL] = {0}, words[2], into = 0x43b0d7e5u, out = 0x8b51f9ddu;
    words_of(entropy, mixed); // and zeros
    for (int i = 0; i < pool; i++) mixed[i] = hash_word(mixed[i], &into, 0x931e8875u);
    for (int from = 0; from < pool; from++)
        for (int to = 0; to < pool; to++)
            if (from != to) hash_into(&mixed[to], mixed[from], &into);
    for (int k = 0; k < keys; k++)
        for (int w = 0, n = words_of(spawn_key[k], words); w < n; w++)
            for (int to = 0; to < pool; to++) hash_into(&mixed[to], words[w], &into);
    return hash_word(mixed[0], &out, 0x58f38dedu);
}

// Value number i of a stream comes from word i % 4 of block i / 4; normals use the words in pairs.
static philox_block stream_block(rng_stream s, uint64_t position) {
    return philox(s.seed, position / 4, s.stream);
}

void stream_uniform(rng_stream s, uint64_t first, float *out, size_t n) {
    philox_block b = stream_block(s, first);
    for (size_t i = 0; i < n; i++) {
        uint64_t at = first + i;
        if (at % 4 == 0) b = stream_block(s, at);
        out[i] = (float)(b.w[at % 4] >> 8) * 0x1p-24f;
    }
}

void stream_normal(rng_stream s, uint64_t first, float *out, size_t n) {
    philox_block b = stream_block(s, first);
    for (size_t i = 0; i < n; i++) {
        uint64_t at = first + i;
        if (at % 4 == 0) b = stream_block(s, at);
        const uint32_t *pair = b.w + at % 4 / 2 * 2;
        double radius = sqrt(-2 * log(open_unit(pair[0]))), angle = 2 * M_PI * open_unit(pair[1]);
        out[i] = (float)(radius * (at % 2 ? sin(angle) : cos(angle)));
    }
}

void stream_integer(rng_stream s, uint64_t first, uint32_t range, uint32_t *out, size_t n) {
    philox_block b = stream_block(s, first);
    for (size_t i = 0; i < n; i++) {
        uint64_t at = first + i;
        if (at % 4 == 0) b = stream_block(s, at);
        out[i] = (uint32_t)((uint64_t)b.w[at % 4] * range >> 32);
    }
}
