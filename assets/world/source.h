// The world as a source of training samples: an endless row of scenes of the training split, drawn when asked
// for.
#pragma once
#include "core/train/source.h"

// A train_hooks.open_source; `user` is not used. spec: "world:" for the world's own share of pairs,
// "world:pairs=0.1" for another one, 0 to 1. Another spec is ERR_USAGE.
status world_source_open(void *user, const char *spec, uint64_t seed, sample_source *source, error *err);
