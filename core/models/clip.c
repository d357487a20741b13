#include "core/models/clip.h"

#include "core/graph/op.h"
#include "core/models/config.h"

#include <math.h>
#include <string.h>

// ---- configuration

static const char *const ACTIVATIONS[] = {"quick_gelu", "gelu", "gelu_pytorch_tanh", NULL};
static const unary_kind ACTIVATION_KINDS[] = {UNARY_QUICK_GELU, UNARY_GELU, UNARY_GELU_TANH};

static const char *const FIELDS[] = {"vocab_size",        "hidden_size",
                                     "intermediate_size", "max_position_embeddings",
                                     "num_hidden_layers", "num_attention_heads",
                                     "hidden_act",        "layer_norm_eps",
                                     "projection_dim",    "architectures",
                                     "bos_token_id",      "eos_token_id",
                                     "pad_token_id",      NULL};
static const char *const NULLABLE[] = {"pad_token_id", "bos_token_id", NULL};

// How it was made and stored; nothing of it changes what is computed.
static const config_field FIXED[] = {{"model_type", "\"clip_text_model\""},
                                     {"attention_dropout", "0"},
                                     {"dropout", "0"},
                                     {"initializer_factor", NULL},
                                     {"initializer_range", NULL},
                                     {"torch_dtype", NULL},
                                     {"dtype", NULL},
                                     {"transformers_version", NULL},
                                     {"use_cache", NULL},
                                     {"return_dict", NULL},
                                     {"output_hidden_states", NULL},
                                     {"output_attentions", NULL},
                                     {NULL, NULL}};

static bool architecture_projects(js_reader *r) {
    static const char *const CLASSES[] = {"CLIPTextModel", "CLIPTextModelWithProjection", NULL};
    int which = 0;
    config_choices(r, "architectures", CLASSES, &which, 1);
    return which == 1;
}

status clip_config_parse(clip_config *c, const json_t *config, const char *where, error *err) {
    js_reader r = {config, where, err, OK};
    *c = (clip_config){0};
    config_check(&r, NULL, FIELDS, NULLABLE, FIXED);
    c->vocab_size = js_int(&r, "vocab_size", 49408, 1, 1 << 24);
    c->hidden_size = js_int(&r, "hidden_size", 512, 1, 1 << 16);
    c->intermediate_size = js_int(&r, "intermediate_size", 2048, 1, 1 << 18);
    c->max_position_embeddings = js_int(&r, "max_position_embeddings", 77, 1, 1 << 16);
    c->num_hidden_layers = (int)js_int(&r, "num_hidden_layers", 12, 1, 1000);
    c->num_attention_heads = (int)js_int(&r, "num_attention_heads", 8, 1, 1 << 16);
    c->hidden_act = ACTIVATION_KINDS[config_choice(&r, "hidden_act", ACTIVATIONS, 0)];
    c->layer_norm_eps = js_real(&r, "layer_norm_eps", 1e-5, 1e-30, 1);
    c->projection_dim = js_int(&r, "projection_dim", 512, 1, 1 << 16);
    c->with_projection = architecture_projects(&r);
    c->bos_token_id = (int32_t)js_int(&r, "bos_token_id", 49406, 0, INT32_MAX);
    c->eos_token_id = (int32_t)js_int(&r, "eos_token_id", 49407, 0, INT32_MAX);
    c->pad_token_id = (int32_t)js_int(&r, "pad_token_id", 1, -1, INT32_MAX);
    if (c->hidden_size % c->num_attention_heads)
        config_wrong(&r, "hidden_size", "is not a multiple of num_attention_heads");
    return r.code;
}

int64_t clip_eos_position(const clip_config *c, const int32_t *ids, int64_t T) {
    int64_t highest = 0;
    for (int64_t t = 0; t < T; t++) {
        if (c->eos_token_id != 2 && ids[t] == c->eos_token_id) return t;
        if (ids[t] > ids[highest]) highest = t;
    }
    return c->eos_token_id == 2 ? highest : 0;
}

// ---- network

static node *embed(graph *g, const clip_config *c, node *ids) {
    int mark = path_push(g, "embeddings");
    node *table = graph_weight(g, "token_embedding.weight", SHAPE(c->vocab_size, c->hidden_size));
    node *place =
        graph_weight(g, "position_embedding.weight", SHAPE(c->max_position_embeddings, c->hidden_size));
    node *x = embedding(ids, table);                                   // [B,T,C]
    x = add(cast(x, g->compute), slice(place, 0, 0, ids->shape.d[1])); // + [T,C]
    path_pop(g, mark);
    return x;
}

static node *self_attention(node *x, const clip_config *c) {
    graph *g = x->g;
    int mark = path_push(g, "self_attn");
    int64_t C = c->hidden_size;
    node *q = linear(x, "q_proj", C, true), *k = linear(x, "k_proj", C, true),
         *v = linear(x, "v_proj", C, true);
    double scale = 1 / sqrt((double)C / c->num_attention_heads);
    node *y = linear(attention(q, k, v, c->num_attention_heads, scale, true), "out_proj", C, true);
    path_pop(g, mark);
    return y;
}

static node *layer(node *x, const clip_config *c, int i) {
    graph *g = x->g;
    int mark = path_push(g, "encoder.layers.%d", i);
    if (c->recompute) block_begin(g);
    x = add(x, self_attention(norm_layer(x, "layer_norm1", c->layer_norm_eps), c)); // [B,T,C]
    node *h = norm_layer(x, "layer_norm2", c->layer_norm_eps);
    h = unary(linear(h, "mlp.fc1", c->intermediate_size, true), c->hidden_act);
    x = add(x, linear(h, "mlp.fc2", c->hidden_size, true));
    if (c->recompute) block_end(g);
    path_pop(g, mark);
    return x;
}

clip_outputs clip_build(graph *g, const clip_config *c, int skip, node *ids, node *eos) {
    if (is_poison(ids) || is_poison(eos)) return (clip_outputs){g->poison, g->poison, g->poison};
    int mark = path_push(g, "text_model");
    // 1. tokens and places
    node *x = embed(g, c, ids), *last = x, *penultimate = x; // [B,T,C]
    // 2. layers
    for (int i = 1; i <= c->num_hidden_layers; i++) {
        x = layer(x, c, i - 1);
        if (i == c->num_hidden_layers + 1 - (skip ? skip : 1)) last = x;
        if (i == c->num_hidden_layers + 1 - (skip ? skip : 2)) penultimate = x;
    }
    // 3. final norm
    node *normed = norm_layer(last, "final_layer_norm", c->layer_norm_eps);
    x = last == x ? normed : norm_layer(x, "final_layer_norm", c->layer_norm_eps);
    path_pop(g, mark);
    // 4. the state of the end token stands for the text
    int64_t rows = ids->shape.d[0] * ids->shape.d[1];
    node *pooled = embedding(eos, reshape(x, SHAPE(rows, c->hidden_size))); // [B,C]
    if (c->with_projection) pooled = linear(pooled, "text_projection", c->projection_dim, false);
    return (clip_outputs){cast(normed, g->exact), cast(penultimate, g->exact), cast(pooled, g->exact)};
}
