// What a request takes of memory, told before anything is loaded.
#pragma once
#include "core/pipeline.h"

typedef struct {
    network_shape shape;
    network_memory need;
    size_t tiled; // bytes where it works in parts; else 0
} memory_row;

// The request's networks in the order in which they run. `group`: images that go through the UNet together.
status txt2img_memory(const txt2img *t, int group, memory_row rows[N_NETS], int *n, error *err);
// The smallest peak of the process, in bytes, and the network that has it.
size_t memory_least(const memory_row *rows, int n, network *largest);

// Where the caller allows a certain peak: logs what each network takes, and how. ERR_USAGE tells the smallest
// peak there is when it is larger. `group`: images that go through the UNet together.
status txt2img_check_memory(const txt2img *t, int group, error *err);
