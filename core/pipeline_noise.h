// Noise of a group of images: which generator draws it, and for whom.
#pragma once
#include "core/base/brownian.h"
#include "core/base/rng.h"
#include "core/pipeline.h"

typedef struct {
    calo_rng kind;
    mt19937 mt;
    nv_rng nv;
} noise_source;

// Letters: n images from `first` on; C h w latents.
typedef struct {
    const txt2img *t;
    int first, n;
    calo_rng kind;      // of the generators
    int sources;        // n, or 1: it draws for all images of the batch
    noise_source *from; // [sources]
    brownian *paths;    // [sources], or NULL where the steps' noise is plain
    float *planar;      // [batch,C,h,w]
} group_noise;

// Seeds the generators; ERR_USAGE where the request is no part of its batch. Free with group_noise_free in
// any case.
status group_noise_init(group_noise *g, const txt2img *t, int first, int n, error *err);
void group_noise_free(group_noise *g);
// y = unit noise, [n,h,w,C].
void group_noise_draw(group_noise *g, float *y);
// Called when the first noise is drawn: what follows is the steps'.
status group_noise_begin_steps(group_noise *g, error *err);
// The noise of a step, [n,h,w,C]: of the Brownian path, where there is one and the step takes noise away.
void group_noise_step(group_noise *g, const schedule_point *from, const schedule_point *to, float *y);

// Whether the steps' noise is of a Brownian path.
bool txt2img_has_path(const txt2img *t);
// For how many images one generator draws, and which of them image i is.
int txt2img_batch(const txt2img *t);
int txt2img_place(const txt2img *t, int i);
