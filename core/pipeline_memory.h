// What a request takes of memory, told before anything is loaded.
#pragma once
#include "core/pipeline.h"

typedef struct {
    calo_model *model; // whose network it is
    network_shape shape;
    network_memory need;
    size_t tiled; // bytes where it works in parts; else 0
    size_t least; // the smallest peak under this limit of memory
} memory_row;

typedef struct {
    memory_row at[N_EXPERTS * N_NETS];
    int n;
} memory_table;

// The request's networks in the order in which they run. `group`: images that go through the UNet together.
status txt2img_memory(const txt2img *t, int group, memory_table *to, error *err);
// Makes `least` the smallest peak under any limit: with lean weights, an autoencoder in parts.
status memory_find_least(const txt2img *t, memory_row *r, error *err);
// The network that takes most where each takes as little as it can, and the peak of the process then, in
// bytes.
const memory_row *memory_largest(const memory_table *all);
size_t memory_least(const memory_table *all);

// Where the caller allows a certain peak: logs what each network takes, and how. ERR_USAGE tells the smallest
// peak there is when it is larger. `group`: images that go through the UNet together.
status txt2img_check_memory(const txt2img *t, int group, error *err);
