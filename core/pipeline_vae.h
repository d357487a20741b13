// From latents to pictures and back: a model's autoencoder, which computes in f32 where bf16 overflows.
#pragma once
#include "core/calotype.h"
#include "core/files/image.h"
#include "core/models/model.h"

struct calo_model;

// An autoencoder for pictures whose latents are [h,w,C].
typedef struct {
    struct calo_model *model;
    dtype compute; // tried first
    int64_t C, h, w;
    calo_tiling tiling; // AUTO: where the whole would take more than 3 GiB, or than the context allows
    int64_t tile;       // pixels on the side of a square as large as a part; 0: VAE_TILE, or LEAN_TILE
    int image, images;  // of a request: progress in parts is that of this one, from 0
} autoencoder;

// Bytes of activations, about, where it works in parts; else 0. `least`: as if a limit of memory left no
// other way.
size_t autoencoder_tiled_bytes(const autoencoder *a, vae_way way, bool least);

// Whether all n values are numbers.
bool all_finite(const float *x, size_t n);

// x: latents [h,w,C] as the UNet sees them; rgb: [h f,w f,3]. ERR_DATA if the picture is not made of numbers.
status autoencoder_decode(const autoencoder *a, const float *x, uint8_t *rgb, error *err);

// What the autoencoder makes of a picture: the means and standard deviations of its latents, [h,w,C], as the
// autoencoder sees them.
typedef struct {
    float *mean, *deviation;
} encoded;

// im: [h f,w f,3], seen as grey where `hidden`, [h f,w f] or NULL, is 128 or more. Free with encoded_free in
// any case.
status autoencoder_encode(const autoencoder *a, const image *im, const image *hidden, encoded *to,
                          error *err);
void encoded_free(encoded *e);
