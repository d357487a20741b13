// The noise predictor of Stable Diffusion 1, 2 and XL (Rombach et al., arXiv 2112.10752; Podell et al.,
// arXiv 2307.01952), as diffusers' UNet2DConditionModel.
#pragma once
#include "core/graph/graph.h"

#include <jansson.h>

enum { UNET_MAX_LEVELS = 8, UNET_MAX_LAYERS = 100 };

typedef enum {
    UNET_RESNETS,        // DownBlock2D, UpBlock2D
    UNET_ATTENTION,      // AttnDownBlock2D, AttnUpBlock2D: pixels attend to pixels
    UNET_CROSS_ATTENTION // CrossAttnDownBlock2D, CrossAttnUpBlock2D: transformers that read the text
} unet_block;

typedef enum { UNET_MID_NONE, UNET_MID_RESNET, UNET_MID_CROSS_ATTENTION } unet_mid;
typedef enum {
    CLASS_NONE,
    CLASS_LABEL, // a table of num_class_embeds rows
    CLASS_TIMESTEP,
    CLASS_IDENTITY,
    CLASS_PROJECTION,
    CLASS_SIMPLE_PROJECTION
} class_embedding;
typedef enum { ADDITION_NONE, ADDITION_TEXT, ADDITION_TEXT_TIME } addition_embedding;

// Level 0 has the full resolution. Up blocks are numbered from the deepest level in weight names; here `up`
// stands with its level.
typedef struct {
    unet_block down, up;
    int64_t channels;
    int layers; // resnets of the down block; the up block has one more
    // attention_head_dim: as every model uses it, the number of heads of a transformer. Attention without
    // text takes it as the size of a head, and in up blocks that of the mirrored level, as in diffusers.
    int heads, down_head_size, up_head_size;
    int down_depth[UNET_MAX_LAYERS],
        up_depth[UNET_MAX_LAYERS + 1]; // layers of the transformer behind each resnet
    int64_t cross_attention_dim;
    bool only_cross_attention;
} unet_level;

typedef struct {
    int64_t in_channels, out_channels;
    int64_t sample_size; // latents' side it was trained on, 0 if not stated
    int n_levels;
    unet_level level[UNET_MAX_LEVELS];
    unet_mid mid;
    int mid_depth;
    double mid_block_scale_factor;
    int norm_num_groups;
    double norm_eps;
    int downsample_padding;
    int conv_in_kernel, conv_out_kernel;
    bool center_input_sample, use_linear_projection, scale_shift;
    bool upcast_attention; // scores are never below f32 here: nothing to be done
    bool flip_sin_to_cos;
    double freq_shift;
    int64_t time_embed_dim, time_cond_proj_dim; // the latter 0 for none
    class_embedding class_embed;
    int64_t num_class_embeds, projection_input_dim;
    addition_embedding addition_embed;
    int addition_heads;
    int64_t addition_time_embed_dim;
    int time_ids;   // numbers beside the pooled text, one of those below; not in the file
    bool recompute; // not in the file: blocks are computed again in the backward pass
} unet_config;

// The height and width of a picture, what was cut off at the top and at the left, and the height and width
// that are wanted, or an aesthetic score.
enum { TIME_IDS_SIZE = 6, TIME_IDS_SCORE = 5 };

// `where` names the file in messages. An unknown or unsupported field is ERR_DATA and named; absent fields
// have the values of diffusers' UNet2DConditionModel.
status unet_config_parse(unet_config *c, const json_t *config, const char *where, error *err);

// Pooled features of the text that it reads beside those numbers.
int64_t unet_pooled_features(const unet_config *c);

// What the network reads. Those that the configuration does not ask for are NULL.
typedef struct {
    node *sample;                // [B,H,W,in_channels]
    node *timestep;              // [B]
    node *encoder_hidden_states; // [B,T,cross_attention_dim]
    node *timestep_cond;         // [B,time_cond_proj_dim]; may be NULL even if the network knows it
    node *class_labels;          // I32 [B] (label), [B] (timestep), [B,time_embed_dim] (identity),
                                 // [B,projection_input_dim]
    node *text_embeds;           // text_time: [B,P]
    node *time_ids;              // text_time: [B,time_ids]
} unet_inputs;

// → [B,H,W,out_channels] of g->exact. H and W are any size: each up block goes to its skip's size.
node *unet_build(graph *g, const unet_config *c, const unet_inputs *in);
