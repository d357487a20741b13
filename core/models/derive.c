#include "core/models/derive.h"

#include "core/models/unet.h"
#include "core/models/vae.h"

#include <stdarg.h>
#include <stdio.h>

enum { MAX_LAYERS = 12, MAX_DEPTH = 40, MAX_CLIP_LAYERS = 100, MAX_NAME = 256, HEAD_SIZE = 64 };

// ---- shapes

int64_t derive_size(const weights *w, const char *name, int axis) {
    const weight *t = w->find(w, name);
    return t && axis < t->shape.rank ? t->shape.d[axis] : 0;
}

__attribute__((format(printf, 3, 4))) static int64_t size_of(const weights *w, int axis, const char *format,
                                                             ...) {
    char name[MAX_NAME];
    va_list args;
    va_start(args, format);
    vsnprintf(name, sizeof name, format, args);
    va_end(args);
    return derive_size(w, name, axis);
}

int derive_count(const weights *w, int limit, const char *pattern) {
    char name[MAX_NAME];
    int n = 0;
    for (int i = 0; i < limit; i++) {
        snprintf(name, sizeof name, pattern, i);
        if (w->find(w, name)) n = i + 1;
    }
    return n;
}

// What most of the tensors say: one with a wrong shape does not make all others wrong.
typedef struct {
    int64_t value[2 * MAX_LAYERS * 4];
    int n;
} votes;

static void vote(votes *v, int64_t value) {
    if (value > 0 && v->n < (int)(sizeof v->value / sizeof *v->value)) v->value[v->n++] = value;
}

static int64_t decide(const votes *v) {
    int64_t best = 0;
    for (int i = 0, most = 0; i < v->n; i++) {
        int same = 0;
        for (int k = 0; k < v->n; k++) same += v->value[k] == v->value[i];
        if (same > most) most = same, best = v->value[i];
    }
    return best;
}

static json_t *no_tensor(const weights *w, const char *where, const char *name, error *err) {
    char theirs[512];
    snprintf(theirs, sizeof theirs, "%s", name);
    if (w->spell) w->spell(w, name, theirs, sizeof theirs);
    fail(err, ERR_DATA, "%s: tensor '%s' is missing, from which the network could be told", where, theirs);
    return NULL;
}

// Takes over what it is given; NULL where any of it is NULL.
static json_t *whole(json_t *j, error *err) {
    if (!j) fail(err, ERR_TEMP, "out of memory");
    return j;
}

static json_t *int_list(const int64_t *values, int n) {
    json_t *a = json_array();
    for (int i = 0; i < n; i++) json_array_append_new(a, json_integer(values[i]));
    return a;
}

// ---- the UNet

// One of those that read the text.
static const char TEXT_READER[] = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight";

typedef struct {
    int64_t channels;
    int down[MAX_LAYERS], up[MAX_LAYERS + 1]; // transformer layers behind each resnet, 0: no attention
} level_shape;

typedef struct {
    int levels, layers, mid; // mid: transformer layers of the middle; -1: it is one resnet
    level_shape level[UNET_MAX_LEVELS];
    int64_t text; // features of the text it reads
    bool linear;  // tokens are projected by matrices
} unet_shape;

static void vote_resnet(votes *v, const weights *w, const char *block, int i, int j) {
    vote(v, size_of(w, 0, "%s_blocks.%d.resnets.%d.conv1.weight", block, i, j));
    vote(v, size_of(w, 0, "%s_blocks.%d.resnets.%d.norm2.weight", block, i, j));
    vote(v, size_of(w, 0, "%s_blocks.%d.resnets.%d.conv2.weight", block, i, j));
    vote(v, size_of(w, 0, "%s_blocks.%d.resnets.%d.conv2.bias", block, i, j));
}

// What all transformers agree on.
typedef struct {
    votes text;
    int matrices, convolutions; // that project the tokens
} reading;

// Layers of the transformer behind resnet j of block i; 0 where there is none.
static int read_transformer(reading *r, const weights *w, const char *block, int i, int j) {
    char pattern[MAX_NAME];
    snprintf(pattern, sizeof pattern, "%s_blocks.%d.attentions.%d.transformer_blocks.%%d.norm1.weight", block,
             i, j);
    int depth = derive_count(w, MAX_DEPTH, pattern);
    if (!depth) return 0;
    vote(&r->text,
         size_of(w, 1, "%s_blocks.%d.attentions.%d.transformer_blocks.0.attn2.to_k.weight", block, i, j));
    bool convolution = size_of(w, 3, "%s_blocks.%d.attentions.%d.proj_in.weight", block, i, j) > 0;
    r->convolutions += convolution;
    r->matrices += !convolution;
    return depth;
}

// A whole block may be missing on one of the two ways: the other has as many channels.
static void read_level(unet_shape *u, reading *r, const weights *w, int i) {
    level_shape *l = &u->level[i];
    int mirror = u->levels - 1 - i;
    votes v = {0};
    for (int j = 0; j <= u->layers; j++) {
        if (j < u->layers) vote_resnet(&v, w, "down", i, j);
        if (j < u->layers) l->down[j] = read_transformer(r, w, "down", i, j);
        vote_resnet(&v, w, "up", mirror, j);
        l->up[j] = read_transformer(r, w, "up", mirror, j);
    }
    l->channels = decide(&v);
}

static void read_unet(unet_shape *u, const weights *w) {
    char pattern[MAX_NAME];
    *u = (unet_shape){0};
    for (int j = 0; j < 2; j++) {
        snprintf(pattern, sizeof pattern, "down_blocks.%%d.resnets.%d.conv1.weight", j);
        int n = derive_count(w, UNET_MAX_LEVELS, pattern);
        if (n > u->levels) u->levels = n;
    }
    u->layers = derive_count(w, MAX_LAYERS, "down_blocks.0.resnets.%d.conv1.weight");
    reading r = {0};
    for (int i = 0; i < u->levels; i++) read_level(u, &r, w, i);
    u->text = decide(&r.text);
    u->linear = r.matrices > r.convolutions;
    u->mid = derive_count(w, MAX_DEPTH, "mid_block.attentions.0.transformer_blocks.%d.norm1.weight");
    if (!u->mid && !w->find(w, "mid_block.resnets.1.conv1.weight")) u->mid = -1;
}

static int any(const int *depths, int n) {
    for (int i = 0; i < n; i++)
        if (depths[i]) return depths[i];
    return 0;
}

static bool uniform(const int *depths, int n, int depth) {
    for (int i = 0; i < n; i++)
        if (depths[i] && depths[i] != depth) return false;
    return true;
}

// Of a level without attention the middle's, which diffusers reads from the deepest one's entry.
static int depth_of_level(const unet_shape *u, int i) {
    int down = any(u->level[i].down, u->layers), up = any(u->level[i].up, u->layers + 1);
    return down ? down : up ? up : u->mid > 0 && i == u->levels - 1 ? u->mid : 1;
}

static bool one_depth_a_level(const unet_shape *u) {
    for (int i = 0; i < u->levels; i++) {
        int depth = depth_of_level(u, i);
        if (!uniform(u->level[i].down, u->layers, depth) || !uniform(u->level[i].up, u->layers + 1, depth))
            return false;
    }
    return true;
}

// Pruned models have another depth behind each resnet: lists of lists, the way up from the deepest level.
static json_t *depths_of(const int *depths, int n) {
    if (!any(depths, n)) return json_integer(1);
    json_t *a = json_array();
    for (int j = 0; j < n; j++) json_array_append_new(a, json_integer(depths[j] ? depths[j] : 1));
    return a;
}

static void set_depths(json_t *j, const unet_shape *u) {
    json_t *down = json_array(), *up = json_array();
    for (int i = 0; i < u->levels; i++) {
        const level_shape *l = &u->level[i], *mirror = &u->level[u->levels - 1 - i];
        json_array_append_new(down, one_depth_a_level(u) ? json_integer(depth_of_level(u, i))
                                                         : depths_of(l->down, u->layers));
        json_array_append_new(up, depths_of(mirror->up, u->layers + 1));
    }
    json_object_set_new(j, "transformer_layers_per_block", down);
    if (one_depth_a_level(u))
        json_decref(up);
    else
        json_object_set_new(j, "reverse_transformer_layers_per_block", up);
}

// On both ways or on none, as in all models.
static bool attends(const unet_shape *u, const level_shape *l) {
    return any(l->down, u->layers) || any(l->up, u->layers + 1);
}

// attention_head_dim is the number of heads.
static void set_levels(json_t *j, const unet_shape *u, unet_heads how) {
    bool eight = how == HEADS_BY_SHAPE ? !u->linear : how == HEADS_EIGHT;
    json_t *down = json_array(), *up = json_array(), *heads = json_array(), *channels = json_array();
    for (int i = 0; i < u->levels; i++) {
        const level_shape *l = &u->level[i], *mirror = &u->level[u->levels - 1 - i];
        bool reads = attends(u, l), writes = attends(u, mirror);
        int64_t n = eight ? 8 : l->channels / HEAD_SIZE;
        json_array_append_new(down, json_string(reads ? "CrossAttnDownBlock2D" : "DownBlock2D"));
        json_array_append_new(up, json_string(writes ? "CrossAttnUpBlock2D" : "UpBlock2D"));
        json_array_append_new(heads, json_integer(n > 0 ? n : 1));
        json_array_append_new(channels, json_integer(l->channels));
    }
    json_object_set_new(j, "down_block_types", down);
    json_object_set_new(j, "up_block_types", up);
    json_object_set_new(j, "attention_head_dim", heads);
    json_object_set_new(j, "block_out_channels", channels);
}

// SDXL: the pooled text and numbers of 256 waves each.
static void set_addition(json_t *j, const weights *w) {
    int64_t in = derive_size(w, "add_embedding.linear_1.weight", 1);
    if (!in) return;
    json_object_set_new(j, "addition_embed_type", json_string("text_time"));
    json_object_set_new(j, "addition_time_embed_dim", json_integer(256));
    json_object_set_new(j, "projection_class_embeddings_input_dim", json_integer(in));
}

json_t *derive_unet(const weights *w, const unet_traits *traits, const char *where, error *err) {
    unet_shape u;
    read_unet(&u, w);
    if (!w->find(w, "conv_in.weight")) return no_tensor(w, where, "conv_in.weight", err);
    if (!u.levels || !u.layers) return no_tensor(w, where, "down_blocks.0.resnets.0.conv1.weight", err);
    if (!u.text) return no_tensor(w, where, TEXT_READER, err);
    int64_t out = derive_size(w, "conv_out.weight", 0);
    json_t *j = json_pack("{s:s, s:I, s:I, s:I, s:i, s:I, s:b}", "_class_name", "UNet2DConditionModel",
                          "sample_size", (json_int_t)traits->sample_size, "in_channels",
                          (json_int_t)derive_size(w, "conv_in.weight", 1), "out_channels",
                          (json_int_t)(out ? out : 4), "layers_per_block", u.layers, "cross_attention_dim",
                          (json_int_t)u.text, "use_linear_projection", u.linear);
    if (!j) return whole(NULL, err);
    set_levels(j, &u, traits->heads);
    set_depths(j, &u);
    set_addition(j, w);
    if (u.mid < 0) json_object_set_new(j, "mid_block_type", json_string("UNetMidBlock2D"));
    return j;
}

// ---- the autoencoder

// By any of its tensors: what else is missing is told then.
static bool has_attention(const weights *w, const char *half) {
    return size_of(w, 0, "%s.mid_block.attentions.0.to_q.weight", half) ||
           size_of(w, 0, "%s.mid_block.attentions.0.group_norm.weight", half);
}

json_t *derive_vae(const weights *w, double scaling_factor, const char *where, error *err) {
    int64_t channels[VAE_MAX_LEVELS];
    int levels = derive_count(w, VAE_MAX_LEVELS, "encoder.down_blocks.%d.resnets.0.conv1.weight");
    int layers = derive_count(w, MAX_LAYERS, "encoder.down_blocks.0.resnets.%d.conv1.weight");
    if (!levels) return no_tensor(w, where, "encoder.down_blocks.0.resnets.0.conv1.weight", err);
    json_t *down = json_array(), *up = json_array();
    for (int i = 0; i < levels; i++) {
        votes v = {0};
        for (int k = 0; k < layers; k++) {
            vote(&v, size_of(w, 0, "encoder.down_blocks.%d.resnets.%d.conv1.weight", i, k));
            vote(&v, size_of(w, 0, "encoder.down_blocks.%d.resnets.%d.norm2.weight", i, k));
            vote(&v, size_of(w, 0, "encoder.down_blocks.%d.resnets.%d.conv2.bias", i, k));
        }
        channels[i] = decide(&v);
        json_array_append_new(down, json_string("DownEncoderBlock2D"));
        json_array_append_new(up, json_string("UpDecoderBlock2D"));
    }
    int64_t latents = derive_size(w, "decoder.conv_in.weight", 1);
    bool quant = w->find(w, "quant_conv.weight") || w->find(w, "post_quant_conv.weight");
    bool attention = has_attention(w, "decoder") || has_attention(w, "encoder");
    return whole(json_pack("{s:s, s:I, s:I, s:I, s:o, s:o, s:o, s:i, s:f, s:b, s:b, s:b}", "_class_name",
                           "AutoencoderKL", "in_channels",
                           (json_int_t)derive_size(w, "encoder.conv_in.weight", 1), "out_channels",
                           (json_int_t)derive_size(w, "decoder.conv_out.weight", 0), "latent_channels",
                           (json_int_t)(latents ? latents : 4), "block_out_channels",
                           int_list(channels, levels), "down_block_types", down, "up_block_types", up,
                           "layers_per_block", layers, "scaling_factor", scaling_factor, "use_quant_conv",
                           quant, "use_post_quant_conv", quant, "mid_block_add_attention", attention),
                 err);
}

// ---- text encoders

json_t *derive_clip(const weights *w, const clip_traits *traits, const char *where, error *err) {
    static const char tokens[] = "text_model.embeddings.token_embedding.weight";
    int64_t words = derive_size(w, tokens, 0), width = derive_size(w, tokens, 1);
    int layers = derive_count(w, MAX_CLIP_LAYERS, "text_model.encoder.layers.%d.layer_norm1.weight");
    if (words < 2 || !width) return no_tensor(w, where, tokens, err);
    if (layers <= traits->skipped)
        return no_tensor(w, where, "text_model.encoder.layers.0.layer_norm1.weight", err);
    int64_t heads = width / HEAD_SIZE,
            inner = derive_size(w, "text_model.encoder.layers.0.mlp.fc1.weight", 0);
    int64_t places = derive_size(w, "text_model.embeddings.position_embedding.weight", 0);
    int64_t projected = traits->projects ? derive_size(w, "text_projection.weight", 0) : 0;
    return whole(json_pack("{s:[s], s:I, s:I, s:I, s:I, s:i, s:I, s:s, s:I, s:I, s:I}", "architectures",
                           traits->projects ? "CLIPTextModelWithProjection" : "CLIPTextModel", "vocab_size",
                           (json_int_t)words, "hidden_size", (json_int_t)width, "intermediate_size",
                           (json_int_t)(inner ? inner : 4 * width), "max_position_embeddings",
                           (json_int_t)(places ? places : 77), "num_hidden_layers", layers - traits->skipped,
                           "num_attention_heads", (json_int_t)(heads ? heads : 1), "hidden_act",
                           traits->open_clip ? "gelu" : "quick_gelu", "projection_dim",
                           (json_int_t)(projected ? projected : width), "bos_token_id",
                           (json_int_t)(words - 2), "eos_token_id", (json_int_t)(words - 1)),
                 err);
}
