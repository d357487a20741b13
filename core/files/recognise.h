// What a safetensors file is, told from the names of its tensors.
#pragma once
#include "core/files/tensor_file.h"

// Static texts; "" where nothing is known. rank is of the first low-rank pair, 0 if there is none.
typedef struct {
    const char *kind; // "LoRA", "ControlNet", "UNet", ...
    const char *base; // the family of models that it fits: "SD 1.x", "SD 2.x", "SDXL"
    int64_t rank;
} recognised;

recognised recognise(const tensor_file *f);
