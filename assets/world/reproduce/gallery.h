// Pictures that a trained model draws for a reproduction, or true ones of the world, and what is measured of
// them.
#pragma once
#include "assets/world/scene.h"
#include "core/base/arena.h"
#include "core/base/status.h"
#include "core/base/threads.h"
#include "core/calotype.h"

#include <stddef.h>

typedef struct {
    int n, side;
    float *pixels; // [n,side,side,3] from −1 to 1 where the model keeps to the data's range; mem_free
    const char *const *prompts; // [n/each], borrowed
    int each;                   // pictures of a prompt; i is of prompts[i / each]
} gallery;

typedef struct {
    int steps;
    calo_spacing spacing;
    double guidance, rescale;
} gallery_style;

// `each` pictures of each prompt by DDIM, from the seeds 1 … each: the same noise for every model and style.
status gallery_draw(calo_context *ctx, calo_model *m, const char *const *prompts, int n_prompts, int each,
                    const gallery_style *style, gallery *out, error *err);
// True pictures of n scenes. Their prompts tell all that is shown and stay in `mem`.
status gallery_show(team *t, const scene *scenes, int n, int side, arena *mem, gallery *out, error *err);
void gallery_free(gallery *g); // a zeroed one is fine

// Values of one picture.
size_t gallery_values(const gallery *g);
// Mean of all values of picture i.
double gallery_brightness(const gallery *g, int i);
// Standard deviation of the pictures' brightness.
double gallery_spread(const gallery *g);
// Share of values farther than `margin` outside of −1 … 1.
double gallery_overexposed(const gallery *g, double margin);
// Root of the mean squared difference of two galleries of one size.
double gallery_difference(const gallery *a, const gallery *b);
// How far two sets of pictures are apart as samples of distributions: the root of the energy distance
// 2·E|X − Y| − E|X − X'| − E|Y − Y'| (Székely and Rizzo, 2013), in units of a value. Of galleries of the same
// prompts; pairs of one prompt do not count. The estimate has no bias, so it is below 0 now and then; its
// root is then given as a negative number.
double gallery_distance(const gallery *a, const gallery *b);
