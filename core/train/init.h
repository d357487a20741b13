// Starting values of tensors, by what their name says they are.
#pragma once
#include "core/graph/shape.h"

#include <stdint.h>

// name: "unet.down_blocks.0.resnets.0.conv1.weight". A pure function of its arguments.
void init_tensor(uint64_t seed, const char *name, shape s, float *value);
