#include "core/models/ldm_names.h"

static const name_row RESNET[] = {
    {"norm1.*", "in_layers.0.*"},
    {"conv1.*", "in_layers.2.*"},
    {"time_emb_proj.*", "emb_layers.1.*"},
    {"norm2.*", "out_layers.0.*"},
    {"conv2.*", "out_layers.3.*"},
    {"conv_shortcut.*", "skip_connection.*"},
    {0},
};

// A transformer has the same names inside. An upsampler stands behind the attention of its block, or in its
// place.
const name_row LDM_UNET[] = {
    {"conv_in.*", "input_blocks.0.0.*"},
    {"time_embedding.linear_1.*", "time_embed.0.*"},
    {"time_embedding.linear_2.*", "time_embed.2.*"},
    {"add_embedding.linear_1.*", "label_emb.0.0.*"},
    {"add_embedding.linear_2.*", "label_emb.0.2.*"},
    {"down_blocks.{i}.resnets.{j}.*", "input_blocks.{down}.0.*", .rest = RESNET},
    {"down_blocks.{i}.attentions.{j}.*", "input_blocks.{down}.1.*"},
    {"down_blocks.{i}.downsamplers.0.conv.*", "input_blocks.{downsampler}.0.op.*"},
    {"mid_block.resnets.0.*", "middle_block.0.*", .rest = RESNET},
    {"mid_block.attentions.0.*", "middle_block.1.*"},
    {"mid_block.resnets.1.*", "middle_block.2.*", .rest = RESNET},
    {"up_blocks.{i}.resnets.{j}.*", "output_blocks.{up}.0.*", .rest = RESNET},
    {"up_blocks.{i}.upsamplers.0.conv.*", "output_blocks.{upsampler}.2.conv.*",
     .with = "up_blocks.{i}.attentions.{layers}.norm.weight"},
    {"up_blocks.{i}.upsamplers.0.conv.*", "output_blocks.{upsampler}.1.conv.*"},
    {"up_blocks.{i}.attentions.{j}.*", "output_blocks.{up}.1.*"},
    {"conv_norm_out.*", "out.0.*"},
    {"conv_out.*", "out.2.*"},
    {0},
};

static const name_row VAE_RESNET[] = {{"conv_shortcut.*", "nin_shortcut.*"}, {0}};
static const name_row VAE_ATTENTION[] = {
    {"group_norm.*", "norm.*"},
    {"to_q.*", "q.*", VIEW_CONVOLUTION},
    {"to_k.*", "k.*", VIEW_CONVOLUTION},
    {"to_v.*", "v.*", VIEW_CONVOLUTION},
    {"to_out.0.*", "proj_out.*", VIEW_CONVOLUTION},
    {0},
};

// Of programs that turned newer files of diffusers into the original layout by its older names.
static const name_row VAE_NEW_ATTENTION[] = {
    {"group_norm.*", "norm.*"},
    {"to_q.*", "to_q.*", VIEW_CONVOLUTION},
    {"to_k.*", "to_k.*", VIEW_CONVOLUTION},
    {"to_v.*", "to_v.*", VIEW_CONVOLUTION},
    {"to_out.0.*", "to_out.0.*", VIEW_CONVOLUTION},
    {0},
};

#define BOTH_HALVES(half)                                                                                    \
    {half ".conv_norm_out.*", half ".norm_out.*"},                                                           \
        {half ".mid_block.resnets.{i}.*", half ".mid.block_{i+1}.*", .rest = VAE_RESNET},                    \
        {half ".mid_block.attentions.{i}.*", half ".mid.attn_{i+1}.*", .rest = VAE_ATTENTION},               \
        {half ".mid_block.attentions.{i}.*", half ".mid.attn_{i+1}.*", .rest = VAE_NEW_ATTENTION}, {         \
        half ".mid_block.attentions.{i}.*", half ".mid.attn_{i+1}.*"                                         \
    }

const name_row LDM_VAE[] = {
    BOTH_HALVES("encoder"),
    BOTH_HALVES("decoder"),
    {"encoder.down_blocks.{i}.resnets.{j}.*", "encoder.down.{i}.block.{j}.*", .rest = VAE_RESNET},
    {"encoder.down_blocks.{i}.downsamplers.0.*", "encoder.down.{i}.downsample.*"},
    {"decoder.up_blocks.{i}.resnets.{j}.*", "decoder.up.{last}.block.{j}.*", .rest = VAE_RESNET},
    {"decoder.up_blocks.{i}.upsamplers.0.*", "decoder.up.{last}.upsample.*"},
    {"*", "*"}, // conv_in, conv_out, quant_conv, post_quant_conv
    {0},
};

const name_row LDM_CLIP[] = {
    {"text_model.*", "text_model.*"},
    {"text_projection.*", "text_projection.*"},
    {"text_model.*", "*"}, // of programs that leave the text encoder's own name out
    {0},
};

static const name_row OPENCLIP_LAYER[] = {
    {"self_attn.q_proj.*", "attn.in_proj_*", VIEW_FIRST_THIRD},
    {"self_attn.k_proj.*", "attn.in_proj_*", VIEW_SECOND_THIRD},
    {"self_attn.v_proj.*", "attn.in_proj_*", VIEW_LAST_THIRD},
    {"self_attn.out_proj.*", "attn.out_proj.*"},
    {"layer_norm1.*", "ln_1.*"},
    {"layer_norm2.*", "ln_2.*"},
    {"mlp.fc1.*", "mlp.c_fc.*"},
    {"mlp.fc2.*", "mlp.c_proj.*"},
    {0},
};

const name_row LDM_OPENCLIP[] = {
    {"text_model.embeddings.token_embedding.weight", "token_embedding.weight"},
    {"text_model.embeddings.position_embedding.weight", "positional_embedding"},
    {"text_model.encoder.layers.{i}.*", "transformer.resblocks.{i}.*", .rest = OPENCLIP_LAYER},
    {"text_model.final_layer_norm.*", "ln_final.*"},
    {"text_projection.weight", "text_projection", VIEW_TRANSPOSED},
    {"logit_scale", "logit_scale"}, // of the training; no network reads it
    {0},
};
