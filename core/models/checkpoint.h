// A checkpoint in one file, in the original layout (CompVis, Stability AI): which tensors belong to which
// component, what kind of model it is, and by what that is known.
#pragma once
#include "core/files/weights_file.h"
#include "core/models/few_steps.h"

#include <jansson.h>

typedef enum {
    CHECKPOINT_SD1,
    CHECKPOINT_SD2,
    CHECKPOINT_SDXL,
    CHECKPOINT_REFINER,
    N_CHECKPOINTS
} checkpoint_kind;

// What SDXL's refiner is for.
#define REFINER_TASK "the last steps of an SDXL model's picture (--refiner), or of one that is there (-i)"

typedef struct checkpoint checkpoint;

// ERR_DATA when the file holds no UNet of this layout, or one of a kind that is not known. NULL on failure.
checkpoint *checkpoint_open(const char *path, error *err);
void checkpoint_close(checkpoint *c); // NULL is fine

checkpoint_kind checkpoint_kind_of(const checkpoint *c);
const char *
checkpoint_class(const checkpoint *c); // as diffusers calls the pipeline: "StableDiffusionPipeline"
// What its model_index.json would say besides the components. NULL when memory is short.
json_t *checkpoint_settings(const checkpoint *c);
const model_files *checkpoint_files(const checkpoint *c);

// Components are called as diffusers calls their folders: "unet", "vae", "text_encoder", "text_encoder_2".
//
// What the component's tensors begin with; NULL when the file does not hold it.
const char *checkpoint_prefix(const checkpoint *c, const char *component);
// The names of its tensors; NULL when the file does not hold it.
const file_names *checkpoint_names(const checkpoint *c, const char *component);
// Where a file of this kind has the component: what of `names` the kind tells (not levels and layers). false:
// such files do not have it.
bool checkpoint_place(checkpoint_kind kind, const char *component, file_names *names);
// Borrowed; NULL on failure.
const weights *checkpoint_weights(checkpoint *c, const char *component, error *err);
// What its config.json would say; also of "scheduler", "tokenizer" and "tokenizer_2". NULL on failure.
json_t *checkpoint_config(checkpoint *c, const char *component, error *err);

// What is known, and by what: {"kind", "SD 1.x", "..."}, ... Valid until checkpoint_settle.
typedef struct {
    const char *what, *value, *because;
} finding;

size_t checkpoint_findings(const checkpoint *c, const finding **list);

// What it was distilled to, and in how many steps it draws; NULL: an ordinary model.
const few_steps *checkpoint_few_steps(const checkpoint *c, int *steps);

// SD 2 predicts the noise or v, and its tensors do not tell. false: nothing else in the file does.
bool checkpoint_prediction_known(const checkpoint *c);
// Says it: "epsilon" or "v_prediction", and by what it is known.
void checkpoint_settle(checkpoint *c, const char *prediction, const char *because);

// Names of an autoencoder that is alone in a file, in this layout or in that of diffusers. false: there is
// none.
bool checkpoint_vae_names(const model_files *files, file_names *names);
// By which latents are multiplied.
double checkpoint_vae_scaling(checkpoint_kind kind);
