// Pictures as an autoencoder gives them back: what the recogniser must know as well as fresh ones.
#pragma once
#include "assets/world/dice.h"
#include "core/base/dtype.h"
#include "core/base/status.h"
#include "core/base/threads.h"

#include <stdint.h>

typedef struct autoencoder autoencoder;

// `model`: a folder in the layout of diffusers with vae/. Pictures will be side × side; a side that is no
// multiple of its factor is ERR_DATA. `compute`: DT_F32 or DT_BF16. The team t outlives it. NULL on failure.
autoencoder *autoencoder_open(const char *model, int side, dtype compute, team *t, error *err);
void autoencoder_free(autoencoder *a); // NULL is fine

// Encodes to the mean and decodes, in place. Unless `noise` is NULL, latents of picture i get normal noise of
// deviation noise[i], drawn from d: what a generator leaves in them.
status autoencoder_pass(autoencoder *a, uint8_t *rgb /* [n,side,side,3] */, int n, const float *noise,
                        dice *d, error *err);
