// The autoencoder between pictures and latents (Rombach et al., arXiv 2112.10752), as diffusers'
// AutoencoderKL.
#pragma once
#include "core/graph/graph.h"

#include <jansson.h>

enum { VAE_MAX_LEVELS = 8 };

typedef struct {
    int64_t in_channels, out_channels, latent_channels;
    int n_levels;
    int64_t block_out_channels[VAE_MAX_LEVELS];
    int layers_per_block, norm_num_groups;
    bool mid_block_add_attention, use_quant_conv, use_post_quant_conv;
    double scaling_factor, shift_factor; // latents of the UNet = (mean − shift)·scaling
    bool force_upcast;                   // its decoder overflows in f16; says nothing about bf16
    int64_t sample_size;
    bool recompute; // not in the file: blocks are computed again in the backward pass
} vae_config;

// `where` names the file in messages. An unknown or unsupported field is ERR_DATA and named; absent fields
// have the values of diffusers' AutoencoderKL.
status vae_config_parse(vae_config *c, const json_t *config, const char *where, error *err);

// Pixels on a latent's side: 2^(levels − 1).
int64_t vae_factor(const vae_config *c);

// The network as a chain of stages, which vae_encode_build and vae_decode_build join: a picture may be
// computed stage by stage, and most of them part by part (vae_tiles.h).
typedef enum { VAE_ENCODE, VAE_DECODE } vae_way;
typedef struct {
    bool whole; // sees all of its picture
    int scale;  // 1: the result has twice the size, -1: half of it, 0: the same
    int halo;   // rows and columns of the input around a part that its result depends on, but for group norms
    int norms;  // of these; 0 for a stage that is whole
} vae_stage;

int vae_stages(const vae_config *c, vae_way way);
vae_stage vae_stage_at(const vae_config *c, vae_way way, int i);
// x [B,H,W,C] → the input of stage i + 1. The first one's is sample or latent; the last one's result is the
// decoder's picture, or the encoder's [B,H/f,W/f,2L] of means and logarithms of variances, not clamped.
node *vae_stage_build(graph *g, const vae_config *c, vae_way way, int i, node *x);

#define VAE_LOW_LOGVAR (-30)
#define VAE_HIGH_LOGVAR 20

typedef struct {
    node *mean, *logvar; // [B,H/f,W/f,L] of g->exact; logvar clamped to [−30, 20]
} vae_moments;

// sample [B,H,W,in_channels]. Sides that are no multiple of f lose their last pixels, as in diffusers.
vae_moments vae_encode_build(graph *g, const vae_config *c, node *sample);
// latent [B,h,w,L], unscaled → [B,h·f,w·f,out_channels] of g->exact
node *vae_decode_build(graph *g, const vae_config *c, node *latent);
