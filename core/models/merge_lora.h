// LoRA files on their way into a model's weights (Hu et al., arXiv 2106.09685): a matrix or convolution W
// [O,I,kh,kw] becomes W + weight · alpha / rank · up · down, summed in double, with up [O,R] (or [O,R,1,1])
// and down [R,I,kh,kw] as floats.
//
// Names of layers, with dots or with underscores for them: ours, which are diffusers', or of the UNet those
// of the original layout; behind lora_unet_, lora_te_, lora_te1_, lora_te2_ (kohya's programs), unet.,
// text_encoder., text_encoder_2. (diffusers) or base_model.model. (peft, of a UNet). Endings: the rows of
// ENDINGS in the source. Without .alpha it is what the metadata says as diffusers writes them, else the rank.
#pragma once
#include "core/files/convert.h"
#include "core/models/model.h"

typedef struct {
    const char *path; // a tensor file
    double weight;
} lora_source;

typedef struct lora_changes lora_changes;

// Reads all values of the pairs. ERR_DATA when a tensor is none of a LoRA of this model's UNet and text
// encoders, lacks its counterpart, does not fit the layer or holds a nan. NULL on failure.
lora_changes *lora_changes_open(model *m, const lora_source *sources, int n, error *err);
void lora_changes_free(lora_changes *l); // NULL is fine
// What is to be added to a tensor of ours, stored as it is or transposed; NULL: nothing.
const value_change *lora_change(const lora_changes *l, model_part p, const char *name, bool transposed);
