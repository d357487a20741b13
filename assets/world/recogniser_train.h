// How the recogniser is taught: cross-entropy of every question over an endless row of fresh scenes, of all
// splits, worn (wear.h). Train with train_recipe; the model ends in OUT/model/recogniser/.
#pragma once
#include "core/train/recipe.h"

recipe_maker recogniser_recipe;
