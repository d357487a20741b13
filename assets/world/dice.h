// The world's random numbers: splitmix64, a counter passed through a mixer, so that any (seed, stream) can be
// drawn alone, in any order and on any thread.
#pragma once
#include <stdint.h>

typedef struct {
    uint64_t counter;
} dice;

static inline uint64_t dice_mix(uint64_t z) {
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static inline dice dice_new(uint64_t seed, uint64_t stream) {
    return (dice){dice_mix(seed ^ dice_mix(stream + 0x9e3779b97f4a7c15u))};
}

static inline uint64_t dice_next(dice *d) { return dice_mix(d->counter += 0x9e3779b97f4a7c15u); }

// [0, 1)
static inline double dice_unit(dice *d) { return (double)(dice_next(d) >> 11) * 0x1p-53; }

// [low, high)
static inline double dice_range(dice *d, double low, double high) {
    return low + (high - low) * dice_unit(d);
}

// 0 … n − 1
static inline int dice_below(dice *d, int n) { return (int)(dice_unit(d) * n); }

static inline int dice_chance(dice *d, double p) { return dice_unit(d) < p; }

// Mean 0, deviation 1, normal enough: the sum of four.
static inline double dice_bell(dice *d) {
    double sum = 0;
    for (int i = 0; i < 4; i++) sum += dice_unit(d);
    return 1.7320508075688772 * (sum - 2);
}
