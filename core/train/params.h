// The tensors that training changes: f32 master values, Adam's two moments and a moving average of the
// values.
//
// A set starts open: a graph that is built from it makes each tensor that it names, initialised by rules
// (init.h). Sealed, it has a fixed list in order of creation, the same on every run of the same network.
#pragma once
#include "core/graph/weights.h"

#include <stddef.h>
#include <stdint.h>

typedef struct {
    weight w; // trainable, resident
    size_t n; // elements
    float *m, *v, *ema;
} param;

typedef struct params params;

// NULL when memory is short. Starting values are a pure function of (seed, name, shape).
params *params_new(uint64_t seed);
void params_free(params *p); // NULL is fine

// Where graphs take the tensors from. `training` gives the values themselves, leaves that gradients reach;
// `average` gives the moving average for drawing samples: constants, which must not change while plans built
// from them live (each call tells plans that they have).
const weights *params_training(params *p);
const weights *params_average(params *p);
// The values as constants: what a graph takes from here it does not train. Not to be mixed with plans built
// while they were trained.
const weights *params_fixed(params *p);

// Sets each moving average to its value; later tensors are errors.
void params_seal(params *p);

size_t params_count(const params *p);
param *params_at(const params *p, size_t i);
param *params_find(const params *p, const char *name); // NULL if absent
// What follows "COMPONENT." in a parameter's name; NULL if that is not how it begins.
const char *param_below(const param *p, const char *component);
size_t params_elements(const params *p); // of all tensors
