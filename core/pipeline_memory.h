// What a request takes of memory, told before anything is loaded.
#pragma once
#include "core/pipeline.h"

// Where the caller allows a certain peak: logs what each network takes, and how. ERR_USAGE tells the smallest
// peak there is when it is larger. `group`: images that go through the UNet together.
status txt2img_check_memory(const txt2img *t, int group, error *err);
