// Latents in another size, as torch's interpolate makes them (align_corners=False).
#pragma once
#include "core/base/status.h"

#include <stdbool.h>
#include <stdint.h>

// NEAREST takes the pixel that a pixel's corner falls into, NEAREST_EXACT the one that its middle does.
typedef enum { LATENT_NEAREST, LATENT_NEAREST_EXACT, LATENT_BILINEAR, LATENT_BICUBIC } latent_filter;

// x [h,w,C] → y [H,W,C]. Antialiasing, of the last two filters alone, weighs what is inside of the picture
// only, and stretches the filter where the picture shrinks.
status latents_resize(const float *x, int64_t h, int64_t w, int64_t C, latent_filter filter, bool antialias,
                      float *y, int64_t H, int64_t W, error *err);
