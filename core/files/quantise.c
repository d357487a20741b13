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

// The largest size of n values; a nan if one of them is not finite. Several at a time, as no order matters.
static double largest(const double *v, uint64_t n) {
    enum { LANES = 8 };
    double most[LANES] = {0}, none[LANES] = {0}; // `none` is 0 of finite values only
    uint64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int k = 0; k < LANES; k++) {
            double size = fabs(v[i + k]);
            most[k] = size > most[k] ? size : most[k];
            none[k] += size - size;
        }
    for (; i < n; i++) {
        most[0] = fabs(v[i]) > most[0] ? fabs(v[i]) : most[0];
        none[0] += v[i] - v[i];
    }
    for (int k = 1; k < LANES; k++) {
        most[0] = most[k] > most[0] ? most[k] : most[0];
        none[0] += none[k];
    }
    return most[0] + none[0];
}

static bool range_of_group(const quantised_format *f, const double *v, uint64_t n, float *scale,
                           float *minimum) {
    double low = v[0], high = v[0], none = 0;
    for (uint64_t i = 0; i < n; i++) {
        low = low < v[i] ? low : v[i];
        high = high > v[i] ? high : v[i];
        none += v[i] - v[i];
    }
    *minimum = rounded(f->scale, low);
    *scale = rounded(f->scale, (high - low) / 15);
    return none == 0 && isfinite(*scale) && isfinite(*minimum);
}

static bool scale_of_group(const quantised_format *f, const double *v, uint64_t n, float *scale) {
    double most = largest(v, n);
    *scale = rounded(f->scale, f->balanced ? most : most / 127);
    return isfinite(*scale);
}

bool quantise_scales(const quantiser *q, const double *v, float *scale, float *minimum) {
    bool finite = true;
    for (uint64_t g = 0; g < q->groups; g++) {
        uint64_t n = group_length(q, g);
        finite = (q->format->minimum ? range_of_group(q->format, v, n, &scale[g], &minimum[g])
                                     : scale_of_group(q->format, v, n, &scale[g])) &&
                 finite;
        v += n;
    }
    return finite;
}

// ---------------------------------------------------------------- codes

enum { CHUNK = 256 }; // values at a time, at most

static double between(double v, double low, double high) { return v < low ? low : v > high ? high : v; }

// To nearest, ties to even, below 2^51: from 2^52 on doubles are whole.
static double nearest(double v) { return v + 0x1.8p52 - 0x1.8p52; }

static void steps_of(const double *v, uint64_t n, float scale, double *u, int *step) {
    for (uint64_t i = 0; i < n; i++) {
        u[i] = scale > 0 ? v[i] / scale : 0;
        step[i] = (int)between((u[i] + 1) * (QUANTISE_STEPS / 2), 0, QUANTISE_STEPS - 1);
    }
}

// A code in each byte.
static void codes_of(const quantiser *q, const double *v, uint64_t n, float scale, float minimum,
                     const unsigned char *bins, unsigned char *code) {
    double u[CHUNK];
    int step[CHUNK];
    if (q->format->balanced) {
        steps_of(v, n, scale, u, step);
        for (uint64_t i = 0; i < n; i++) code[i] = bins[step[i]];
    } else if (!(scale > 0)) {
        memset(code, 0, n);
    } else if (q->format->minimum) {
        for (uint64_t i = 0; i < n; i++)
            code[i] = (unsigned char)nearest(between((v[i] - minimum) / scale, 0, 15));
    } else {
        for (uint64_t i = 0; i < n; i++)
            code[i] = (unsigned char)(int)nearest(between(v[i] / scale, -127, 127));
    }
}

void quantise_codes(const quantiser *q, const double *v, const float *scale, const float *minimum,
                    const unsigned char *bins, unsigned char *codes) {
    unsigned char code[CHUNK];
    for (uint64_t g = 0, i = 0, n; g < q->groups; g++)
        for (uint64_t end = i + group_length(q, g); i < end; i += n) {
            n = end - i < CHUNK ? end - i : CHUNK;
            bool whole = q->format->bits == 8;
            codes_of(q, v + i, n, scale[g], q->format->minimum ? minimum[g] : 0, bins,
                     whole ? codes + i : code);
            for (uint64_t k = 0; k < n && !whole; k += 2)
                codes[(i + k) / 2] = (unsigned char)(code[k] | code[k + 1] << 4);
        }
}

// ---------------------------------------------------------------- balance

void quantise_count(const quantiser *q, const double *v, const float *scale, quantise_census *c) {
    double u[CHUNK];
    int step[CHUNK];
    for (uint64_t g = 0, i = 0, n; g < q->groups; g++)
        for (uint64_t end = i + group_length(q, g); i < end; i += n) {
            n = end - i < CHUNK ? end - i : CHUNK;
            steps_of(v + i, n, scale[g], u, step);
            for (uint64_t k = 0; k < n; k++) {
                c->of[step[k]].count++;
                c->of[step[k]].sum += u[k];
            }
        }
}

// Bin k ends with the step at which (k + 1) / bins of all have been seen. A bin without any repeats the level
// before.
void quantise_balance(quantiser *q, const quantise_census *c) {
    uint64_t all = 0, seen = 0, bins = UINT64_C(1) << q->format->bits;
    for (int i = 0; i < QUANTISE_STEPS; i++) all += c->of[i].count;
    for (int step = 0, k = 0; k < (int)bins; k++) {
        uint64_t n = 0;
        double sum = 0;
        while (step < QUANTISE_STEPS && seen * bins < (uint64_t)(k + 1) * all) {
            n += c->of[step].count;
            sum += c->of[step].sum;
            seen += c->of[step++].count;
        }
        q->last[k] = step - 1;
        q->levels[k] = n ? (float)(sum / (double)n) : k ? q->levels[k - 1] : 0;
    }
    q->last[bins - 1] = QUANTISE_STEPS - 1;
}

void quantise_bins(const quantiser *q, unsigned char bins[QUANTISE_STEPS]) {
    for (int step = 0, k = 0; step < QUANTISE_STEPS; step++) {
        while (q->last[k] < step) k++;
        bins[step] = (unsigned char)k;
    }
}
