// Pictures of a text-to-image model in training: the configuration's prompts, drawn by the averaged weights.
#pragma once
#include "core/train/networks.h"
#include "core/train/recipe.h"

// Deterministic DDIM from the same noise every time; `vae` is the autoencoder's folder. No prompts, no file.
status preview_save(const train_context *x, const networks *n, const char *vae, const char *path, error *err);
