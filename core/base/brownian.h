// Brownian motion as a function of a seed: the same path, however it is walked.
//
// Bisection, as torchsde's BrownianTree does it: each interval's increment is that of the one above it,
// shared out with normals whose seed follows from the path's seed and the place in the tree alone. Times are
// rounded to a millionth, which ends the bisection. Noise of k-diffusion's BrownianTreeNoiseSampler, and so
// the pictures of other programs, come out equal within their rounding.
#pragma once
#include "core/base/status.h"

#include <stddef.h>
#include <stdint.h>

// n unit normals, the first a generator of `seed` draws.
typedef void brownian_normals(void *arg, uint32_t seed, float *y, size_t n);

typedef struct {
    uint64_t seed;
    double low, high; // where the motion is known
    size_t n;         // values, independent of each other
    brownian_normals *normals;
    void *arg;
    double *whole;     // (n) from low to high
    double *increment; // (n) over the interval at hand
    double *value[2];  // (n) each, the motion from low to at[]; the latest two
    double at[2];
    int oldest;
    float *noise; // (n)
} brownian;

// low < high. ERR_TEMP when memory is short. Free with brownian_free in any case.
status brownian_init(brownian *b, uint64_t seed, double low, double high, size_t n, brownian_normals *normals,
                     void *arg, error *err);
void brownian_free(brownian *b); // accepts a zeroed one
// y = (B(to) - B(from)) / sqrt |to - from|: unit normals. Times outside are the nearest inside; 0 where the
// two are one.
void brownian_noise(brownian *b, double from, double to, float *y);
