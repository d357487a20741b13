// Weights of a finished model, where a run does not begin from nothing.
#pragma once
#include "core/train/recipe.h"

// Replaces the values of all parameters named "COMPONENT." by those in the folder of that name below the
// configuration's "start", or below "model" when fine-tuning; without either it changes nothing. ERR_DATA
// names a tensor that is missing or of another shape.
status start_component(const train_context *x, const char *component, error *err);
