// Around the networks: configurations, weights from files, layouts.
#include "core/base/fs.h"
#include "core/base/json.h"
#include "core/base/mem.h"
#include "core/files/safetensors.h"
#include "core/files/weights_file.h"
#include "core/graph/op.h"
#include "core/graph/runner.h"
#include "core/models/clip.h"
#include "core/models/layout.h"
#include "core/models/unet.h"
#include "core/models/vae.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// ---- configurations

static json_t *parse(const char *text) {
    error err = {0};
    json_t *j = js_parse("config.json", text, strlen(text), &err);
    cr_assert_not_null(j, "%s", err.text);
    return j;
}

static status parse_unet(const char *text, unet_config *c, error *err) {
    json_t *j = parse(text);
    status s = unet_config_parse(c, j, "config.json", err);
    json_decref(j);
    return s;
}

static status parse_vae(const char *text, vae_config *c, error *err) {
    json_t *j = parse(text);
    status s = vae_config_parse(c, j, "config.json", err);
    json_decref(j);
    return s;
}

static status parse_clip(const char *text, clip_config *c, error *err) {
    json_t *j = parse(text);
    status s = clip_config_parse(c, j, "config.json", err);
    json_decref(j);
    return s;
}

Test(models, an_empty_unet_configuration_is_that_of_the_class) {
    unet_config c;
    error err = {0};
    cr_assert_eq(parse_unet("{}", &c, &err), OK, "%s", err.text);
    cr_expect_eq(c.n_levels, 4);
    cr_expect_eq(c.level[3].channels, 1280);
    cr_expect_eq(c.level[2].down, UNET_CROSS_ATTENTION);
    cr_expect_eq(c.level[3].down, UNET_RESNETS);
    cr_expect_eq(c.level[3].up, UNET_RESNETS);
    cr_expect_eq(c.level[0].up, UNET_CROSS_ATTENTION);
    cr_expect_eq(c.level[1].heads, 8);
    cr_expect_eq(c.level[0].cross_attention_dim, 1280);
    cr_expect_eq(c.level[0].layers, 2);
    cr_expect_eq(c.mid, UNET_MID_CROSS_ATTENTION);
    cr_expect_eq(c.norm_num_groups, 32);
    cr_expect_eq(c.time_embed_dim, 1280);
    cr_expect(c.flip_sin_to_cos);
}

Test(models, an_empty_vae_and_clip_configuration_is_that_of_the_class) {
    vae_config v;
    clip_config t;
    error err = {0};
    cr_assert_eq(parse_vae("{}", &v, &err), OK, "%s", err.text);
    cr_expect_eq(v.n_levels, 1);
    cr_expect_eq(v.block_out_channels[0], 64);
    cr_expect_eq(v.scaling_factor, 0.18215);
    cr_expect(v.use_quant_conv && v.use_post_quant_conv && v.mid_block_add_attention && v.force_upcast);
    cr_assert_eq(parse_clip("{}", &t, &err), OK, "%s", err.text);
    cr_expect_eq(t.hidden_size, 512);
    cr_expect_eq(t.num_attention_heads, 8);
    cr_expect_eq(t.eos_token_id, 49407);
    cr_expect_eq(t.hidden_act, UNARY_QUICK_GELU);
    cr_expect_not(t.with_projection);
}

Test(models, lists_and_single_values_say_the_same) {
    unet_config one, list;
    error err = {0};
    const char *format = "{\"block_out_channels\": [32, 64, 96, 96], \"layers_per_block\": %s, "
                         "\"attention_head_dim\": %s, \"only_cross_attention\": %s}";
    char text[512];
    snprintf(text, sizeof text, format, "3", "4", "true");
    cr_assert_eq(parse_unet(text, &one, &err), OK, "%s", err.text);
    snprintf(text, sizeof text, format, "[3, 3, 3, 3]", "[4, 4, 4, 4]", "[true, true, true, true]");
    cr_assert_eq(parse_unet(text, &list, &err), OK, "%s", err.text);
    for (int i = 0; i < 4; i++) {
        cr_expect_eq(one.level[i].layers, 3);
        cr_expect_eq(list.level[i].layers, 3);
        cr_expect_eq(one.level[i].heads, 4);
        cr_expect_eq(list.level[i].heads, 4);
        cr_expect(one.level[i].only_cross_attention && list.level[i].only_cross_attention);
    }
}

typedef struct {
    const char *text, *says;
} refusal;

Test(models, what_a_unet_cannot_honour_is_named) {
    static const refusal REFUSED[] = {
        {"{\"surprise\": 1}", "'surprise' is not a field"},
        {"{\"_class_name\": \"UNet3DConditionModel\"}", "_class_name"},
        {"{\"act_fn\": \"gelu\"}", "'act_fn' is \"gelu\", which is not supported (only \"silu\")"},
        {"{\"dual_cross_attention\": true}", "'dual_cross_attention' is true"},
        {"{\"num_attention_heads\": 8}", "'num_attention_heads' is 8"},
        {"{\"encoder_hid_dim\": 64}", "'encoder_hid_dim' is 64"},
        {"{\"norm_num_groups\": null}", "'norm_num_groups' is null"},
        {"{\"norm_num_groups\": 33}", "'block_out_channels'"},
        {"{\"mid_block_type\": \"UNetMidBlock2DSimpleCrossAttn\"}", "UNetMidBlock2DSimpleCrossAttn"},
        {"{\"down_block_types\": [\"DownBlock2D\"]}", "'down_block_types' has another length"},
        {"{\"down_block_types\": [\"KDownBlock2D\", \"DownBlock2D\", \"DownBlock2D\", \"DownBlock2D\"]}",
         "KDownBlock2D"},
        {"{\"attention_head_dim\": [8, 8]}", "'attention_head_dim' has another length"},
        {"{\"attention_head_dim\": 7}", "'attention_head_dim' does not divide"},
        {"{\"only_cross_attention\": [true]}", "'only_cross_attention' has another length"},
        {"{\"transformer_layers_per_block\": [[1, 1], 1, 1, 1]}", "'transformer_layers_per_block'"},
        {"{\"class_embed_type\": \"projection\"}", "'projection_class_embeddings_input_dim' is missing"},
        {"{\"addition_embed_type\": \"image\"}", "'addition_embed_type' is 'image'"},
        {"{\"addition_embed_type\": \"text_time\", \"projection_class_embeddings_input_dim\": 9}",
         "'addition_time_embed_dim' is missing"},
        {"{\"block_out_channels\": [1e9]}", "'block_out_channels'"},
        {"{\"block_out_channels\": []}", "'block_out_channels'"},
        {"{\"up_block_types\": []}", "'up_block_types' is an empty list"},
        {"{\"in_channels\": 0}", "'in_channels' is 0"},
        {"{\"layers_per_block\": 1000000}", "'layers_per_block'"}};
    for (size_t i = 0; i < sizeof REFUSED / sizeof *REFUSED; i++) {
        unet_config c;
        error err = {0};
        cr_expect_eq(parse_unet(REFUSED[i].text, &c, &err), ERR_DATA, "%s", REFUSED[i].text);
        cr_expect(strstr(err.text, REFUSED[i].says), "%s: '%s'", REFUSED[i].text, err.text);
    }
}

Test(models, what_a_vae_or_clip_cannot_honour_is_named) {
    static const refusal VAE[] = {
        {"{\"surprise\": 1}", "'surprise'"},
        {"{\"latents_mean\": [0, 0, 0, 0]}", "'latents_mean'"},
        {"{\"up_block_types\": [\"AttnUpDecoderBlock2D\"]}", "AttnUpDecoderBlock2D"},
        {"{\"block_out_channels\": [64, 64]}", "'down_block_types' has another length"},
        {"{\"block_out_channels\": [60]}", "norm_num_groups"}};
    static const refusal CLIP[] = {{"{\"surprise\": 1}", "'surprise'"},
                                   {"{\"hidden_act\": \"relu\"}", "'hidden_act' is 'relu'"},
                                   {"{\"num_attention_heads\": 7}", "'hidden_size'"},
                                   {"{\"model_type\": \"t5\"}", "'model_type'"},
                                   {"{\"architectures\": [\"T5EncoderModel\"]}", "T5EncoderModel"}};
    for (size_t i = 0; i < sizeof VAE / sizeof *VAE; i++) {
        vae_config c;
        error err = {0};
        cr_expect_eq(parse_vae(VAE[i].text, &c, &err), ERR_DATA, "%s", VAE[i].text);
        cr_expect(strstr(err.text, VAE[i].says), "%s: '%s'", VAE[i].text, err.text);
    }
    for (size_t i = 0; i < sizeof CLIP / sizeof *CLIP; i++) {
        clip_config c;
        error err = {0};
        cr_expect_eq(parse_clip(CLIP[i].text, &c, &err), ERR_DATA, "%s", CLIP[i].text);
        cr_expect(strstr(err.text, CLIP[i].says), "%s: '%s'", CLIP[i].text, err.text);
    }
}

Test(models, the_pooled_token) {
    const int32_t ids[] = {7, 3, 9, 2, 9};
    cr_expect_eq(clip_eos_position(&(clip_config){.eos_token_id = 2}, ids, 5), 2,
                 "the highest, its first place");
    cr_expect_eq(clip_eos_position(&(clip_config){.eos_token_id = 3}, ids, 5), 1);
    cr_expect_eq(clip_eos_position(&(clip_config){.eos_token_id = 5}, ids, 5), 0,
                 "absent: as torch's argmax of zeros");
}

Test(models, a_missing_input_is_named) {
    unet_config c;
    error err = {0};
    cr_assert_eq(parse_unet("{\"num_class_embeds\": 3}", &c, &err), OK, "%s", err.text);
    graph g;
    graph_init(&g, DT_F32);
    unet_inputs in = {.sample = graph_input(&g, "sample", SHAPE(1, 8, 8, 4), DT_F32, RATE_STEP),
                      .timestep = graph_input(&g, "timestep", SHAPE(1), DT_F32, RATE_STEP)};
    cr_expect(is_poison(unet_build(&g, &c, &in)));
    cr_expect_neq(g.err.code, OK);
    graph_free(&g);
}

// ---- layout

Test(models, layouts_are_each_others_inverse) {
    enum { B = 2, C = 3, H = 2, W = 5, N = B * C * H * W };
    float x[N], y[N], z[N];
    for (int i = 0; i < N; i++) x[i] = (float)i;
    nchw_to_nhwc(x, y, B, C, H, W);
    cr_expect_eq(y[((1 * H + 1) * W + 4) * C + 2], x[((1 * C + 2) * H + 1) * W + 4]);
    nhwc_to_nchw(y, z, B, C, H, W);
    cr_expect_arr_eq(z, x, sizeof x);
}

// ---- weights of a file

static void write_file(const char *path) {
    static const float w[4] = {1, 2, 3, 4}, b[2] = {10, 20};
    safetensors_item items[] = {
        {.name = "mid.query.weight", .type = DT_F32, .ndim = 2, .shape = {2, 2}, .data = w},
        {.name = "mid.query.bias", .type = DT_F32, .ndim = 1, .shape = {2}, .data = b}};
    error err = {0};
    cr_assert_eq(safetensors_save(path, items, 2, NULL, 0, true, &err), OK, "%s", err.text);
}

Test(models, weights_are_found_in_a_file_under_their_other_names) {
    char path[] = "calotype-weights-XXXXXX.safetensors";
    int fd = mkstemps(path, 12);
    cr_assert_geq(fd, 0);
    close(fd);
    write_file(path);
    error err = {0};
    weights_file *f = weights_file_open(path, NULL, &err);
    cr_assert_not_null(f, "%s", err.text);
    graph g;
    graph_init(&g, DT_F32);
    g.weights = weights_file_weights(f);
    node *x = graph_input(&g, "x", SHAPE(1, 2), DT_F32, RATE_STEP), *y = linear(x, "mid.to_q", 2, true);
    backend *be = reference_backend(NULL);
    runner r;
    cr_assert_eq(runner_init(&r, &g, &y, 1, be, NULL, NULL, &err), OK, "%s", err.text);
    memcpy(exec_input(r.exec, "x"), (float[]){1, 100}, 8);
    cr_assert_eq(exec_run(r.exec, &err), OK, "%s", err.text);
    const float *out = exec_output(r.exec, 0);
    cr_expect_eq(out[0], 1 + 200 + 10);
    cr_expect_eq(out[1], 3 + 400 + 20);
    runner_free(&r);
    backend_free(be);
    weights_file_close(f);
    remove(path);
}
