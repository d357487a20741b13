// The names of tensors in the original layout of checkpoints (CompVis latent-diffusion, Stability
// generative-models), as rows from ours.
#pragma once
#include "core/files/names.h"

extern const name_row LDM_UNET[], LDM_VAE[];
extern const name_row LDM_CLIP[];     // transformers' names, with or without "text_model."
extern const name_row LDM_OPENCLIP[]; // q, k and v in one matrix, the projection stored [in, out]
