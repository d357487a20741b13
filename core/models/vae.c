#include "core/models/vae.h"

#include "core/graph/op.h"
#include "core/models/blocks.h"
#include "core/models/config.h"

// ---- configuration

static const char *const FIELDS[] = {"in_channels",
                                     "out_channels",
                                     "latent_channels",
                                     "block_out_channels",
                                     "down_block_types",
                                     "up_block_types",
                                     "layers_per_block",
                                     "norm_num_groups",
                                     "mid_block_add_attention",
                                     "use_quant_conv",
                                     "use_post_quant_conv",
                                     "scaling_factor",
                                     "shift_factor",
                                     "force_upcast",
                                     "sample_size",
                                     NULL};
static const char *const NULLABLE[] = {"shift_factor", NULL};
static const config_field FIXED[] = {
    {"act_fn", "\"silu\""}, {"latents_mean", "null"}, {"latents_std", "null"}, {NULL, NULL}};

static void check_types(js_reader *r, const char *key, const char *type, int n) {
    int dst[VAE_MAX_LEVELS];
    int have = config_choices(r, key, (const char *const[]){type, NULL}, dst, VAE_MAX_LEVELS);
    if ((have ? have : 1) != n) config_wrong(r, key, "has another length than block_out_channels");
}

status vae_config_parse(vae_config *c, const json_t *config, const char *where, error *err) {
    js_reader r = {config, where, err, OK};
    *c = (vae_config){0};
    config_check(&r, "AutoencoderKL", FIELDS, NULLABLE, FIXED);
    c->in_channels = js_int(&r, "in_channels", 3, 1, 1 << 10);
    c->out_channels = js_int(&r, "out_channels", 3, 1, 1 << 10);
    c->latent_channels = js_int(&r, "latent_channels", 4, 1, 1 << 10);
    c->n_levels = (int)js_ints(&r, "block_out_channels", c->block_out_channels, VAE_MAX_LEVELS, 1, 1 << 16);
    if (!c->n_levels) c->block_out_channels[c->n_levels++] = 64;
    check_types(&r, "down_block_types", "DownEncoderBlock2D", c->n_levels);
    check_types(&r, "up_block_types", "UpDecoderBlock2D", c->n_levels);
    c->layers_per_block = (int)js_int(&r, "layers_per_block", 1, 1, 100);
    c->norm_num_groups = (int)js_int(&r, "norm_num_groups", 32, 1, 1 << 16);
    c->mid_block_add_attention = js_bool(&r, "mid_block_add_attention", true);
    c->use_quant_conv = js_bool(&r, "use_quant_conv", true);
    c->use_post_quant_conv = js_bool(&r, "use_post_quant_conv", true);
    c->scaling_factor = js_real(&r, "scaling_factor", 0.18215, 1e-6, 1e6);
    c->shift_factor = js_real(&r, "shift_factor", 0, -1e6, 1e6);
    c->force_upcast = js_bool(&r, "force_upcast", true);
    c->sample_size = config_sample_size(&r, 32);
    for (int i = 0; i < c->n_levels; i++)
        if (c->block_out_channels[i] % c->norm_num_groups)
            config_wrong(&r, "block_out_channels", "has an entry that norm_num_groups does not divide");
    return r.code;
}

int64_t vae_factor(const vae_config *c) { return (int64_t)1 << (c->n_levels - 1); }

// ---- network

static resnet_style style_of(const vae_config *c) {
    return (resnet_style){.groups = c->norm_num_groups, .eps = 1e-6, .divisor = 1, .recompute = c->recompute};
}

// Also without attention the middle has two resnets.
static node *mid_block(node *x, const vae_config *c, const resnet_style *s) {
    graph *g = x->g;
    int64_t C = c->block_out_channels[c->n_levels - 1];
    int mark = path_push(g, "mid_block.resnets.0");
    x = resnet(x, NULL, C, s);
    path_pop(g, mark);
    if (c->mid_block_add_attention) {
        path_push(g, "mid_block.attentions.0");
        x = pixel_attention(x, 1, s);
        path_pop(g, mark);
    }
    path_push(g, "mid_block.resnets.1");
    x = resnet(x, NULL, C, s);
    path_pop(g, mark);
    return x;
}

static node *pointwise(node *x, const char *name, int64_t out) {
    return conv(x, name, out, 1, (conv_geometry){.stride = 1}, true);
}

static node *resnet_at(node *x, int i, int64_t out, const resnet_style *s) {
    int mark = path_push(x->g, "resnets.%d", i);
    x = resnet(x, NULL, out, s);
    path_pop(x->g, mark);
    return x;
}

static node *normalised_out(node *x, int64_t out, const resnet_style *s) {
    x = norm_group(x, "conv_norm_out", s->groups, s->eps, ACT_SILU);
    return conv3x3(x, "conv_out", out, 1);
}

// ---- the encoder, stage by stage: all resnets, each with what brings its picture, then the rest

static node *encode_down(graph *g, const vae_config *c, int i, node *x) {
    resnet_style s = style_of(c);
    int level = i / c->layers_per_block, first = i % c->layers_per_block == 0;
    int mark = path_push(g, "encoder");
    if (i == 0) x = conv3x3(cast(x, g->compute), "conv_in", c->block_out_channels[0], 1); // [B,H,W,C₀]
    if (first && level > 0) {
        int before = path_push(g, "down_blocks.%d.downsamplers.0", level - 1);
        x = downsample(x, 0);
        path_pop(g, before);
    }
    path_push(g, "down_blocks.%d", level);
    x = resnet_at(x, i % c->layers_per_block, c->block_out_channels[level], &s); // [B,H/2ⁱ,W/2ⁱ,Cᵢ]
    path_pop(g, mark);
    return x;
}

static node *encode_end(graph *g, const vae_config *c, node *x) {
    resnet_style s = style_of(c);
    int mark = path_push(g, "encoder");
    x = normalised_out(mid_block(x, c, &s), 2 * c->latent_channels, &s); // [B,h,w,2L]
    path_pop(g, mark);
    if (c->use_quant_conv) x = pointwise(x, "quant_conv", 2 * c->latent_channels);
    return cast(x, g->exact);
}

// ---- the decoder: all to the middle, then all resnets, then the picture

static node *decode_begin(graph *g, const vae_config *c, node *x) {
    resnet_style s = style_of(c);
    x = cast(x, g->compute); // [B,h,w,L]
    if (c->use_post_quant_conv) x = pointwise(x, "post_quant_conv", c->latent_channels);
    int mark = path_push(g, "decoder");
    x = conv3x3(x, "conv_in", c->block_out_channels[c->n_levels - 1], 1); // [B,h,w,C]
    x = mid_block(x, c, &s);
    path_pop(g, mark);
    return x;
}

// Levels from the deepest one on.
static node *decode_up(graph *g, const vae_config *c, int i, node *x) {
    resnet_style s = style_of(c);
    if (is_poison(x)) return x;
    int level = i / (c->layers_per_block + 1), within = i % (c->layers_per_block + 1);
    int mark = path_push(g, "decoder");
    if (within == 0 && level > 0) {
        int before = path_push(g, "up_blocks.%d.upsamplers.0", level - 1);
        x = upsample(x, 2 * x->shape.d[1], 2 * x->shape.d[2]);
        path_pop(g, before);
    }
    path_push(g, "up_blocks.%d", level);
    x = resnet_at(x, within, c->block_out_channels[c->n_levels - 1 - level], &s);
    path_pop(g, mark);
    return x;
}

static node *decode_end(graph *g, const vae_config *c, node *x) {
    resnet_style s = style_of(c);
    int mark = path_push(g, "decoder");
    x = normalised_out(x, c->out_channels, &s); // [B,H,W,3]
    path_pop(g, mark);
    return cast(x, g->exact);
}

// ---- stages

static int resnets_of(const vae_config *c, vae_way way) {
    return c->n_levels * (c->layers_per_block + (way == VAE_DECODE));
}

int vae_stages(const vae_config *c, vae_way way) { return resnets_of(c, way) + (way == VAE_DECODE ? 2 : 1); }

// Rows that an output row needs beside its own: one for each 3×3 convolution. What is sampled down needs four
// for the two at half the size and two more, so that windows stay even.
vae_stage vae_stage_at(const vae_config *c, vae_way way, int i) {
    if (way == VAE_ENCODE) {
        if (i == resnets_of(c, way)) return (vae_stage){.whole = true};
        bool down = i && i % c->layers_per_block == 0;
        return (vae_stage){.scale = -down, .halo = down ? 6 : i ? 2 : 3, .norms = 2};
    }
    if (i == 0) return (vae_stage){.whole = true};
    if (i == 1 + resnets_of(c, way)) return (vae_stage){.halo = 1, .norms = 1};
    bool up = i > 1 && (i - 1) % (c->layers_per_block + 1) == 0;
    return (vae_stage){.scale = up, .halo = 2, .norms = 2};
}

node *vae_stage_build(graph *g, const vae_config *c, vae_way way, int i, node *x) {
    if (way == VAE_ENCODE) return i < resnets_of(c, way) ? encode_down(g, c, i, x) : encode_end(g, c, x);
    if (i == 0) return decode_begin(g, c, x);
    return i <= resnets_of(c, way) ? decode_up(g, c, i - 1, x) : decode_end(g, c, x);
}

static node *build_all(graph *g, const vae_config *c, vae_way way, node *x) {
    for (int i = 0; i < vae_stages(c, way); i++) x = vae_stage_build(g, c, way, i, x);
    return x;
}

vae_moments vae_encode_build(graph *g, const vae_config *c, node *sample) {
    node *x = build_all(g, c, VAE_ENCODE, sample);
    int64_t L = c->latent_channels;
    return (vae_moments){slice(x, 3, 0, L), clamp(slice(x, 3, L, L), VAE_LOW_LOGVAR, VAE_HIGH_LOGVAR)};
}

node *vae_decode_build(graph *g, const vae_config *c, node *latent) {
    return build_all(g, c, VAE_DECODE, latent);
}
