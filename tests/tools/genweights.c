#include "tests/tools/genweights.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

static uint64_t fnv1a64(uint64_t h, const char *s) {
    for (; *s; s++) h = (h ^ (unsigned char)*s) * 0x100000001B3u;
    return h;
}

static uint64_t hash(const char *name) { return fnv1a64(0xCBF29CE484222325u, name); }

// Vigna, splitmix64: a counter of golden-ratio steps, mixed.
static uint64_t mix(uint64_t seed, uint64_t i) {
    uint64_t z = seed + (i + 1) * 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

static double unit(uint64_t seed, int64_t i) { return (double)(mix(seed, (uint64_t)i) >> 40) * 0x1p-23 - 1; }

uint64_t gen_word(const char *name, uint64_t i) { return mix(hash(name), i); }

void gen_uniform(const char *name, int64_t n, float *out) {
    uint64_t seed = hash(name);
    for (int64_t i = 0; i < n; i++) out[i] = (float)unit(seed, i);
}

static bool ends_with(const char *s, const char *end) {
    size_t n = strlen(s), m = strlen(end);
    return n >= m && strcmp(s + n - m, end) == 0;
}

void gen_weight(const char *name, int rank, const int64_t *shape, float *out) {
    uint64_t seed = hash(name);
    int64_t n = 1, fan_in = 1;
    for (int i = 0; i < rank; i++) n *= shape[i];
    for (int i = 1; i < rank; i++) fan_in *= shape[i];
    bool matrix = rank >= 2 && !ends_with(name, ".lora_B.weight");
    double scale = matrix ? sqrt(3.0 / (double)fan_in) : 0.1;
    double offset = rank < 2 && ends_with(name, ".weight") ? 1 : 0;
    for (int64_t i = 0; i < n; i++) out[i] = (float)(offset + scale * unit(seed, i));
}

int64_t gen_index(const char *name, int64_t j, int64_t k, int64_t n) {
    if (n <= k) return j;
    uint64_t seed = fnv1a64(hash("index:"), name);
    return (int64_t)(mix(seed, (uint64_t)j) % (uint64_t)n);
}
