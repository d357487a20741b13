#include "core/files/quantise.h"

#include <math.h>
#include <string.h>

// ---------------------------------------------------------------- which tensors

// What stays as it is: the autoencoder, embeddings, what the time or other features are embedded by, the
// first and the last convolution, in the names of both layouts.
static const char *const KEPT[] = {
    "first_stage_model.", "encoder.down", "encoder.mid",       "decoder.up", "decoder.mid",
    "quant_conv",         "embedding",    "time_embed.",       "label_emb.", "text_projection",
    "conv_in.",           "conv_out.",    "input_blocks.0.0.", ".out.2.",
};

bool quantise_takes(const char *name, int ndim, const int64_t *shape) {
    enum { LEAST_ROWS = 16, LEAST_ROW = 64 }; // below, scales are more than the codes save
    size_t n = strlen(name), end = strlen("weight");
    int64_t row = 1;
    if (n < end || strcmp(name + n - end, "weight") || (ndim != 2 && ndim != 4)) return false;
    for (size_t i = 0; i < sizeof KEPT / sizeof *KEPT; i++)
        if (strstr(name, KEPT[i])) return false;
    for (int i = 1; i < ndim; i++) row *= shape[i];
    return shape[0] >= LEAST_ROWS && row >= LEAST_ROW && shape[1] % 2 == 0;
}

// ---------------------------------------------------------------- scales

static float rounded(dtype t, double v) {
    uint16_t half;
    if (t == DT_F32) return (float)v;
    dtype_from_f64(DT_F16, &v, &half, 1);
    return f16_to_f32(half);
}

static uint64_t group_length(const quantiser *q, uint64_t g) {
    uint64_t first = g * QUANTISED_GROUP;
    if (!q->format->grouped) return q->row;
    return q->row - first < QUANTISED_GROUP ? q->row - first : QUANTISED_GROUP;
}

static bool scale_of_group(const quantised_format *f, const double *v, uint64_t n, float *scale,
                           float *minimum) {
    double low = v[0], high = v[0], most;
    bool finite = true;
    for (uint64_t i = 0; i < n; i++) {
        low = fmin(low, v[i]);
        high = fmax(high, v[i]);
        finite = finite && isfinite(v[i]);
    }
    most = fmax(fabs(low), fabs(high)); // never -0
    if (f->minimum) *minimum = rounded(f->scale, low);
    *scale = rounded(f->scale, f->minimum ? (high - low) / 15 : f->balanced ? most : most / 127);
    return finite && isfinite(*scale) && (!f->minimum || isfinite(*minimum));
}

bool quantise_scales(const quantiser *q, const double *v, float *scale, float *minimum) {
    bool finite = true;
    for (uint64_t g = 0; g < q->groups; g++) {
        uint64_t n = group_length(q, g);
        finite = scale_of_group(q->format, v, n, &scale[g], minimum ? &minimum[g] : NULL) && finite;
        v += n;
    }
    return finite;
}

// ---------------------------------------------------------------- codes

static double between(double v, double low, double high) { return v < low ? low : v > high ? high : v; }

static int step_of(double v, float scale) {
    return scale > 0 ? (int)between(floor((v / scale + 1) * (QUANTISE_STEPS / 2)), 0, QUANTISE_STEPS - 1)
                     : QUANTISE_STEPS / 2;
}

static int bin_of(const quantiser *q, int step) {
    int low = 0, high = (1 << q->format->bits) - 1; // the first bin whose last step is not before this one
    while (low < high) {
        int middle = (low + high) / 2;
        if (q->last[middle] < step)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static int code_of(const quantiser *q, double v, float scale, float minimum) {
    if (q->format->balanced) return bin_of(q, step_of(v, scale));
    if (!(scale > 0)) return 0;
    if (q->format->minimum) return (int)between(rint((v - minimum) / scale), 0, 15);
    return (int)between(rint(v / scale), -127, 127);
}

void quantise_codes(const quantiser *q, const double *v, const float *scale, const float *minimum,
                    unsigned char *codes) {
    for (uint64_t g = 0, i = 0; g < q->groups; g++)
        for (uint64_t end = i + group_length(q, g); i < end; i++) {
            int code = code_of(q, v[i], scale[g], q->format->minimum ? minimum[g] : 0);
            if (q->format->bits == 8)
                codes[i] = (unsigned char)code;
            else
                codes[i / 2] = (unsigned char)(i % 2 ? codes[i / 2] | code << 4 : code);
        }
}

// ---------------------------------------------------------------- balance

void quantise_count(const quantiser *q, const double *v, const float *scale, quantise_census *c) {
    for (uint64_t g = 0, i = 0; g < q->groups; g++)
        for (uint64_t end = i + group_length(q, g); i < end; i++) {
            int step = step_of(v[i], scale[g]);
            c->count[step]++;
            c->sum[step] += scale[g] > 0 ? v[i] / scale[g] : 0;
        }
}

// Bin k ends with the step at which (k + 1) / bins of all have been seen. A bin without any repeats the level
// before.
void quantise_balance(quantiser *q, const quantise_census *c) {
    uint64_t all = 0, seen = 0, bins = UINT64_C(1) << q->format->bits;
    for (int i = 0; i < QUANTISE_STEPS; i++) all += c->count[i];
    for (int step = 0, k = 0; k < (int)bins; k++) {
        uint64_t n = 0;
        double sum = 0;
        while (step < QUANTISE_STEPS && seen * bins < (uint64_t)(k + 1) * all) {
            n += c->count[step];
            sum += c->sum[step];
            seen += c->count[step++];
        }
        q->last[k] = step - 1;
        q->levels[k] = n ? (float)(sum / (double)n) : k ? q->levels[k - 1] : 0;
    }
    q->last[bins - 1] = QUANTISE_STEPS - 1;
}
