// Classifier-free guidance (Ho and Salimans, arXiv 2207.12598) with rescale (Lin et al., arXiv 2305.08891,
// eq. 14-16).
#pragma once
#include <stdint.h>

// g = neg + scale (pos - neg); out = rescale · g · std(pos)/std(g) + (1 - rescale) · g, for each of B samples
// of n values (channels, height, width, and frames of a video), whatever the network predicts. std is
// unbiased over the n values; a constant g is not rescaled. `out` may be `pos` or `neg`.
void guidance_apply(float *out, const float *pos, const float *neg, int64_t B, int64_t n, double scale,
                    double rescale);

// The same with a picture as a second condition (Brooks et al., arXiv 2211.09800, eq. 3): of `both` text and
// picture, the `picture` alone, and neither, g = neither + picture_scale (picture - neither) + scale (both -
// picture). `out` may be one of the three.
void guidance_apply_picture(float *out, const float *both, const float *picture, const float *neither,
                            int64_t B, int64_t n, double scale, double picture_scale, double rescale);
