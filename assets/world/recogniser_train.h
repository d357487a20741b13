// How the recogniser is taught: cross-entropy of every question over an endless row of fresh scenes, of all
// splits, worn (wear.h). A stage's "data" is "fresh", or "decoded": then half of the pictures go through the
// autoencoder of the configuration's "model" first, with a little noise in their latents. Train with
// train_recipe; the weights end in OUT/model/recogniser/.
#pragma once
#include "core/train/recipe.h"

recipe_maker recogniser_recipe;
