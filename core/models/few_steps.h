// Models distilled to draw in few steps: SDXL Turbo (arXiv 2311.17042), Lightning (2402.13929), LCM
// (2310.04378), Hyper-SD (2404.13686). Their tensors are those of any model, so a word has to tell: in the
// metadata or in the file's name.
#pragma once
#include <stdbool.h>

typedef struct {
    const char *word, *name; // "turbo", "Turbo"
    int steps;               // where the text says no other number
    double cfg_scale;
    const char *scheduler, *spacing; // as scheduler_config.json says them; spacing NULL: the class's own
} few_steps;

// The kind that a text names, as a word of its own or by capitals: "sdxl_lightning_4step", "dreamXLTurboV2".
// Of words that ordinary names hold, "hyper" counts with a number of steps, before "SD" or as the last one,
// and "lightning" not as the first of several, without a number of steps or "XL". NULL: none. *steps: those
// that it names
// ("4step", "8-steps"), else the kind's.
const few_steps *few_steps_find(const char *text, int *steps);
