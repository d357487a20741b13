// A whole model in another layout of files: a folder as diffusers writes it, or one file in the original
// layout. Each tensor is read, converted and written as convert.h does it; the names are those of the rows
// that reading uses, in both directions, so there and back gives the same tensors bit for bit.
#pragma once
#include "core/files/convert.h"
#include "core/models/merge_lora.h"
#include "core/models/model.h"

typedef enum { LAYOUT_DIFFUSERS, LAYOUT_SINGLE } model_layout;

// `c`: type, max_shard, log, progress, overwrite (of LAYOUT_SINGLE; a folder is never replaced) and `out`, a
// new folder or NAME.safetensors. `prediction`: what the UNet predicts, where the model is not to be asked:
// "epsilon", "v_prediction"; NULL. `loras`: of this model, or NULL.
//
// Of a checkpoint, tensors outside its components (moving averages, buffers of the training) are left out and
// counted in a warning. Those inside stay, also where no network reads them: SD 2's last text layer.
// Tokenizers are copied, of checkpoints the user's vocabulary, and left out with a warning where there is
// none. ERR_DATA when the model cannot be told in this layout.
status model_rewrite(model *m, model_layout layout, const char *prediction, const lora_changes *loras,
                     const conversion *c, error *err);
