// What a text-to-image model's folder says of its networks: configurations, schedule and tokenizer, without
// weights.
#pragma once
#include "core/models/clip.h"
#include "core/models/tokenizer.h"
#include "core/models/unet.h"
#include "core/models/vae.h"
#include "samplers/schedule.h"

typedef struct {
    json_t *unet_json, *text_json;
    unet_config unet;
    clip_config text;
    vae_config vae;
    schedule schedule;
    tokenizer *tokenizer;
    int64_t tokens; // of a padded caption
} networks;

// ERR_DATA also for what cannot be trained: networks that need more than noise, time and text. Free with
// networks_close, on failure too.
status networks_open(networks *n, const char *dir, error *err);
void networks_close(networks *n); // a zeroed one is fine

// The ids of a caption, and the row of its end among rows of all captions: what clip_build reads at `row`.
status networks_caption(const networks *n, const char *text, int row, int32_t *ids, int32_t *eos, error *err);
// Text encoder and UNet under the paths "text_encoder" and "unet". sample [B,h,w,C], timestep [B], ids I32
// [B,T], eos I32 [B] → [B,h,w,C]
node *networks_build(graph *g, const networks *n, node *sample, node *timestep, node *ids, node *eos);
