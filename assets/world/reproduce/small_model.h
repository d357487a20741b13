// The small model of a reproduction: a model folder of configurations, a tokenizer and an autoencoder that
// changes nothing, so that the UNet works on pixels and the world's black and white stay exactly ±1.
#pragma once
#include "core/base/status.h"
#include "core/base/threads.h"

#include <jansson.h>

enum { SMALL_MODEL_SIDE = 32 }; // pixels of a training picture

// Writes the folder, ready for train_run. `scheduler` is what scheduler_config.json will say.
status small_model_save(const char *dir, const json_t *scheduler, error *err);
