#include "core/models/unet.h"

#include "core/graph/op.h"
#include "core/models/blocks.h"

#include <math.h>

// What every block needs.
typedef struct {
    graph *g;
    const unet_config *c;
    node *time; // SiLU of the time embedding [B,E]: what every resnet projects
    node *text; // [B,T,D]
    resnet_style style;
} scene;

// ---- embeddings: everything that is added to the time embedding

// linear, SiLU, linear: x [B,I] → [B,E]
static node *two_layers(node *x, const char *name, int64_t out) {
    if (is_poison(x)) return x;
    int mark = path_push(x->g, "%s", name);
    x = linear(unary(linear(x, "linear_1", out, true), UNARY_SILU), "linear_2", out, true);
    path_pop(x->g, mark);
    return x;
}

static node *waves(const unet_config *c, node *t, int64_t dim) {
    return cast(timestep_embedding(t, dim, c->flip_sin_to_cos, c->freq_shift, 10000), t->g->compute);
}

static node *missing(graph *g, const char *name) {
    return poison(g, "the network needs the input '%s'", name);
}

static node *time_embedding(graph *g, const unet_config *c, const unet_inputs *in) {
    node *t = waves(c, in->timestep, c->level[0].channels); // [B,C₀]
    if (in->timestep_cond && c->time_cond_proj_dim)
        t = add(t, linear(cast(in->timestep_cond, g->compute), "time_embedding.cond_proj",
                          c->level[0].channels, false));
    return two_layers(t, "time_embedding", c->time_embed_dim);
}

static node *class_embedding_of(graph *g, const unet_config *c, node *labels) {
    if (!labels) return missing(g, "class_labels");
    int64_t E = c->time_embed_dim;
    switch (c->class_embed) {
    case CLASS_LABEL:
        return embedding(labels, graph_weight(g, "class_embedding.weight", SHAPE(c->num_class_embeds, E)));
    case CLASS_TIMESTEP:
        return two_layers(waves(c, labels, c->level[0].channels), "class_embedding", E);
    case CLASS_PROJECTION:
        return two_layers(cast(labels, g->compute), "class_embedding", E);
    case CLASS_SIMPLE_PROJECTION:
        return linear(cast(labels, g->compute), "class_embedding", E, true);
    default:
        return cast(labels, g->compute);
    }
}

// The mean token, placed, asks all tokens and itself: x [B,T,D] → [B,D]
static node *attention_pool(node *x, int heads) {
    graph *g = x->g;
    int mark = path_push(g, "pool");
    int64_t B = x->shape.d[0], T = x->shape.d[1], D = x->shape.d[2];
    node *mean = affine(reduce_sum(x, SHAPE(B, 1, D), x->dtype), 1.0 / (double)T, 0);
    node *asks = add(mean, graph_weight(g, "positional_embedding", SHAPE(1, D))); // [B,1,D]
    node *all = concat(asks, x, 1);                                               // [B,T+1,D]
    node *q = linear(asks, "q_proj", D, true), *k = linear(all, "k_proj", D, true),
         *v = linear(all, "v_proj", D, true);
    node *y = attention(q, k, v, heads, 1 / sqrt((double)D / heads), false);
    path_pop(g, mark);
    return reshape(y, SHAPE(B, D));
}

static node *text_addition(graph *g, const unet_config *c, node *text) {
    if (!text) return missing(g, "encoder_hidden_states");
    if (is_poison(text)) return text;
    int mark = path_push(g, "add_embedding");
    node *x = attention_pool(norm_layer(cast(text, g->compute), "norm1", 1e-5), c->addition_heads);
    x = norm_layer(linear(x, "proj", c->time_embed_dim, true), "norm2", 1e-5); // [B,E]
    path_pop(g, mark);
    return x;
}

// SDXL: the pooled text and six numbers (original size, crop, target size), each as waves.
static node *text_time_addition(graph *g, const unet_config *c, const unet_inputs *in) {
    if (!in->text_embeds) return missing(g, "text_embeds");
    if (!in->time_ids) return missing(g, "time_ids");
    shape s = in->time_ids->shape; // [B,time_ids]
    node *w = waves(c, reshape(in->time_ids, SHAPE(shape_count(s))), c->addition_time_embed_dim);
    w = reshape(w, SHAPE(s.d[0], shape_last(s) * c->addition_time_embed_dim)); // [B,time_ids·A]
    node *x = concat(cast(in->text_embeds, g->compute), w, 1);
    if (!is_poison(x) && shape_last(x->shape) != c->projection_input_dim)
        return poison(g, "text_embeds and time_ids make %lld values, the configuration says %lld",
                      (long long)shape_last(x->shape), (long long)c->projection_input_dim);
    return two_layers(x, "add_embedding", c->time_embed_dim);
}

static node *embeddings(graph *g, const unet_config *c, const unet_inputs *in) {
    node *e = time_embedding(g, c, in); // [B,E]
    if (c->class_embed) e = add(e, class_embedding_of(g, c, in->class_labels));
    if (c->addition_embed == ADDITION_TEXT) e = add(e, text_addition(g, c, in->encoder_hidden_states));
    if (c->addition_embed == ADDITION_TEXT_TIME) e = add(e, text_time_addition(g, c, in));
    return e;
}

// ---- transformer

// x [B,T,C]: attention to itself (or to the text too), attention to the text, feed-forward.
static node *transformer_layer(node *x, const scene *s, const unet_level *l) {
    graph *g = x->g;
    // 1. self-attention
    node *h = norm_layer(x, "norm1", 1e-5);
    int mark = path_push(g, "attn1");
    h = attend(h, l->only_cross_attention ? s->text : h, l->heads, false);
    path_pop(g, mark);
    x = add(x, h);
    // 2. cross-attention
    h = norm_layer(x, "norm2", 1e-5);
    path_push(g, "attn2");
    h = attend(h, s->text, l->heads, false);
    path_pop(g, mark);
    x = add(x, h);
    // 3. feed-forward, four times as wide
    h = geglu(linear(norm_layer(x, "norm3", 1e-5), "ff.net.0.proj", 8 * l->channels, true));
    return add(x, linear(h, "ff.net.2", l->channels, true));
}

// To or from the transformer's tokens; a 1×1 convolution in older models, the same arithmetic.
static node *projection(node *x, const char *name, const scene *s, int64_t C) {
    return s->c->use_linear_projection ? linear(x, name, C, true)
                                       : conv(x, name, C, 1, (conv_geometry){.stride = 1}, true);
}

static node *transformer(node *x, const scene *s, const unet_level *l, int depth) {
    if (is_poison(x)) return x;
    graph *g = x->g;
    if (s->style.recompute) block_begin(g);
    // 1. in
    node *h = projection(norm_group(x, "norm", s->style.groups, 1e-6, ACT_NONE), "proj_in", s, l->channels);
    h = as_tokens(h); // [B,H·W,C]
    // 2. layers
    for (int i = 0; i < depth; i++) {
        int mark = path_push(g, "transformer_blocks.%d", i);
        h = transformer_layer(h, s, l);
        path_pop(g, mark);
    }
    // 3. out
    h = projection(reshape(h, x->shape), "proj_out", s, l->channels); // [B,H,W,C]
    h = add(x, h);
    if (s->style.recompute) block_end(g);
    return h;
}

// ---- blocks

// What a block adds behind its resnets.
typedef struct {
    unet_block type;
    int head_size, depth;
} addition;

// Layer i of a block.
static node *block_layer(node *x, const scene *s, const unet_level *l, addition add, int i) {
    graph *g = s->g;
    int mark = path_push(g, "resnets.%d", i);
    x = resnet(x, s->time, l->channels, &s->style);
    path_pop(g, mark);
    if (add.type == UNET_RESNETS) return x;
    path_push(g, "attentions.%d", i);
    x = add.type == UNET_ATTENTION ? pixel_attention(x, (int)(l->channels / add.head_size), &s->style)
                                   : transformer(x, s, l, add.depth);
    path_pop(g, mark);
    return x;
}

// What the way down leaves for the way up, newest last.
typedef struct {
    node *x[1 + UNET_MAX_LEVELS * 101];
    int n;
} skips;

static node *down_block(node *x, const scene *s, int level, skips *kept) {
    const unet_level *l = &s->c->level[level];
    int mark = path_push(s->g, "down_blocks.%d", level);
    for (int i = 0; i < l->layers; i++) {
        addition add = {l->down, l->down_head_size, l->down_depth[i]};
        kept->x[kept->n++] = x = block_layer(x, s, l, add, i); // [B,H,W,C]
    }
    if (level < s->c->n_levels - 1) {
        path_push(s->g, "downsamplers.0");
        kept->x[kept->n++] = x = downsample(x, s->c->downsample_padding); // [B,⌈H/2⌉,⌈W/2⌉,C]
    }
    path_pop(s->g, mark);
    return x;
}

static node *mid_block(node *x, const scene *s) {
    if (s->c->mid == UNET_MID_NONE) return x;
    scene m = *s;
    m.style.divisor = s->c->mid_block_scale_factor;
    unet_level l = s->c->level[s->c->n_levels - 1];
    l.only_cross_attention = false;
    int mark = path_push(s->g, "mid_block");
    bool cross = s->c->mid == UNET_MID_CROSS_ATTENTION;
    x = block_layer(x, &m, &l, (addition){cross ? UNET_CROSS_ATTENTION : UNET_RESNETS, 0, s->c->mid_depth},
                    0);
    if (cross) x = block_layer(x, &m, &l, (addition){UNET_RESNETS, 0, 0}, 1);
    path_pop(s->g, mark);
    return x;
}

static node *up_block(node *x, const scene *s, int level, skips *kept) {
    const unet_level *l = &s->c->level[level];
    int mark = path_push(s->g, "up_blocks.%d", s->c->n_levels - 1 - level);
    for (int i = 0; i < l->layers + 1; i++) {
        x = concat(x, kept->x[--kept->n], 3); // [B,H,W,C + skip]
        x = block_layer(x, s, l, (addition){l->up, l->up_head_size, l->up_depth[i]}, i);
    }
    if (level > 0) {
        path_push(s->g, "upsamplers.0");
        shape next = kept->x[kept->n - 1]->shape; // twice as large, or one pixel less
        x = upsample(x, next.d[1], next.d[2]);
    }
    path_pop(s->g, mark);
    return x;
}

static node *same_size_conv(node *x, const char *name, int64_t out, int kernel) {
    int p = (kernel - 1) / 2;
    return conv(x, name, out, kernel, (conv_geometry){1, p, p, p, p}, true);
}

node *unet_build(graph *g, const unet_config *c, const unet_inputs *in) {
    // 1. time and what is added to it
    scene s = {g, c, .time = unary(embeddings(g, c, in), UNARY_SILU)}; // [B,E]
    s.text = in->encoder_hidden_states ? cast(in->encoder_hidden_states, g->compute)
                                       : missing(g, "encoder_hidden_states");
    s.style = (resnet_style){c->norm_num_groups, c->norm_eps, c->scale_shift, 1, c->recompute};
    // 2. in
    node *x = cast(in->sample, g->compute); // [B,H,W,I]
    if (c->center_input_sample) x = affine(x, 2, -1);
    x = same_size_conv(x, "conv_in", c->level[0].channels, c->conv_in_kernel); // [B,H,W,C₀]
    // 3. down
    skips kept = {.x = {x}, .n = 1};
    for (int i = 0; i < c->n_levels; i++) x = down_block(x, &s, i, &kept);
    // 4. middle
    x = mid_block(x, &s);
    // 5. up
    for (int i = c->n_levels - 1; i >= 0; i--) x = up_block(x, &s, i, &kept);
    // 6. out
    x = norm_group(x, "conv_norm_out", c->norm_num_groups, c->norm_eps, ACT_SILU);
    return cast(same_size_conv(x, "conv_out", c->out_channels, c->conv_out_kernel), g->exact);
}
