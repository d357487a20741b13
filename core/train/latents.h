// The latents of a feed's samples, encoded once and kept in files: what a text-to-image model is trained on.
//
// They lie in OUT/cache/KEY/, in shards that appear whole or not at all, so an interrupted encoding goes on
// where it was. The key stands for the samples, a folder's files among them, their sizes and the autoencoder.
#pragma once
#include "core/models/vae.h"
#include "core/train/feed.h"

typedef struct latents latents;

// Encodes what is missing; the feed must have an end and outlives the latents. `vae` is the folder of the
// autoencoder. NULL on failure; ERR_CANCELLED if the user stops it.
latents *latents_open(const feed *f, const vae_config *config, const char *vae, error *err);
void latents_close(latents *l); // NULL is fine

// The latent of the bucket's sample `place` as the UNet sees it: (mean − shift)·scaling, [h,w,L].
status latents_read(const latents *l, int bucket, uint64_t place, float *dst, error *err);
