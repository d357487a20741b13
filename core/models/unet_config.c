// config.json of a UNet2DConditionModel.
#include "core/models/config.h"
#include "core/models/unet.h"

#include <string.h>

static const char *const FIELDS[] = {"sample_size",
                                     "in_channels",
                                     "out_channels",
                                     "center_input_sample",
                                     "flip_sin_to_cos",
                                     "freq_shift",
                                     "down_block_types",
                                     "mid_block_type",
                                     "up_block_types",
                                     "only_cross_attention",
                                     "block_out_channels",
                                     "layers_per_block",
                                     "downsample_padding",
                                     "mid_block_scale_factor",
                                     "norm_num_groups",
                                     "norm_eps",
                                     "cross_attention_dim",
                                     "transformer_layers_per_block",
                                     "reverse_transformer_layers_per_block",
                                     "attention_head_dim",
                                     "use_linear_projection",
                                     "class_embed_type",
                                     "addition_embed_type",
                                     "addition_time_embed_dim",
                                     "num_class_embeds",
                                     "upcast_attention",
                                     "resnet_time_scale_shift",
                                     "time_embedding_dim",
                                     "time_cond_proj_dim",
                                     "conv_in_kernel",
                                     "conv_out_kernel",
                                     "projection_class_embeddings_input_dim",
                                     "addition_embed_type_num_heads",
                                     NULL};

static const char *const NULLABLE[] = {"sample_size",
                                       "mid_block_type",
                                       "class_embed_type",
                                       "reverse_transformer_layers_per_block",
                                       "addition_embed_type",
                                       "addition_time_embed_dim",
                                       "num_class_embeds",
                                       "time_embedding_dim",
                                       "time_cond_proj_dim",
                                       "projection_class_embeddings_input_dim",
                                       NULL};

static const config_field FIXED[] = {{"act_fn", "\"silu\""},
                                     {"dropout", "0"},
                                     {"dual_cross_attention", "false"},
                                     {"num_attention_heads", "null"},
                                     {"encoder_hid_dim", "null"},
                                     {"encoder_hid_dim_type", "null"},
                                     {"resnet_skip_time_act", "false"},
                                     {"resnet_out_scale_factor", "1"},
                                     {"time_embedding_type", "\"positional\""},
                                     {"time_embedding_act_fn", "null"},
                                     {"timestep_post_act", "null"},
                                     {"attention_type", "\"default\""},
                                     {"class_embeddings_concat", "false"},
                                     {"mid_block_only_cross_attention", "null"},
                                     {"cross_attention_norm", "null"},
                                     // how an average of the training was made
                                     {"decay", NULL},
                                     {"inv_gamma", NULL},
                                     {"min_decay", NULL},
                                     {"optimization_step", NULL},
                                     {"power", NULL},
                                     {"update_after_step", NULL},
                                     {"use_ema_warmup", NULL},
                                     {NULL, NULL}};

static const char *const DOWN[] = {"DownBlock2D", "AttnDownBlock2D", "CrossAttnDownBlock2D", NULL};
static const char *const UP[] = {"UpBlock2D", "AttnUpBlock2D", "CrossAttnUpBlock2D", NULL};
static const char *const MID[] = {"", "UNetMidBlock2D", "UNetMidBlock2DCrossAttn", NULL};
static const char *const CLASS[] = {"", "", "timestep", "identity", "projection", "simple_projection", NULL};
static const char *const ADDITION[] = {"", "text", "text_time", NULL};
static const char *const TIME_NORM[] = {"default", "scale_shift", NULL};

// ---- levels

static void read_types(js_reader *r, unet_config *c) {
    enum { N = UNET_MAX_LEVELS };
    int n = c->n_levels, down[N] = {2, 2, 2, 0}, up[N] = {0, 2, 2, 2};
    int n_down = config_choices(r, "down_block_types", DOWN, down, N),
        n_up = config_choices(r, "up_block_types", UP, up, N);
    if ((n_down ? n_down : 4) != n)
        config_wrong(r, "down_block_types", "has another length than block_out_channels");
    if ((n_up ? n_up : 4) != n)
        config_wrong(r, "up_block_types", "has another length than block_out_channels");
    for (int i = 0; i < n; i++) {
        c->level[i].down = (unet_block)down[i];
        c->level[i].up = (unet_block)up[n - 1 - i];
    }
}

// One number for all of a block's n transformers, or a list. Absent: 1.
static void read_depth(js_reader *r, const char *key, const json_t *v, int *dst, int n) {
    enum { MAX_DEPTH = 1000 };
    if (json_is_array(v) && json_array_size(v) != (size_t)n)
        config_wrong(r, key, "has an entry with another number of transformers than the block");
    for (int i = 0; i < n; i++) {
        const json_t *e = json_is_array(v) ? json_array_get(v, (size_t)i) : v;
        json_int_t depth = e ? json_integer_value(e) : 1;
        if ((e && !json_is_integer(e)) || depth < 1 || depth > MAX_DEPTH)
            config_wrong(r, key, "holds something that is not a number from 1 to 1000");
        dst[i] = r->code ? 1 : (int)depth;
    }
}

// An entry for each level; the way up, from the deepest one, may have a list of its own and must where the
// way down has lists in its list.
static void read_depths(js_reader *r, unet_config *c) {
    static const char DOWN_KEY[] = "transformer_layers_per_block",
                      UP_KEY[] = "reverse_transformer_layers_per_block";
    const json_t *down = json_object_get(r->object, DOWN_KEY), *up = json_object_get(r->object, UP_KEY);
    int n = c->n_levels;
    if (json_is_null(up)) up = NULL;
    if (json_is_array(down) && json_array_size(down) == 1) down = json_array_get(down, 0);
    if (json_is_array(down) && json_array_size(down) != (size_t)n)
        config_wrong(r, DOWN_KEY, "has another length than block_out_channels");
    if (up && (!json_is_array(up) || json_array_size(up) != (size_t)n))
        config_wrong(r, UP_KEY, "has another length than block_out_channels");
    for (int i = 0; i < n && !r->code; i++) {
        unet_level *l = &c->level[i];
        const json_t *own = json_is_array(down) ? json_array_get(down, (size_t)i) : down,
                     *back = up ? json_array_get(up, (size_t)(n - 1 - i)) : own;
        if (json_is_array(own) && !up)
            config_wrong(r, DOWN_KEY, "has lists in its list, but not the way back");
        read_depth(r, DOWN_KEY, own, l->down_depth, l->layers);
        read_depth(r, up ? UP_KEY : DOWN_KEY, back, l->up_depth, l->layers + 1);
    }
    c->mid_depth = c->level[n - 1].down_depth[0];
}

static void read_levels(js_reader *r, unet_config *c) {
    enum { N = UNET_MAX_LEVELS };
    int64_t channels[N] = {320, 640, 1280, 1280}, layers[N], heads[N], cross[N];
    bool only[N];
    int n = (int)js_ints(r, "block_out_channels", channels, N, 1, 1 << 16);
    c->n_levels = n = n ? n : 4;
    read_types(r, c);
    config_ints(r, "layers_per_block", n, layers, 2, 1, 100);
    config_ints(r, "attention_head_dim", n, heads, 8, 1, 1 << 16);
    config_ints(r, "cross_attention_dim", n, cross, 1280, 1, 1 << 16);
    config_bools(r, "only_cross_attention", n, only, false);
    for (int i = 0; i < n && !r->code; i++) {
        unet_level *l = &c->level[i];
        l->channels = channels[i];
        l->layers = (int)layers[i];
        l->heads = l->down_head_size = (int)heads[i];
        l->up_head_size = (int)heads[n - 1 - i];
        l->cross_attention_dim = cross[i];
        l->only_cross_attention = only[i];
    }
    if (!r->code) read_depths(r, c);
}

static bool fits(int64_t channels, unet_block b, int heads, int head_size) {
    return b == UNET_RESNETS || channels % (b == UNET_ATTENTION ? head_size : heads) == 0;
}

static void check_levels(js_reader *r, const unet_config *c) {
    for (int i = 0; i < c->n_levels && !r->code; i++) {
        const unet_level *l = &c->level[i];
        if (l->channels % c->norm_num_groups)
            config_wrong(r, "block_out_channels", "has an entry that norm_num_groups does not divide");
        if (!fits(l->channels, l->down, l->heads, l->down_head_size) ||
            !fits(l->channels, l->up, l->heads, l->up_head_size))
            config_wrong(r, "attention_head_dim", "does not divide block_out_channels");
    }
    const unet_level *deepest = &c->level[c->n_levels - 1];
    if (!r->code && c->mid == UNET_MID_CROSS_ATTENTION && deepest->channels % deepest->heads)
        config_wrong(r, "attention_head_dim", "does not divide block_out_channels");
}

// ---- embeddings

static void read_embeddings(js_reader *r, unet_config *c) {
    c->flip_sin_to_cos = js_bool(r, "flip_sin_to_cos", true);
    c->freq_shift = js_real(r, "freq_shift", 0, -100, 100);
    c->time_embed_dim = js_int(r, "time_embedding_dim", 4 * c->level[0].channels, 1, 1 << 20);
    c->time_cond_proj_dim = js_int(r, "time_cond_proj_dim", 0, 1, 1 << 20);
    c->num_class_embeds = js_int(r, "num_class_embeds", 0, 1, 1 << 24);
    c->class_embed = (class_embedding)config_choice(r, "class_embed_type", CLASS,
                                                    c->num_class_embeds ? CLASS_LABEL : CLASS_NONE);
    c->addition_embed = (addition_embedding)config_choice(r, "addition_embed_type", ADDITION, ADDITION_NONE);
    c->addition_heads = (int)js_int(r, "addition_embed_type_num_heads", 64, 1, 1 << 16);
    c->addition_time_embed_dim = js_int(r, "addition_time_embed_dim", 0, 2, 1 << 16);
    c->projection_input_dim = js_int(r, "projection_class_embeddings_input_dim", 0, 1, 1 << 20);
    c->time_ids = TIME_IDS_SIZE;
    bool projects = c->class_embed == CLASS_PROJECTION || c->class_embed == CLASS_SIMPLE_PROJECTION ||
                    c->addition_embed == ADDITION_TEXT_TIME;
    if (projects && !c->projection_input_dim)
        config_wrong(r, "projection_class_embeddings_input_dim", "is missing");
    if (c->addition_embed == ADDITION_TEXT_TIME && !c->addition_time_embed_dim)
        config_wrong(r, "addition_time_embed_dim", "is missing");
    if (c->addition_embed == ADDITION_TEXT && c->level[0].cross_attention_dim % c->addition_heads)
        config_wrong(r, "addition_embed_type_num_heads", "does not divide cross_attention_dim");
}

status unet_config_parse(unet_config *c, const json_t *config, const char *where, error *err) {
    js_reader r = {config, where, err, OK};
    *c = (unet_config){0};
    config_check(&r, "UNet2DConditionModel", FIELDS, NULLABLE, FIXED);
    c->in_channels = js_int(&r, "in_channels", 4, 1, 1 << 12);
    c->out_channels = js_int(&r, "out_channels", 4, 1, 1 << 12);
    c->sample_size = config_sample_size(&r, 0);
    read_levels(&r, c);
    const json_t *mid = json_object_get(config, "mid_block_type");
    c->mid = json_is_null(mid) ? UNET_MID_NONE
                               : (unet_mid)config_choice(&r, "mid_block_type", MID, UNET_MID_CROSS_ATTENTION);
    c->mid_block_scale_factor = js_real(&r, "mid_block_scale_factor", 1, 1e-6, 1e6);
    c->norm_num_groups = (int)js_int(&r, "norm_num_groups", 32, 1, 1 << 16);
    c->norm_eps = js_real(&r, "norm_eps", 1e-5, 1e-30, 1);
    c->downsample_padding = (int)js_int(&r, "downsample_padding", 1, 0, 1);
    c->conv_in_kernel = (int)js_int(&r, "conv_in_kernel", 3, 1, 15);
    c->conv_out_kernel = (int)js_int(&r, "conv_out_kernel", 3, 1, 15);
    c->center_input_sample = js_bool(&r, "center_input_sample", false);
    c->use_linear_projection = js_bool(&r, "use_linear_projection", false);
    c->upcast_attention = js_bool(&r, "upcast_attention", false);
    c->scale_shift = config_choice(&r, "resnet_time_scale_shift", TIME_NORM, 0) == 1;
    read_embeddings(&r, c);
    if (!r.code) check_levels(&r, c);
    return r.code;
}

int64_t unet_pooled_features(const unet_config *c) {
    return c->projection_input_dim - c->time_ids * c->addition_time_embed_dim;
}
