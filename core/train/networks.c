#include "core/train/networks.h"

#include <string.h>

#include "core/base/fs.h"
#include "core/base/mem.h"
#include "core/models/config.h"
#include "samplers/scheduler_config.h"

static json_t *load(const char *dir, const char *name, error *err) {
    char *path = fs_join(dir, name);
    json_t *j = NULL;
    if (path)
        j = js_load(path, CONFIG_BYTES, err);
    else
        fail(err, ERR_TEMP, "out of memory");
    mem_free(path);
    return j;
}

static status read_schedule(networks *n, const char *dir, error *err) {
    schedule_config c;
    json_t *j = load(dir, "scheduler/scheduler_config.json", err);
    if (!j) return err->code;
    status s = scheduler_config_read(&c, j, err);
    json_decref(j);
    return s ? s : schedule_init(&n->schedule, &c, err);
}

static status read_vae(networks *n, const char *dir, error *err) {
    json_t *j = load(dir, "vae/config.json", err);
    if (!j) return err->code;
    status s = vae_config_parse(&n->vae, j, "vae/config.json", err);
    json_decref(j);
    return s;
}

static status open_tokenizer(networks *n, const char *dir, error *err) {
    char *path = fs_join(dir, "tokenizer");
    if (!path) return fail(err, ERR_TEMP, "out of memory");
    n->tokenizer = tokenizer_open(path, err);
    mem_free(path);
    if (!n->tokenizer) return err->code;
    n->tokens = (int64_t)tokenizer_vocabulary(n->tokenizer)->max_length;
    return OK;
}

static status check(const networks *n, error *err) {
    const unet_config *u = &n->unet;
    if (u->class_embed != CLASS_NONE || u->addition_embed == ADDITION_TEXT_TIME)
        return fail(err, ERR_DATA,
                    "unet/config.json: networks with class or size conditions cannot be trained");
    if (u->in_channels != n->vae.latent_channels || u->out_channels != n->vae.latent_channels)
        return fail(err, ERR_DATA, "unet/config.json: not the channels of the autoencoder's latents");
    if (tokenizer_vocabulary(n->tokenizer)->size > (size_t)n->text.vocab_size)
        return fail(err, ERR_DATA,
                    "text_encoder/config.json: a vocabulary of %lld is too small for the tokenizer's %zu",
                    (long long)n->text.vocab_size, tokenizer_vocabulary(n->tokenizer)->size);
    if (n->tokens > n->text.max_position_embeddings)
        return fail(err, ERR_DATA, "text_encoder/config.json: too few positions for %lld tokens",
                    (long long)n->tokens);
    return OK;
}

status networks_open(networks *n, const char *dir, error *err) {
    *n = (networks){.unet_json = load(dir, "unet/config.json", err)};
    if (!n->unet_json) return err->code;
    if (!(n->text_json = load(dir, "text_encoder/config.json", err))) return err->code;
    status s = unet_config_parse(&n->unet, n->unet_json, "unet/config.json", err);
    if (!s) s = clip_config_parse(&n->text, n->text_json, "text_encoder/config.json", err);
    if (!s) s = read_vae(n, dir, err);
    if (!s) s = read_schedule(n, dir, err);
    if (!s) s = open_tokenizer(n, dir, err);
    return s ? s : check(n, err);
}

void networks_close(networks *n) {
    json_decref(n->unet_json);
    json_decref(n->text_json);
    schedule_free(&n->schedule);
    tokenizer_free(n->tokenizer);
    *n = (networks){0};
}

status networks_caption(const networks *n, const char *text, int row, int32_t *ids, int32_t *eos,
                        error *err) {
    status s = tokenizer_encode_row(n->tokenizer, text, strlen(text), ids, NULL, err);
    *eos = (int32_t)(row * n->tokens + clip_eos_position(&n->text, ids, n->tokens));
    return s;
}

node *networks_build(graph *g, const networks *n, node *sample, node *timestep, node *ids, node *eos) {
    int mark = path_push(g, "text_encoder");
    node *text = clip_build(g, &n->text, 0, ids, eos).last_hidden_state;
    path_pop(g, mark);
    path_push(g, "unet");
    unet_inputs in = {.sample = sample, .timestep = timestep, .encoder_hidden_states = text};
    node *out = unet_build(g, &n->unet, &in);
    path_pop(g, mark);
    return out;
}
