// A refiner: a second model that finishes in the same latents what the first one has begun, as SDXL's (Podell
// et al., arXiv 2307.01952, 2.5). The sampler does not know of it: to it the steps are those of one model.
#pragma once
#include "core/pipeline.h"

// For a request with a refiner, whose own model is checked: ERR_USAGE where the two do not go together,
// ERR_DATA lists what is wrong with the refiner's tensors. Finds out what it predicts.
status refiner_check(const txt2img *t, error *err);
// Of a request whose schedule is chosen: what each expert predicts. ERR_USAGE where they know other noise.
status refiner_init(txt2img *t, error *err);
// Which steps of a pass each expert leads.
void refiner_divide(txt2img *t);
// Tells the user of a refiner that is to draw from nothing.
void refiner_hint(const txt2img *t);
