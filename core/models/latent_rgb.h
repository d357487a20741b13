// What latents look like, cheaply: the colour of a latent as a linear function of its channels.
#pragma once
#include "core/base/status.h"

#include <stdint.h>

// map [C+1,3], the last row a constant: minimises the sum of (x·map − rgb)² over n pairs x [n,C], rgb [n,3].
// Fewer pairs than numbers give a small map of those that fit. ERR_DATA where values are no numbers.
status latent_rgb_fit(const float *x, const float *rgb, int64_t n, int64_t C, double *map, error *err);

// x [h,w,C] → out [h f,w f,3]: each latent is a square of its colour, 0 .. 1 of it as bytes.
void latent_rgb_draw(const double *map, const float *x, int64_t h, int64_t w, int64_t C, int64_t f,
                     uint8_t *out);
