// What a request takes of memory, told before anything is loaded.
#pragma once
#include "core/pipeline.h"

typedef struct {
    calo_model *model; // whose network it is
    bool refines;      // it is the refiner
    network_shape shape;
    network_memory need;
    size_t tiled; // bytes where it works in parts; else 0
    size_t least; // the smallest peak under this limit of memory
} memory_row;

// Of a request: its networks in the order in which they run, and the one that a file holds for hires fix.
typedef struct {
    memory_row at[N_EXPERTS * N_NETS];
    int n;
    size_t enlarger,
        enlarger_least; // bytes beside nothing else, in tiles of so many pixels; 0: there is none
    int tile;
} memory_table;

// Under the context's limit, of `group` images that go through the UNet together.
status txt2img_memory(const txt2img *t, int group, memory_table *to, error *err);
// Makes each `least` the smallest peak under any limit: with lean weights, in parts.
status memory_find_least(const txt2img *t, memory_table *all, error *err);
// The peak of the process where each takes as little as it can, in bytes, and in `name` what takes it.
enum { MEMORY_NAME = 40 };
size_t memory_least(const memory_table *all, char name[MEMORY_NAME]);

// Where the caller allows a certain peak: makes *group as small as it must be, and logs what each network
// takes, and how. ERR_USAGE tells the smallest peak there is when it is larger.
status txt2img_check_memory(const txt2img *t, int *group, error *err);
