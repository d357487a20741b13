#include "core/models/blocks.h"

#include "core/graph/op.h"

#include <math.h>

node *as_tokens(node *x) {
    if (is_poison(x) || x->shape.rank != 4) return x;
    shape s = x->shape;
    return reshape(x, SHAPE(s.d[0], s.d[1] * s.d[2], s.d[3]));
}

// [B,C] → [B,1,1,C], which broadcasts over pixels.
static node *per_image(node *x) {
    if (is_poison(x)) return x;
    return reshape(x, SHAPE(x->shape.d[0], 1, 1, x->shape.d[1]));
}

// norm → (1 + scale)·h + shift → SiLU (arXiv 2105.05233 §3)
static node *modulated_norm(node *h, node *time, int64_t C, const resnet_style *s) {
    node *scale = slice(time, 1, 0, C), *shift = slice(time, 1, C, C);
    h = norm_group(h, "norm2", s->groups, s->eps, ACT_NONE);
    h = mul(h, per_image(affine(scale, 1, 1)));
    return unary(add(h, per_image(shift)), UNARY_SILU);
}

static node *resnet_body(node *x, node *time, int64_t out, const resnet_style *s) {
    // 1. first half
    node *h = norm_group(x, "norm1", s->groups, s->eps, ACT_SILU); // [B,H,W,I]
    h = conv3x3(h, "conv1", out, 1);                               // [B,H,W,O]
    // 2. time
    node *t = time ? linear(time, "time_emb_proj", s->scale_shift ? 2 * out : out, true) : NULL;
    if (t && !s->scale_shift) h = add(h, per_image(t));
    // 3. second half
    if (t && s->scale_shift)
        h = modulated_norm(h, t, out, s);
    else
        h = norm_group(h, "norm2", s->groups, s->eps, ACT_SILU);
    h = conv3x3(h, "conv2", out, 1);
    // 4. the way round
    if (shape_last(x->shape) != out) x = conv(x, "conv_shortcut", out, 1, (conv_geometry){.stride = 1}, true);
    return affine(add(x, h), 1 / s->divisor, 0);
}

node *resnet(node *x, node *time, int64_t out, const resnet_style *s) {
    graph *g = x->g;
    if (s->recompute) block_begin(g);
    node *y = resnet_body(x, time, out, s);
    if (s->recompute) block_end(g);
    return y;
}

node *attend(node *x, node *context, int heads, bool qkv_bias) {
    int64_t C = shape_last(x->shape);
    node *q = linear(x, "to_q", C, qkv_bias);       // [B,T,C]
    node *k = linear(context, "to_k", C, qkv_bias); // [B,S,C]
    node *v = linear(context, "to_v", C, qkv_bias); // [B,S,C]
    node *y = attention(q, k, v, heads, 1 / sqrt((double)C / heads), false);
    return linear(y, "to_out.0", C, true);
}

node *pixel_attention(node *x, int heads, const resnet_style *s) {
    if (is_poison(x)) return x;
    if (s->recompute) block_begin(x->g);
    node *h = as_tokens(norm_group(x, "group_norm", s->groups, s->eps, ACT_NONE)); // [B,H·W,C]
    h = attend(h, h, heads, true);
    node *y = affine(add(x, reshape(h, x->shape)), 1 / s->divisor, 0);
    if (s->recompute) block_end(x->g);
    return y;
}

node *downsample(node *x, int padding) {
    if (is_poison(x)) return x;
    conv_geometry geo = padding ? (conv_geometry){2, padding, padding, padding, padding}
                                : (conv_geometry){.stride = 2, .bottom = 1, .right = 1};
    return conv(x, "conv", shape_last(x->shape), 3, geo, true);
}

node *upsample(node *x, int64_t H, int64_t W) {
    if (is_poison(x)) return x;
    return conv3x3(upsample_nearest(x, H, W), "conv", shape_last(x->shape), 1);
}
