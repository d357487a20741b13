// What the small models of a reproduction learn: the world's scenes of one object on a plain background, told
// whole.
#pragma once
#include "assets/world/scene.h"
#include "core/train/source.h"

// The i-th scene of a seed, of the training split: a pure function of both.
scene lesson_scene(uint64_t seed, uint64_t i);
// A train_hooks.open_source for "lesson:"; `user` is not used. Another spec is ERR_USAGE.
status lesson_open(void *user, const char *spec, uint64_t seed, sample_source *source, error *err);
