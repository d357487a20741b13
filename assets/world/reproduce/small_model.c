#include "assets/world/reproduce/small_model.h"

#include <string.h>

#include "assets/world/vocab.h"
#include "core/base/fs.h"
#include "core/base/mem.h"
#include "core/models/vae.h"
#include "core/train/export.h"
#include "core/train/params.h"

// ---- configurations

static const char INDEX[] =
    "{\"_class_name\": \"StableDiffusionPipeline\", \"_diffusers_version\": \"0.42.0\","
    " \"feature_extractor\": [null, null], \"image_encoder\": [null, null],"
    " \"requires_safety_checker\": false, \"safety_checker\": [null, null],"
    " \"scheduler\": [\"diffusers\", \"DDIMScheduler\"],"
    " \"text_encoder\": [\"transformers\", \"CLIPTextModel\"],"
    " \"tokenizer\": [\"transformers\", \"CLIPTokenizer\"],"
    " \"unet\": [\"diffusers\", \"UNet2DConditionModel\"], \"vae\": [\"diffusers\", \"AutoencoderKL\"]}";

static const char UNET[] =
    "{\"_class_name\": \"UNet2DConditionModel\", \"addition_embed_type\": \"text\","
    " \"addition_embed_type_num_heads\": 4, \"attention_head_dim\": 4,"
    " \"block_out_channels\": [16, 32, 64], \"cross_attention_dim\": 64,"
    " \"down_block_types\": [\"DownBlock2D\", \"DownBlock2D\", \"CrossAttnDownBlock2D\"],"
    " \"in_channels\": 3, \"layers_per_block\": 1, \"norm_num_groups\": 8, \"out_channels\": 3,"
    " \"resnet_time_scale_shift\": \"scale_shift\", \"sample_size\": 32,"
    " \"up_block_types\": [\"CrossAttnUpBlock2D\", \"UpBlock2D\", \"UpBlock2D\"],"
    " \"use_linear_projection\": true}";

// One level, so that latents are as large as the picture.
static const char VAE[] =
    "{\"_class_name\": \"AutoencoderKL\", \"act_fn\": \"silu\", \"block_out_channels\": [8],"
    " \"down_block_types\": [\"DownEncoderBlock2D\"], \"in_channels\": 3, \"latent_channels\": 3,"
    " \"layers_per_block\": 1, \"mid_block_add_attention\": false, \"norm_num_groups\": 1,"
    " \"out_channels\": 3, \"sample_size\": 32, \"scaling_factor\": 1.0,"
    " \"up_block_types\": [\"UpDecoderBlock2D\"], \"use_quant_conv\": false, \"use_post_quant_conv\": false}";

static json_t *text_config(const vocab *v) {
    return json_pack("{s:[s], s:s, s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i}", "architectures",
                     "CLIPTextModel", "model_type", "clip_text_model", "hidden_act", "quick_gelu",
                     "hidden_size", 64, "intermediate_size", 256, "projection_dim", 64, "num_hidden_layers",
                     1, "num_attention_heads", 4, "max_position_embeddings", VOCAB_CONTEXT, "vocab_size",
                     v->tokens, "bos_token_id", v->tokens - 2, "eos_token_id", v->tokens - 1, "pad_token_id",
                     v->tokens - 1);
}

static status save_text(const char *dir, const char *folder, const char *name, const char *text, error *err) {
    char *place = fs_join(dir, folder), *path = place ? fs_join(place, name) : NULL;
    status s = path ? fs_mkdirs(place, err) : fail(err, ERR_TEMP, "out of memory");
    if (!s) s = fs_write_atomic(path, text, strlen(text), true, err);
    mem_free(path);
    mem_free(place);
    return s;
}

static status save_json(const char *dir, const char *folder, const char *name, const json_t *j, error *err) {
    char *text = j ? json_dumps(j, JSON_INDENT(2)) : NULL;
    status s = text ? save_text(dir, folder, name, text, err) : fail(err, ERR_TEMP, "out of memory");
    free(text); // jansson's
    return s;
}

static status save_words(const char *dir, error *err) {
    arena a = {0};
    vocab v;
    char *folder = fs_join(dir, "tokenizer");
    status s = folder ? fs_mkdirs(folder, err) : fail(err, ERR_TEMP, "out of memory");
    if (!s) s = vocab_build(&v, &a, err);
    if (!s) s = vocab_save(&v, folder, err);
    json_t *text = s ? NULL : text_config(&v);
    if (!s) s = save_json(dir, "text_encoder", "config.json", text, err);
    json_decref(text);
    mem_free(folder);
    arena_free(&a);
    return s;
}

// ---- the autoencoder

// Between its first and last convolution an AutoencoderKL of one level normalises and takes SiLU; its
// residual branches start at zero (init.c). Eight channels carry the picture through unchanged:
//
//     r g b  −r −g −b  K −K
//
// The two constants dwarf the picture, so that the group's mean is 0 and its deviation K/2 whatever it shows,
// and silu(a) − silu(−a) = a.
enum { CHANNELS = 8, KERNEL = 9, CENTRE = 4, RGB = 3 };
static const float K = 512;

static float *value_of(params *p, const char *coder, const char *name) {
    char path[64];
    snprintf(path, sizeof path, "vae.%s.%s", coder, name);
    param *q = params_find(p, path);
    return q ? q->w.value : NULL;
}

static status carry(params *p, const char *coder, error *err) {
    float *in = value_of(p, coder, "conv_in.weight"), *constant = value_of(p, coder, "conv_in.bias");
    float *out = value_of(p, coder, "conv_out.weight");
    param *last = params_find(p, !strcmp(coder, "encoder") ? "vae.encoder.conv_out.weight"
                                                           : "vae.decoder.conv_out.weight");
    if (!in || !constant || !out || !last)
        return fail(err, ERR_INTERNAL, "the autoencoder has other tensors");
    memset(in, 0, CHANNELS * RGB * KERNEL * sizeof *in);
    memset(out, 0, last->n * sizeof *out);
    for (int c = 0; c < RGB; c++) {
        in[(c * RGB + c) * KERNEL + CENTRE] = 1;
        in[((RGB + c) * RGB + c) * KERNEL + CENTRE] = -1;
        out[(c * CHANNELS + c) * KERNEL + CENTRE] = K / 2;
        out[(c * CHANNELS + RGB + c) * KERNEL + CENTRE] = -K / 2;
    }
    constant[2 * RGB] = K;
    constant[2 * RGB + 1] = -K;
    return OK;
}

static status make_tensors(params *p, const vae_config *c, error *err) {
    graph g;
    graph_init(&g, DT_F32);
    g.weights = params_training(p);
    path_push(&g, "vae");
    shape one = SHAPE(1, SMALL_MODEL_SIDE, SMALL_MODEL_SIDE, RGB);
    vae_encode_build(&g, c, graph_input(&g, "picture", one, DT_F32, RATE_STEP));
    vae_decode_build(&g, c, graph_input(&g, "latent", one, DT_F32, RATE_STEP));
    status s = g.err.code ? fail(err, g.err.code, "%s", g.err.text) : OK;
    graph_free(&g);
    return s;
}

static status save_autoencoder(const char *dir, error *err) {
    json_t *j = json_loads(VAE, 0, NULL);
    params *p = params_new(1);
    vae_config c;
    status s = j && p ? vae_config_parse(&c, j, "vae", err) : fail(err, ERR_TEMP, "out of memory");
    if (!s) s = make_tensors(p, &c, err);
    if (!s) s = carry(p, "encoder", err);
    if (!s) s = carry(p, "decoder", err);
    if (!s) params_seal(p); // averages are what is written
    if (!s) s = export_component(p, "vae", "diffusion_pytorch_model.safetensors", j, DT_F32, dir, err);
    params_free(p);
    json_decref(j);
    return s;
}

status small_model_save(const char *dir, const json_t *scheduler, error *err) {
    status s = save_text(dir, "", "model_index.json", INDEX, err);
    if (!s) s = save_json(dir, "scheduler", "scheduler_config.json", scheduler, err);
    if (!s) s = save_text(dir, "unet", "config.json", UNET, err);
    if (!s) s = save_words(dir, err);
    return s ? s : save_autoencoder(dir, err);
}
