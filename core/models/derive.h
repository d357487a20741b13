// Configurations from the shapes of a network's tensors, for files that come without a config.json. What
// shapes cannot tell is what all models of the kind have.
#pragma once
#include "core/graph/weights.h"

#include <jansson.h>

// What a config.json of diffusers would say; the tensors have our names. NULL when memory is short, or with
// ERR_DATA where a tensor without which nothing can be told is missing; `where` names the file in messages.
//
// Heads: always eight in SD 1, of 64 features each in all since. By shape: which of both it is, matrices tell
// that project the tokens; SD 1 has convolutions there.
typedef enum { HEADS_BY_SHAPE, HEADS_EIGHT, HEADS_OF_64 } unet_heads;

// sample_size: latents' side that the network was trained on.
typedef struct {
    int64_t sample_size;
    unet_heads heads;
} unet_traits;

json_t *derive_unet(const weights *w, const unet_traits *traits, const char *where, error *err);
json_t *derive_vae(const weights *w, double scaling_factor, const char *where, error *err);

// OpenCLIP's towers have another activation. `skipped`: layers that are in the file and are not used.
typedef struct {
    bool open_clip, projects;
    int skipped;
} clip_traits;

json_t *derive_clip(const weights *w, const clip_traits *traits, const char *where, error *err);

// Numbers from the tensors' shapes; the pattern's %d is the number that is counted.
//
// One more than the highest number below `limit` for which there is such a tensor.
int derive_count(const weights *w, int limit, const char *pattern);
// A dimension, 0 where there is no such tensor.
int64_t derive_size(const weights *w, const char *name, int axis);
