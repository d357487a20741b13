// A model: a folder in the layout of diffusers or a checkpoint in one file; its components, each read when
// first needed, and the plans of their networks.
#pragma once
#include "core/files/weights_file.h"
#include "core/graph/plan.h"
#include "core/models/checkpoint.h"
#include "core/models/clip.h"
#include "core/models/tokenizer.h"
#include "core/models/unet.h"
#include "core/models/vae.h"

typedef enum { PART_TEXT_ENCODER, PART_TEXT_ENCODER_2, PART_UNET, PART_VAE, N_PARTS } model_part;

typedef struct model model;

// NULL: the component of the model itself, the user's data folder.
typedef struct {
    const char *vae;        // an autoencoder in place of the model's: a file, its folder, or a model's folder
    const char *vocabulary; // folder of vocab.json and merges.txt for checkpoints, which come without
} model_options;

// `path` is a folder that holds model_index.json, a checkpoint in one file, or the name "org/model" of a
// folder in the hub's cache. Components that an index lists but that have no folder count as absent. `o` may
// be NULL. NULL on failure.
model *model_open(const char *path, const model_options *o, error *err);
void model_free(model *m); // NULL is fine; frees the plans too

const char *model_dir(const model *m);        // the folder or the file
const char *model_name(const model *m);       // last part of the path, of a file without its extension
const char *model_class(const model *m);      // "StableDiffusionPipeline"
checkpoint *model_checkpoint(const model *m); // NULL: it is a folder
bool model_has(const model *m, model_part part);
const char *model_part_name(model_part part); // "unet": its folder
// Where a component's tensors are, for model_files_open; mem_free. NULL when memory is short.
char *model_part_path(const model *m, model_part part);
// That of the autoencoder, borrowed, where it is another than the model's own; else NULL.
status model_other_vae(const model *m, const char **path, error *err);
// A component's files, and how its tensors are called there: rows NULL means as weights_usual_name says.
// Both belong to the model.
status model_part_files(model *m, model_part p, const model_files **files, file_names *names, error *err);
// The folder of a text encoder's tokenizer, of a checkpoint that of the vocabulary; mem_free. It need not
// exist. NULL when memory is short.
char *model_tokenizer_dir(const model *m, model_part text_encoder);
const char *model_tokenizer_name(model_part text_encoder); // "tokenizer": its folder
// A component's configuration by the name of its folder ("scheduler", "unet"), and in `where`, which may be
// NULL, what messages call it (mem_free). NULL on failure.
json_t *model_config(const model *m, const char *component, char **where, error *err);
// What model_index.json says besides the components, or would say of a file. NULL when memory is short.
json_t *model_settings(const model *m);
// A flag of model_index.json, or what it would be of a file.
bool model_flag(const model *m, const char *key, bool otherwise);
// Whether it was trained on the last part of the way alone, and told an aesthetic score, as SDXL's refiner.
bool model_is_refiner(const model *m);

// Whether it is one of few steps (of a folder, by its name), and of how many; NULL: an ordinary model.
const few_steps *model_few_steps(const model *m, int *steps);

// What a folder's own index says that it is best drawn with: "_calotype": {"steps": 12, "cfg_scale": 2} in
// model_index.json, of which diffusers skips what begins with "_". What it does not say, or says wrongly,
// stays as it is.
void model_own_advice(const model *m, int *steps, double *cfg_scale);
// Of a checkpoint: tells what its UNet predicts, "epsilon" or "v_prediction", and by what that is known; the
// size it was trained on may depend on it.
status model_settle(model *m, const char *prediction, const char *because, error *err);

// Configurations and tables belong to the model. NULL on failure: ERR_NOINPUT when the model lacks the
// component.
const clip_config *model_clip(model *m, model_part text_encoder, error *err);
const unet_config *model_unet(model *m, error *err);
const vae_config *model_vae(model *m, error *err);
const tokenizer *model_tokenizer(model *m, model_part text_encoder, error *err);
// Opens the weights' files too; the values are read when a plan packs them.
const weights *model_weights(model *m, model_part part, error *err);

// ---- networks

typedef enum {
    NET_TEXT_ENCODER,
    NET_TEXT_ENCODER_2,
    NET_UNET,
    NET_VAE_ENCODER,
    NET_VAE_DECODER,
    N_NETS
} network;

// What a plan depends on; fields that a network does not have are 0.
typedef struct {
    network net;
    dtype compute;
    int64_t B;
    int64_t H, W;           // of the network's own input: latents, or pixels for the encoder
    int64_t T;              // tokens
    int skip;               // of the text encoder, see clip_build
    bool has_timestep_cond; // the UNet is told of guidance
} network_shape;

// What a network is made with; the same in every call for a model.
typedef struct {
    // In the order of wish, each with less memory than the one before: the first that fits is taken.
    const backend *be[2];
    int n_be;
    workspace *ws;
    // Bytes for the weights of all networks, their inputs and outputs, and the workspace; 0: no limit. When a
    // network does not fit beside the others, those are forgotten, of other models first; when it does not
    // fit alone, the last backend is taken and weights are read again in every run. ERR_USAGE where there is
    // no room even for that.
    size_t memory;
    model *models; // those that share it with this one; see model_join
} network_means;

typedef struct {
    size_t weights;     // bytes of all weights as the kernels read them
    size_t kept;        // of them that stay in memory; the others are read in every run
    size_t stage;       // where those are made, the largest layer with its plain values
    size_t making;      // beside the weights while they are read
    size_t layer;       // the largest layer, with what making it takes
    size_t activations; // workspace, inputs and outputs
    size_t total;       // the peak
    size_t least;       // the smallest peak there is
    int be;             // which backend
    bool fits;
} network_memory;

const char *network_name(network net); // "vae_decoder"
int network_find(const char *name);    // -1 when unknown

// Whether the network's tensors are all there and as its configuration says, without reading them: ERR_DATA
// lists those that are not.
status model_check(model *m, network net, error *err);

// The network ready to run, from the cache or made now. Images are NHWC, all floats F32. Inputs, by name:
//     text encoders  input_ids I32 [B,T], eos I32 [B] (row b·T + position) → last_hidden_state, penultimate,
//     pooled unet           sample, timestep [B], encoder_hidden_states [B,T,E] and what the configuration
//     asks for → sample vae            sample → mean, logvar; latent → sample
// Borrowed until the next call.
exec *model_network(model *m, const network_shape *s, const network_means *by, error *err);
// What it will take, without reading any weights: beside nothing else of the model where that is the only
// way.
status model_network_memory(model *m, const network_shape *s, const network_means *by, network_memory *need,
                            error *err);
// Models that share their memory are a list: adds one, and takes it out again.
void model_join(model **models, model *m);
void model_leave(model **models, model *m);
// Frees the packed weights of a component; plans stay.
void model_forget_part(model *m, model_part part);
// Those of all, and the workspace.
void model_forget(model *m, workspace *ws);
void models_forget(model *models, workspace *ws); // of a list
// By which its latents are multiplied; also of a model that has no autoencoder of its own.
double model_latent_scaling(const model *m);
// Packed weights of a component, for plans made elsewhere.
store *model_values(model *m, model_part part);
// Bytes of weights in memory.
size_t model_bytes(const model *m);
