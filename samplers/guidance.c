#include "samplers/guidance.h"

#include <math.h>

static double unbiased_std(const float *x, int64_t n) {
    double mean = 0, squares = 0;
    for (int64_t i = 0; i < n; i++) mean += x[i];
    mean /= (double)n;
    for (int64_t i = 0; i < n; i++) squares += (x[i] - mean) * (x[i] - mean);
    return n > 1 ? sqrt(squares / (double)(n - 1)) : 0;
}

// `spread`: unbiased_std of the conditional prediction.
static void rescale_sample(float *g, int64_t n, double spread, double rescale) {
    double std_g = rescale != 0 ? unbiased_std(g, n) : 0;
    if (!(std_g > 0)) return;
    double factor = rescale * spread / std_g + 1 - rescale;
    for (int64_t i = 0; i < n; i++) g[i] = (float)(factor * g[i]);
}

void guidance_apply(float *out, const float *pos, const float *neg, int64_t B, int64_t n, double scale,
                    double rescale) {
    for (int64_t b = 0; b < B; b++, out += n, pos += n, neg += n) {
        double spread = rescale != 0 ? unbiased_std(pos, n) : 0; // before `out` overwrites it
        for (int64_t i = 0; i < n; i++) out[i] = (float)(neg[i] + scale * ((double)pos[i] - neg[i]));
        rescale_sample(out, n, spread, rescale);
    }
}

void guidance_apply_picture(float *out, const float *both, const float *picture, const float *neither,
                            int64_t B, int64_t n, double scale, double picture_scale, double rescale) {
    for (int64_t b = 0; b < B; b++, out += n, both += n, picture += n, neither += n) {
        double spread = rescale != 0 ? unbiased_std(both, n) : 0;
        for (int64_t i = 0; i < n; i++)
            out[i] = (float)(neither[i] + picture_scale * ((double)picture[i] - neither[i]) +
                             scale * ((double)both[i] - picture[i]));
        rescale_sample(out, n, spread, rescale);
    }
}
