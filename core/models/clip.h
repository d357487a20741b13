// The text encoder of CLIP (Radford et al., arXiv 2103.00020), as transformers' CLIPTextModel and
// CLIPTextModelWithProjection.
#pragma once
#include "core/graph/graph.h"

#include <jansson.h>

typedef struct {
    int64_t vocab_size, hidden_size, intermediate_size, max_position_embeddings;
    int num_hidden_layers, num_attention_heads;
    unary_kind hidden_act;
    double layer_norm_eps;
    int64_t projection_dim;
    bool with_projection; // the class that has text_projection
    int32_t bos_token_id, eos_token_id, pad_token_id;
    bool recompute; // not in the file: layers are computed again in the backward pass
} clip_config;

// `where` names the file in messages. An unknown or unsupported field is ERR_DATA and named; absent fields
// have the values of transformers' CLIPTextConfig. with_projection follows `architectures`.
status clip_config_parse(clip_config *c, const json_t *config, const char *where, error *err);

// The position whose state is pooled: the first eos_token_id; with the id 2, which old configurations state
// wrongly, the first of the highest id.
int64_t clip_eos_position(const clip_config *c, const int32_t *ids, int64_t T);

// All of g->exact. N layers give N + 1 states: penultimate is the input of the last layer.
typedef struct {
    node *last_hidden_state; // [B,T,C] after the final norm
    node *penultimate;       // [B,T,C] without it
    node *pooled;            // pooler_output [B,C], or text_embeds [B,P] with projection; of all layers
} clip_outputs;

// ids I32 [B,T]; eos I32 [B]: row b·T + position. `skip` 0: as above. 1 .. N ("clip skip"): both states are
// the one that layer N + 1 - skip leaves, so 1 is the last layer's. Needs g->weights named as in transformers
// 4
// ("text_model.encoder.layers.0.self_attn.q_proj.weight").
clip_outputs clip_build(graph *g, const clip_config *c, int skip, node *ids, node *eos);
