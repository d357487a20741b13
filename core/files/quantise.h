// Values into codes (quantised.h), a row at a time.
//
//   q8           scale = max|v| / 127 of the row; code = v / scale to nearest, ties to even.
//   q4           minimum = min v, scale = (max v − min v) / 15 of the group; code = (v − minimum) / scale to
//   nearest. q8-balanced, q4-balanced    scale = max|v| of the row or group; code = which of 256 or 16 bins
//   holds
//                u = v / scale. The bins hold equally many u of the tensor each: their ends are the
//                percentiles, as in "Balanced Quantization" (Zhou et al. 2017, arXiv 1706.07145). That paper
//                then maps the bins to evenly spaced values and trains the network with them. Weights that
//                are finished cannot follow such a stretching, so a bin's level is the mean of its u, which
//                of all levels has the least squared error. Percentiles are taken of u in steps of 2^-15 (the
//                paper allows approximate ones), which are counted, so no tensor is ever held in memory.
//
// Scales and minima are rounded to the type that is stored before codes are found with them; everything else
// is computed in double.
#pragma once
#include "core/files/quantised.h"

enum { QUANTISE_STEPS = 1 << 16 }; // of u, from −1 to 1

typedef struct {
    const quantised_format *format;
    uint64_t row, groups; // as in `quantised`
    // Of balanced bins, once known: the last step of each, and its level.
    int last[QUANTISED_MAX_LEVELS];
    float levels[QUANTISED_MAX_LEVELS];
} quantiser;

// How often each step of u occurs, and the sum of what occurs there.
typedef struct {
    struct {
        uint64_t count;
        double sum;
    } of[QUANTISE_STEPS];
} quantise_census;

// Whether tensors of this name and shape are quantised: the matrices and convolutions of a UNet and of text
// encoders.
bool quantise_takes(const char *name, int ndim, const int64_t *shape);

// A row's scales and minima, `groups` of each (minima only where the format has them). false: a value, or a
// scale in its type, is not finite.
bool quantise_scales(const quantiser *q, const double *v, float *scale, float *minimum);
// Its codes, as they are stored. `bins` of balanced formats: see below.
void quantise_codes(const quantiser *q, const double *v, const float *scale, const float *minimum,
                    const unsigned char *bins, unsigned char *codes);

// Balanced: counts a row; when all have been, makes the bins of the whole; which bin each step is in.
void quantise_count(const quantiser *q, const double *v, const float *scale, quantise_census *c);
void quantise_balance(quantiser *q, const quantise_census *c);
void quantise_bins(const quantiser *q, unsigned char bins[QUANTISE_STEPS]);
