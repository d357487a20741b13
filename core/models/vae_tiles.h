// The autoencoder for large pictures: stage by stage, each in bands of rows. Group norms take their
// statistics over the whole picture, so the result is the untiled one's but for rounding.
//
// Between stages the picture lies in memory once, in place where a stage keeps its size. Inside a stage it
// never does: for each group norm the bands are computed as far as its input and only its sums are kept, and
// once more for the result. Of SD's decoder that is a third of the memory for one and a half times the
// arithmetic.
#pragma once
#include "core/graph/plan.h"
#include "core/models/vae.h"

typedef struct {
    const vae_config *config;
    vae_way way;
    dtype compute;
    const weights *weights;
    store *values; // packed weights
    const backend *be;
    workspace *room;
    int64_t pixels; // of a band's result, about
    bool forgets;   // the weights of a stage when it is done: nothing else may use the store
    // After each run over a band or over a small picture; not OK ends the work. May be NULL.
    status (*progress)(void *user, error *err);
    void *user;
} vae_tiles;

// Bytes of activations that the network needs at once without tiles, about; H × W pixels.
int64_t vae_untiled_bytes(const vae_config *c, vae_way way, int64_t H, int64_t W, dtype compute);

// Bytes that vae_tiles_run needs with `forgets`, about, and the weights of one stage.
int64_t vae_tiled_bytes(const vae_config *c, vae_way way, int64_t H, int64_t W, dtype compute,
                        int64_t pixels);

// How many such runs there are.
int vae_tiles_runs(const vae_tiles *t, int64_t H, int64_t W);

// in: the network's input [H,W,C]; out: the last stage's result (vae.h). Sides of pictures are multiples of
// the factor f. The same values for any number of threads.
status vae_tiles_run(const vae_tiles *t, const float *in, int64_t H, int64_t W, float *out, error *err);
