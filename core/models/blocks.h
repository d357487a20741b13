// What the UNet and the autoencoder are both made of.
#pragma once
#include "core/graph/graph.h"

typedef struct {
    int groups;
    double eps;
    bool scale_shift; // time scales and shifts the second norm's result, instead of being added before it
    double divisor;   // of the sum of input and result; 1 except in some middle blocks
    bool recompute;   // a block of the backward pass
} resnet_style;

// x [B,H,W,I], time [B,E] (after its SiLU, or NULL for none) → [B,H,W,O]
node *resnet(node *x, node *time, int64_t out, const resnet_style *s);

// Self-attention over all pixels with its own group norm and residual: x [B,H,W,C] → [B,H,W,C]
node *pixel_attention(node *x, int heads, const resnet_style *s);

// A 3×3 convolution of stride 2; padding 0 pads right and bottom by one, as the autoencoder's encoder does.
node *downsample(node *x, int padding);
// Nearest neighbours to H × W, then a 3×3 convolution.
node *upsample(node *x, int64_t H, int64_t W);

// Reads an image [B,H,W,C] as tokens [B,H·W,C]: the same bytes.
node *as_tokens(node *x);

// softmax(q·kᵀ/√D)·v with layers to_q, to_k, to_v and to_out.0; x [B,T,C], context [B,S,E] → [B,T,C]
node *attend(node *x, node *context, int heads, bool qkv_bias);
