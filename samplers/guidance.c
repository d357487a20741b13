#include "samplers/guidance.h"

#include <math.h>

static double unbiased_std(const float *x, int64_t n) {
    double mean = 0, squares = 0;
    for (int64_t i = 0; i < n; i++) mean += x[i];
    mean /= (double)n;
    for (int64_t i = 0; i < n; i++) squares += (x[i] - mean) * (x[i] - mean);
    return n > 1 ? sqrt(squares / (double)(n - 1)) : 0;
}

static void guide_sample(float *out, const float *pos, const float *neg, int64_t n, double scale,
                         double rescale) {
    double std_pos = rescale != 0 ? unbiased_std(pos, n) : 0; // before `out` overwrites it
    for (int64_t i = 0; i < n; i++) out[i] = (float)(neg[i] + scale * ((double)pos[i] - neg[i]));
    double std_g = rescale != 0 ? unbiased_std(out, n) : 0;
    if (!(std_g > 0)) return;
    double factor = rescale * std_pos / std_g + 1 - rescale;
    for (int64_t i = 0; i < n; i++) out[i] = (float)(factor * out[i]);
}

void guidance_apply(float *out, const float *pos, const float *neg, int64_t B, int64_t n, double scale,
                    double rescale) {
    for (int64_t b = 0; b < B; b++) guide_sample(out + b * n, pos + b * n, neg + b * n, n, scale, rescale);
}
