// Checkpoints in one file, in the original layout: their tensors under our names are bit for bit what
// diffusers' conversion makes of them (tests/golden/checkpoint, by tests/parity/checkpoint.py), what they are
// is detected, and what is wrong with them is said.
#include "core/api.h"
#include "core/base/fs.h"
#include "core/base/json.h"
#include "core/base/mem.h"
#include "core/files/hub.h"
#include "core/files/safetensors.h"
#include "core/models/model.h"
#include "tests/ldm_file.h"
#include "tests/tiny_model.h"

#include <criterion/criterion.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

TestSuite(checkpoint, .init = ldm_begin, .fini = ldm_end, .timeout = 300);

// ---- tensors

static void check_tensor(const weights *w, const row *r) {
    char digest[9];
    unsigned char md[EVP_MAX_MD_SIZE];
    error err = {0};
    const weight *t = w->find(w, r->name);
    shape want = {.rank = r->rank};
    memcpy(want.d, r->shape, sizeof r->shape);
    cr_assert_not_null(t, "%s", r->name);
    cr_expect(weight_fits(t->shape, want), "%s", r->name);
    size_t bytes = (size_t)shape_count(t->shape) * sizeof(float);
    float *x = mem_alloc(bytes);
    cr_assert_eq(t->read(t, x, &err), OK, "%s", err.text);
    EVP_Digest(x, bytes, md, NULL, EVP_sha256(), NULL);
    snprintf(digest, sizeof digest, "%02x%02x%02x%02x", md[0], md[1], md[2], md[3]);
    cr_expect_str_eq(digest, r->hash, "%s", r->name);
    mem_free(x);
}

static void check_case(const char *name, int parts) {
    model *m = open_changed(name, &(changes){0});
    int seen[N_PARTS] = {0};
    for (int i = 0; i < list.n; i++)
        for (int p = 0; p < N_PARTS; p++) {
            if (strcmp(list.rows[i].part, model_part_name((model_part)p))) continue;
            error err = {0};
            const weights *w = model_weights(m, (model_part)p, &err);
            cr_assert_not_null(w, "%s", err.text);
            check_tensor(w, &list.rows[i]);
            seen[p]++;
        }
    int found = 0;
    for (int p = 0; p < N_PARTS; p++) found += seen[p] > 0;
    cr_expect_eq(found, parts);
    for (network net = 0; net < N_NETS; net++) {
        error err = {0};
        if (net == NET_TEXT_ENCODER_2 && !model_has(m, PART_TEXT_ENCODER_2)) continue;
        cr_expect_eq(model_check(m, net, &err), OK, "%s", err.text);
    }
    model_free(m);
}

Test(checkpoint, tensors_of_sd1_are_those_of_diffusers) { check_case("sd1", 3); }
Test(checkpoint, tensors_of_sd2_are_those_of_diffusers) { check_case("sd2", 3); }
Test(checkpoint, tensors_of_sdxl_are_those_of_diffusers) { check_case("sdxl", 4); }

// ---- what it is

Test(checkpoint, configurations_follow_from_the_tensors) {
    error err = {0};
    model *m = open_changed("sdxl", &(changes){0});
    expect_finding(m, "kind", "SDXL");
    expect_finding(m, "task", "text to image");
    expect_finding(m, "prediction", "epsilon");
    expect_finding(m, "zero SNR", NULL);
    const unet_config *u = model_unet(m, &err);
    cr_assert_not_null(u, "%s", err.text);
    cr_expect_eq(u->n_levels, 3);
    cr_expect_eq(u->level[0].down, UNET_RESNETS);
    cr_expect_eq(u->level[2].up, UNET_CROSS_ATTENTION);
    cr_expect_eq(u->level[2].down_depth[1], 2);
    cr_expect_eq(u->level[1].up_depth[2], 1);
    cr_expect_eq(u->mid_depth, 2);
    cr_expect_eq(u->addition_embed, ADDITION_TEXT_TIME);
    cr_expect_eq(u->projection_input_dim, 64 + 6 * 256);
    cr_expect_eq(u->level[0].cross_attention_dim, 128);
    cr_expect(u->use_linear_projection);
    cr_expect_eq(u->sample_size, 128);
    cr_expect_float_eq(model_vae(m, &err)->scaling_factor, 0.13025, 1e-9);
    const clip_config *second = model_clip(m, PART_TEXT_ENCODER_2, &err);
    cr_assert_not_null(second, "%s", err.text);
    cr_expect(second->with_projection && second->hidden_act == UNARY_GELU);
    cr_expect_eq(model_clip(m, PART_TEXT_ENCODER, &err)->hidden_act, UNARY_QUICK_GELU);
    model_free(m);
}

Test(checkpoint, the_last_layer_of_sd2s_text_encoder_is_not_used) {
    error err = {0};
    model *m = open_changed("sd2", &(changes){0});
    expect_finding(m, "kind", "SD 2.x");
    const clip_config *c = model_clip(m, PART_TEXT_ENCODER, &err);
    cr_assert_not_null(c, "%s", err.text);
    cr_expect_eq(c->num_hidden_layers, 2);
    cr_expect_eq(c->eos_token_id, 599);
    cr_expect_not(c->with_projection);
    cr_expect_not(checkpoint_prediction_known(model_checkpoint(m)));
    model_free(m);
}

// As SSD-1B is: a middle of one resnet, and transformers that differ within a level.
Test(checkpoint, pruned_models_have_transformers_of_differing_depth) {
    error err = {0};
    const changes c = {
        .leave_out = {"middle_block.1.", "middle_block.2.", "output_blocks.1.1.transformer_blocks.1."}};
    model *m = open_changed("sdxl", &c);
    const unet_config *u = model_unet(m, &err);
    cr_assert_not_null(u, "%s", err.text);
    cr_expect_eq(u->mid, UNET_MID_RESNET);
    cr_expect_eq(u->level[2].up_depth[0], 2);
    cr_expect_eq(u->level[2].up_depth[1], 1);
    cr_expect_eq(u->level[2].down_depth[0], 2);
    cr_expect_eq(model_check(m, NET_UNET, &err), OK, "%s", err.text);
    model_free(m);
}

// As programs write it that take an autoencoder of today's diffusers for one of old.
Test(checkpoint, an_autoencoder_may_have_the_newer_names_inside) {
    static const changes OTHER[] = {
        {.from = ".attn_1.q.", .to = ".attn_1.to_q.", .flatten = ".attn_1.q."},
        {.from = ".attn_1.proj_out.", .to = ".attn_1.to_out.0.", .flatten = ".attn_1."},
        {.from = ".attn_1.norm.", .to = ".attn_1.group_norm."},
    };
    for (size_t k = 0; k < sizeof OTHER / sizeof *OTHER; k++) {
        error err = {0};
        model *m = open_changed("sd1", &OTHER[k]);
        const weights *w = model_weights(m, PART_VAE, &err);
        cr_assert_not_null(w, "%s", err.text);
        for (int i = 0; i < list.n; i++)
            if (!strcmp(list.rows[i].part, "vae")) check_tensor(w, &list.rows[i]);
        cr_expect(model_vae(m, &err)->mid_block_add_attention);
        cr_expect_eq(model_check(m, NET_VAE_DECODER, &err), OK, "%s", err.text);
        model_free(m);
    }
    // Nothing is left out in silence.
    error err = {0};
    model *m =
        open_changed("sd1", &(changes){.from = "decoder.mid.attn_1.k.", .to = "decoder.mid.attn_1.c."});
    cr_expect_eq(model_check(m, NET_VAE_DECODER, &err), ERR_DATA);
    cr_expect(strstr(err.text, "first_stage_model.decoder.mid.attn_1.k.weight"), "%s", err.text);
    model_free(m);
}

// Whether matrices or convolutions project the tokens says nothing where the text encoder tells the kind.
Test(checkpoint, heads_are_those_of_the_kind) {
    error err = {0};
    model *m = open_changed("sd1", &(changes){.flatten = ".proj_in.weight"});
    const unet_config *u = model_unet(m, &err);
    cr_assert_not_null(u, "%s", err.text);
    cr_expect(u->use_linear_projection);
    cr_expect_eq(u->level[1].heads, 8);
    model_free(m);
}

Test(checkpoint, heads_of_sd2_have_64_features) {
    error err = {0};
    model *m = open_changed("sd2", &(changes){0});
    const unet_config *u = model_unet(m, &err);
    cr_assert_not_null(u, "%s", err.text);
    cr_expect_eq(u->level[2].heads, 2); // of 128 channels
    model_free(m);
}

Test(checkpoint, the_first_convolution_tells_the_task) {
    const char *in = "model.diffusion_model.input_blocks.0.0.weight";
    model *m = open_changed("sd1", &(changes){.reshape = in, .axis = 1, .size = 9});
    expect_finding(m, "kind", "SD 1.x");
    expect_finding(m, "task", "inpainting");
    model_free(m);
    m = open_changed("sd1", &(changes){.reshape = in, .axis = 1, .size = 8});
    expect_finding(m, "task", "instruct-pix2pix");
    model_free(m);
}

Test(checkpoint, marks_and_metadata_tell_what_is_predicted) {
    model *m = open_changed("sdxl", &(changes){.add = {"v_pred", "ztsnr"}});
    expect_finding(m, "prediction", "v_prediction");
    expect_finding(m, "zero SNR", "yes");
    model_free(m);
    m = open_changed("sd2", &(changes){.metadata = {"modelspec.prediction_type", "v"}});
    expect_finding(m, "prediction", "v_prediction");
    model_free(m);
    m = open_changed("sd2", &(changes){.metadata = {"modelspec.architecture", "stable-diffusion-v2-512"}});
    expect_finding(m, "prediction", "epsilon");
    model_free(m);
    m = open_changed("sd2", &(changes){.metadata = {"modelspec.resolution", "640x640"}});
    expect_finding(m, "size", "640x640");
    model_free(m);
}

// ---- few steps

static void expect_few(const char *text, const char *name, int steps) {
    int n = 0;
    const few_steps *few = few_steps_find(text, &n);
    cr_assert_eq(few != NULL, name != NULL, "%s", text);
    if (!name) return;
    cr_expect_str_eq(few->name, name, "%s", text);
    cr_expect_eq(n, steps, "%s", text);
}

Test(checkpoint, names_tell_models_of_few_steps) {
    expect_few("sdxl_lightning_4step.safetensors", "Lightning", 4);
    expect_few("sdxl_lightning_8step_unet", "Lightning", 8);
    expect_few("sd_xl_turbo_1.0_fp16.safetensors", "Turbo", 4);
    expect_few("dreamshaperXL_v21TurboDPMSDE.safetensors", "Turbo", 4);
    expect_few("photo2Lightning", "Lightning", 4);
    expect_few("model-LCM 6 steps", "LCM", 6);
    expect_few("Hyper-SDXL-1step", "Hyper", 1);
    expect_few("turbocharged", NULL, 0);
    expect_few("Hyper-SD15-8steps-CFG-lora", "Hyper", 8);
    expect_few("Hyper-SD3-lora", "Hyper", 8);
    expect_few("hypersdxl_unet", "Hyper", 8);
    expect_few("dreamshaperXL_hyper8step", "Hyper", 8);
    expect_few("RealVisXL_V4.0_Hyper_4steps", "Hyper", 4);
    expect_few("Juggernaut_X_RunDiffusion_Hyper.safetensors", "Hyper", 8);
    expect_few("hyperrealism_v3", NULL, 0);
    expect_few("HyperRealistic_v3", NULL, 0);
    expect_few("hyper-realism", NULL, 0);
    expect_few("Hyper_Realistic-step00001000", NULL, 0);
    expect_few("hyper_realistic_v3-step00001000", NULL, 0);
    expect_few("DreamShaperXL_Lightning.safetensors", "Lightning", 4);
    expect_few("LightningFusionXL_v2", "Lightning", 4);
    expect_few("lightning_8step_unet", "Lightning", 8);
    expect_few("lightning.safetensors", "Lightning", 4);
    expect_few("lightning_storm_v2.safetensors", NULL, 0);
    expect_few("LightningStorm", NULL, 0);
    expect_few("LCM_Dreamshaper_v7", "LCM", 4);
    expect_few("enlightning", NULL, 0);
    expect_few("sd-v1-5-pruned-emaonly", NULL, 0);
    expect_few("turbo_999steps", "Turbo", 4);
    expect_few("", NULL, 0);
}

static void expect_advice(const char *path, const char *distilled, int steps, double cfg_scale) {
    calo_context *ctx;
    calo_model *m;
    calo_model_advice a = {.size = sizeof a};
    cr_assert_eq(calo_context_new(NULL, &ctx), CALO_OK);
    cr_assert_eq(calo_model_open(ctx, path, &m), CALO_OK, "%s", calo_message(ctx));
    cr_assert_eq(calo_model_advise(m, &a), CALO_OK);
    if (distilled)
        cr_expect_str_eq(a.distilled, distilled);
    else
        cr_expect_null(a.distilled);
    cr_expect_eq(a.steps, steps);
    cr_expect_eq(a.cfg_scale, cfg_scale);
    calo_model_free(m);
    calo_context_free(ctx);
}

Test(checkpoint, few_steps_are_found_and_become_the_defaults) {
    error err = {0};
    read_list("sdxl");
    expect_advice(write_file("plain", &(changes){0}), NULL, 20, 7);
    const char *path = write_file("tiny_lightning_8step", &(changes){0});
    expect_advice(path, "Lightning", 8, 1);
    model *m = model_open(path, NULL, &err);
    cr_assert_not_null(m, "%s", err.text);
    expect_finding(m, "distilled", "Lightning");
    expect_finding(m, "wants", "8 steps, guidance 1, EulerDiscreteScheduler, trailing");
    json_t *scheduler = model_config(m, "scheduler", NULL, &err);
    cr_expect_str_eq(json_string_value(json_object_get(scheduler, "timestep_spacing")), "trailing");
    json_decref(scheduler);
    model_free(m);
    // the metadata comes before the name
    expect_advice(write_file("x_lightning", &(changes){.metadata = {"modelspec.title", "SDXL Turbo"}}),
                  "Turbo", 4, 1);
}

// Made of SD 2.1 base, it need not be asked what it predicts.
Test(checkpoint, sd_turbo_predicts_the_noise) {
    model *m;
    error err = {0};
    read_list("sd2");
    m = model_open(write_file("sd_turbo", &(changes){0}), NULL, &err);
    cr_assert_not_null(m, "%s", err.text);
    expect_finding(m, "prediction", "epsilon");
    model_free(m);
}

// ---- what is wrong with it

static void refused(const char *name, const changes *c, network net, const char *says, const char *also) {
    error err = {0};
    model *m = open_changed(name, c);
    cr_expect_eq(model_check(m, net, &err), ERR_DATA);
    cr_expect(strstr(err.text, says) && strstr(err.text, also), "'%s' and '%s' in: %s", says, also, err.text);
    model_free(m);
}

Test(checkpoint, all_that_is_missing_or_wrong_is_said_by_the_files_names) {
    const char *wrong = "first_stage_model.decoder.up.0.block.0.conv1.weight";
    changes c = {.leave_out = {"decoder.up.1.block.0.norm2.bias", "decoder.mid.attn_1.q.bias"},
                 .reshape = wrong,
                 .axis = 0,
                 .size = 31};
    refused("sd1", &c, NET_VAE_DECODER,
            "first_stage_model.decoder.up.0.block.0.conv1.weight is 31x64x3x3, expected 32x64x3x3",
            "first_stage_model.decoder.mid.attn_1.q.bias 64 is missing");
    c = (changes){.leave_out = {"diffusion_model.output_blocks."}};
    refused("sd1", &c, NET_UNET, "model.diffusion_model.output_blocks.0.0.in_layers.0.weight 128 is missing",
            " more");
    c = (changes){.reshape = "cond_stage_model.transformer.text_model.encoder.layers.1.mlp.fc1.weight",
                  .axis = 1,
                  .size = 7};
    refused("sd1", &c, NET_TEXT_ENCODER,
            "text_model.encoder.layers.1.mlp.fc1.weight is 256x7, expected 256x64", "sd1");
}

Test(checkpoint, a_matrix_of_three_must_have_rows_for_three) {
    const char *fused = "cond_stage_model.model.transformer.resblocks.1.attn.in_proj_weight";
    refused("sd2", &(changes){.reshape = fused, .axis = 0, .size = 191}, NET_TEXT_ENCODER,
            "in_proj_weight is 191x64, expected 64x64", "resblocks.1");
}

static void not_opened(const changes *c, const char *says) {
    error err = {0};
    cr_expect_null(model_open(write_file("bad", c), NULL, &err));
    cr_expect_eq(err.code, ERR_DATA);
    cr_expect(strstr(err.text, says), "%s", err.text);
}

Test(checkpoint, other_files_are_refused_by_what_they_are) {
    read_list("sd1");
    not_opened(&(changes){.leave_out = {"model.diffusion_model."}},
               "no tensor begins with 'model.diffusion_model.'");
    not_opened(&(changes){.add = {"edm_vpred.sigma_max"}}, "EDM");
    not_opened(&(changes){.add = {"model.diffusion_model.label_emb.weight"}}, "upscaler");
    not_opened(&(changes){.leave_out = {".attn2.", "cond_stage_model."}}, "reads no text");
}

// ---- drawing

typedef struct {
    calo_context *ctx;
    calo_model *m;
    calo_images *images;
} session;

static calo_status try_to_draw(session *s, const char *path, const char *vae, const char *words) {
    calo_txt2img_request r = calo_txt2img_defaults();
    calo_model_options o = calo_model_defaults();
    calo_context_options of = calo_context_defaults();
    of.precision = CALO_PRECISION_F32;
    o.vae = vae;
    o.vocabulary = words;
    r.prompt = "a red boat";
    r.width = r.height = 32;
    r.steps = 1;
    r.seed = 5;
    *s = (session){0};
    cr_assert_eq(calo_context_new(&of, &s->ctx), CALO_OK);
    calo_status code = calo_model_open_with(s->ctx, path, &o, &s->m);
    return code ? code : calo_txt2img(s->m, &r, &s->images);
}

static void finish(session *s) {
    calo_images_free(s->images);
    calo_model_free(s->m);
    calo_context_free(s->ctx);
}

static void fails(const char *path, const char *vae, calo_status code, const char *says) {
    session s;
    cr_expect_eq(try_to_draw(&s, path, vae, NULL), code);
    cr_expect(strstr(calo_message(s.ctx), says), "%s", calo_message(s.ctx));
    finish(&s);
}

Test(checkpoint, a_picture_needs_a_vocabulary_and_an_autoencoder) {
    session whole, apart;
    read_list("sd1");
    char path[200], bare[200], vae[200], mute[200];
    strcpy(path, write_file("sd1", &(changes){0}));
    strcpy(bare, write_file("bare", &(changes){.leave_out = {"first_stage_model."}}));
    strcpy(mute, write_file("mute", &(changes){.leave_out = {"cond_stage_model."}}));
    strcpy(vae, write_file("vae", &(changes){.leave_out = {"diffusion_model.", "cond_stage_model."}}));
    // 1. without them: the way out is said
    fails(path, NULL, CALO_ERR_NOINPUT, "./dev vocab");
    fails(bare, NULL, CALO_ERR_NOINPUT, "--vae");
    fails(bare, "/nowhere.safetensors", CALO_ERR_NOINPUT, "nowhere");
    fails(mute, NULL, CALO_ERR_NOINPUT, "mute.safetensors: the model has no text_encoder");
    // 2. with them: the same picture from one file and from two
    cr_assert_eq(try_to_draw(&whole, path, NULL, "tests/golden/tokenizer"), CALO_OK, "%s",
                 calo_message(whole.ctx));
    cr_assert_eq(try_to_draw(&apart, bare, vae, "tests/golden/tokenizer"), CALO_OK, "%s",
                 calo_message(apart.ctx));
    const calo_image *a = calo_images_at(whole.images, 0), *b = calo_images_at(apart.images, 0);
    cr_expect_eq(memcmp(a->rgb, b->rgb, 3 * 32 * 32), 0);
    finish(&whole);
    finish(&apart);
}

Test(checkpoint, the_one_of_two_text_encoders_that_is_missing_is_named) {
    static const struct {
        const char *left_out, *says;
    } CASES[] = {{"conditioner.embedders.0.", "and there is no text_encoder"},
                 {"conditioner.embedders.1.", "and there is no text_encoder_2"}};
    read_list("sdxl");
    for (int i = 0; i < 2; i++) {
        session s;
        const char *path = write_file("sdxl", &(changes){.leave_out = {CASES[i].left_out}});
        cr_expect_eq(try_to_draw(&s, path, NULL, "tests/golden/tokenizer"), CALO_ERR_DATA);
        size_t n = strlen(calo_message(s.ctx)), end = strlen(CASES[i].says);
        cr_expect(n > end && !strcmp(calo_message(s.ctx) + n - end, CASES[i].says), "%s",
                  calo_message(s.ctx));
        finish(&s);
    }
}

// What is wrong in one network does not hide what is wrong in another.
Test(checkpoint, what_is_wrong_is_said_of_all_networks) {
    session s;
    read_list("sd1");
    const changes c = {.leave_out = {"first_stage_model.decoder.conv_in.bias",
                                     "middle_block.0.in_layers.0.bias", "final_layer_norm.weight"}};
    cr_expect_eq(try_to_draw(&s, write_file("sd1", &c), NULL, "tests/golden/tokenizer"), CALO_ERR_DATA);
    static const char *const WRONG[] = {"text_model.final_layer_norm.weight 64 is missing",
                                        "model.diffusion_model.middle_block.0.in_layers.0.bias 64 is missing",
                                        "first_stage_model.decoder.conv_in.bias 64 is missing"};
    for (int i = 0; i < 3; i++)
        cr_expect(strstr(calo_message(s.ctx), WRONG[i]), "%s: %s", WRONG[i], calo_message(s.ctx));
    finish(&s);
}

// The autoencoder as a file of diffusers: its names, f32.
static const char *write_diffusers_vae(const char *checkpoint_path) {
    static char path[200];
    safetensors_item *items = mem_calloc(MAX_ROWS, sizeof *items);
    arena a = {0};
    error err = {0};
    size_t n = 0;
    model *m = model_open(checkpoint_path, NULL, &err);
    const weights *w = m ? model_weights(m, PART_VAE, &err) : NULL;
    cr_assert_not_null(w, "%s", err.text);
    for (int i = 0; i < list.n; i++) {
        const row *r = &list.rows[i];
        if (strcmp(r->part, "vae")) continue;
        const weight *t = w->find(w, r->name);
        float *x = arena_alloc(&a, (size_t)shape_count(t->shape) * sizeof *x);
        cr_assert_eq(t->read(t, x, &err), OK, "%s", err.text);
        items[n] = (safetensors_item){.name = r->name, .type = DT_F32, .ndim = r->rank};
        memcpy(items[n].shape, r->shape, sizeof r->shape);
        items[n++].data = x;
    }
    snprintf(path, sizeof path, "%s/diffusers-vae.safetensors", folder);
    cr_assert_eq(safetensors_save(path, items, n, NULL, 0, true, &err), OK, "%s", err.text);
    arena_free(&a);
    mem_free(items);
    model_free(m);
    return path;
}

static void draws_the_same(const session *first, const char *path, const char *vae) {
    session s;
    cr_assert_eq(try_to_draw(&s, path, vae, "tests/golden/tokenizer"), CALO_OK, "%s: %s", vae,
                 calo_message(s.ctx));
    const calo_image *a = calo_images_at(first->images, 0), *b = calo_images_at(s.images, 0);
    cr_expect_eq(memcmp(a->rgb, b->rgb, 3 * (size_t)a->width * (size_t)a->height), 0, "%s", vae);
    finish(&s);
}

Test(checkpoint, an_autoencoder_may_lie_in_many_forms) {
    session first;
    char dir[200], vae[300], path[200], bare[200];
    // 1. for a checkpoint: with and without its prefix, by diffusers' names
    read_list("sd1");
    strcpy(path, write_file("sd1", &(changes){0}));
    strcpy(bare, write_file("bare", &(changes){.leave_out = {"first_stage_model."}}));
    cr_assert_eq(try_to_draw(&first, path, NULL, "tests/golden/tokenizer"), CALO_OK, "%s",
                 calo_message(first.ctx));
    draws_the_same(&first, bare, path);
    draws_the_same(&first, bare, write_diffusers_vae(path));
    const changes plain = {.leave_out = {"diffusion_model.", "cond_stage_model."},
                           .strip = "first_stage_model."};
    draws_the_same(&first, bare, write_file("plain", &plain));
    finish(&first);
    // 2. for a folder: a component's folder, and a model's
    tiny_model_write("sd", "eps", dir, sizeof dir);
    snprintf(vae, sizeof vae, "%s/vae", dir);
    cr_assert_eq(try_to_draw(&first, dir, NULL, NULL), CALO_OK, "%s", calo_message(first.ctx));
    draws_the_same(&first, dir, vae);
    draws_the_same(&first, dir, dir);
    finish(&first);
    tiny_model_remove(dir);
}

static void probed(const changes *c, const char *prediction) {
    session s;
    cr_expect_eq(try_to_draw(&s, write_file("sd2", c), NULL, "tests/golden/tokenizer"), CALO_OK, "%s",
                 calo_message(s.ctx));
    expect_finding(s.m->m, "prediction", prediction);
    finish(&s);
}

// Random weights share nothing with their input, as v does at the last step.
Test(checkpoint, one_evaluation_tells_what_sd2_predicts) {
    read_list("sd2");
    probed(&(changes){.follows = true}, "epsilon");
    probed(&(changes){0}, "v_prediction");
}

Test(checkpoint, a_folder_draws_what_its_file_draws) {
    session first;
    char path[200], dir[200];
    read_list("sd1");
    strcpy(path, write_file("sd1", &(changes){.add = {"betas", "model_ema.decay"}}));
    snprintf(dir, sizeof dir, "%s/folder", folder);
    rewrites(path, dir, CALO_LAYOUT_DIFFUSERS, CALO_PREDICT_AUTO);
    cr_assert_eq(try_to_draw(&first, path, NULL, "tests/golden/tokenizer"), CALO_OK, "%s",
                 calo_message(first.ctx));
    draws_the_same(&first, dir, NULL);
    finish(&first);
}

// ---- the hub's cache

static void write_text(const char *path, const char *text) {
    char *dir = fs_dirname(path);
    cr_assert_eq(fs_mkdirs(dir, NULL), OK);
    cr_assert_eq(fs_write_atomic(path, text, strlen(text), true, NULL), OK);
    mem_free(dir);
}

Test(checkpoint, names_are_looked_for_in_the_hubs_cache) {
    char ref[200], snapshot[200], dir[200];
    error err = {0};
    tiny_model_write("sd", "eps", dir, sizeof dir);
    setenv("HF_HUB_CACHE", folder, 1);
    snprintf(ref, sizeof ref, "%s/models--org--tiny-sd/refs/main", folder);
    snprintf(snapshot, sizeof snapshot, "%s/models--org--tiny-sd/snapshots/0123abcd", folder);
    write_text(ref, "0123abcd\n");
    char *parent = fs_dirname(snapshot);
    cr_assert_eq(fs_mkdirs(parent, NULL), OK);
    cr_assert_eq(symlink(dir, snapshot), 0);
    model *m = model_open("org/tiny-sd", NULL, &err);
    cr_assert_not_null(m, "%s", err.text);
    cr_expect_str_eq(model_name(m), "tiny-sd");
    cr_expect_str_eq(model_dir(m), snapshot);
    model_free(m);
    // A repository of one checkpoint, and of two, of which none is chosen.
    char lone[200], file[300];
    snprintf(lone, sizeof lone, "%s/models--org--lone", folder);
    snprintf(file, sizeof file, "%s/refs/main", lone);
    write_text(file, "4567");
    snprintf(file, sizeof file, "%s/snapshots/4567", lone);
    cr_assert_eq(fs_mkdirs(file, NULL), OK);
    read_list("sd1");
    const char *checkpoint_path = write_file("sd1", &(changes){0});
    snprintf(file, sizeof file, "%s/snapshots/4567/dreamy.safetensors", lone);
    cr_assert_eq(symlink(checkpoint_path, file), 0);
    char *downloaded = fs_dirname(file);
    const char *const names[] = {"org/lone", downloaded};
    for (size_t i = 0; i < 2; i++) {
        m = model_open(names[i], NULL, &err);
        cr_assert_not_null(m, "%s", err.text);
        cr_expect_str_eq(model_dir(m), file);
        model_free(m);
    }
    mem_free(downloaded);
    snprintf(file, sizeof file, "%s/snapshots/4567/other.ckpt", lone);
    cr_assert_eq(symlink(checkpoint_path, file), 0);
    cr_expect_null(model_open("org/lone", NULL, &err));
    cr_expect(strstr(err.text, "model_index.json"), "%s", err.text);
    cr_expect_null(model_open("org/other", NULL, &err));
    cr_expect_eq(err.code, ERR_NOINPUT);
    write_text(ref, "../../..");
    cr_expect_null(model_open("org/tiny-sd", NULL, &err));
    cr_expect_eq(err.code, ERR_DATA);
    static const char *const NO_NAMES[] = {"org", "org/", "/name", "a/b/c", "../x", "a/..", "a b/c", "./x"};
    for (size_t i = 0; i < sizeof NO_NAMES / sizeof *NO_NAMES; i++)
        cr_expect_not(hub_is_name(NO_NAMES[i]), "%s", NO_NAMES[i]);
    mem_free(parent);
    tiny_model_remove(dir);
}
