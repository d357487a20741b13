// Pictures that a trained model draws for a reproduction, and what is measured of them.
#pragma once
#include "core/base/status.h"
#include "core/calotype.h"

#include <stddef.h>

typedef struct {
    int n, side;
    float *pixels; // [n,side,side,3] from −1 to 1 where the model keeps to the data's range; mem_free
} gallery;

typedef struct {
    int steps;
    calo_spacing spacing;
    double guidance, rescale;
} gallery_style;

// `each` pictures of each prompt, from the seeds 1 … each, or of what the model says: the same noise for
// every model and style.
status gallery_draw(calo_context *ctx, calo_model *m, const char *const *prompts, int n_prompts, int each,
                    const gallery_style *style, gallery *out, error *err);
void gallery_free(gallery *g); // a zeroed one is fine

// Mean of all values of picture i.
double gallery_brightness(const gallery *g, int i);
// Standard deviation of the pictures' brightness.
double gallery_spread(const gallery *g);
// Share of values farther than `margin` outside of −1 … 1.
double gallery_overexposed(const gallery *g, double margin);
// Root of the mean squared difference of two galleries of one size.
double gallery_difference(const gallery *a, const gallery *b);
// How far two sets of pictures are apart as samples of distributions: the root of the energy distance
// 2·E|X − Y| − E|X − X'| − E|Y − Y'| (Székely and Rizzo, 2013), in units of a value.
double gallery_distance(const gallery *a, const gallery *b);
