// A LoRA out of two models: what one has learned beyond the other, each matrix and convolution as the best
// product of two thin ones.
#pragma once
#include "core/base/low_rank.h"
#include "core/files/convert.h"
#include "core/models/model.h"

typedef enum {
    LORA_NAMES_KOHYA, // lora_unet_down_blocks_0_..._to_q.lora_down.weight, .lora_up.weight, .alpha; lora_te_,
                      // of two text encoders lora_te1_ and lora_te2_
    LORA_NAMES_PEFT   // unet.down_blocks.0. ... .to_q.lora_A.weight, .lora_B.weight; text_encoder.
} lora_naming;

typedef struct {
    model *tuned, *base;
    int rank;     // of matrices that are smaller, theirs
    double clamp; // this share of a pair's values stays as it is, larger ones are cut to the largest of them;
                  // 1: all
    lora_naming names;
    team *team;
} extraction;

// Weights of the UNet and the text encoders that differ, alpha = rank. `c`: type (-1: that of the tuned
// model's, F16 for narrower ones), out, overwrite, log, progress. ERR_DATA when the models are of different
// shapes or equal.
status lora_extract(const extraction *x, const conversion *c, error *err);
