// Pictures of a text-to-image model in training: the configuration's prompts, or captions of the data, drawn
// by the averaged weights.
#pragma once
#include "core/train/networks.h"
#include "core/train/recipe.h"

// Deterministic DDIM from the same noise every time; `vae` is the autoencoder's folder.
status preview_save(const train_context *x, const networks *n, const sample_source *source, const char *vae,
                    const char *path, error *err);
