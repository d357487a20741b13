#include "core/pipeline_memory.h"
#include "core/pipeline_hires.h"

#include <stdio.h>
#include <string.h>

// ---- the networks of a request

static void list(memory_table *to, calo_model *m, network_shape s) {
    to->at[to->n++] = (memory_row){.model = m, .shape = s};
}

static status add_text(const txt2img *t, calo_model *m, model_part part, network net, memory_table *to,
                       error *err) {
    if (!model_has(m->m, part)) return OK;
    const tokenizer *tok = model_tokenizer(m->m, part, err);
    if (!tok) return err->code;
    list(to, m,
         (network_shape){.net = net,
                         .compute = t->compute,
                         .B = 1,
                         .T = (int64_t)tokenizer_vocabulary(tok)->max_length,
                         .skip = t->request->clip_skip});
    return OK;
}

static status add_texts(const txt2img *t, calo_model *m, memory_table *to, error *err) {
    TRY(add_text(t, m, PART_TEXT_ENCODER, NET_TEXT_ENCODER, to, err));
    return add_text(t, m, PART_TEXT_ENCODER_2, NET_TEXT_ENCODER_2, to, err);
}

// In this pass or in the one before it.
static bool takes_part(const txt2img *t, int k) {
    return expert_leads(&t->experts[k]) || (t->first && takes_part(t->first, k));
}

// In the order in which they run. Prompts of more tokens than one row take a little more.
static status list_networks(const txt2img *t, int group, memory_table *to, error *err) {
    *to = (memory_table){0};
    for (int k = 0; k < N_EXPERTS; k++)
        if (takes_part(t, k)) TRY(add_texts(t, t->experts[k].model, to, err));
    int64_t T = to->n ? to->at[0].shape.T : 1;
    if (t->request->init_image)
        list(to, t->model,
             (network_shape){
                 .net = NET_VAE_ENCODER, .compute = t->compute, .B = 1, .H = t->height, .W = t->width});
    if (hires_encodes(t)) {
        autoencoder a = hires_autoencoder(t);
        int64_t f = t->width / t->w;
        list(to, t->model,
             (network_shape){
                 .net = NET_VAE_ENCODER, .compute = t->compute, .B = 1, .H = a.h * f, .W = a.w * f});
    }
    for (int k = 0; k < N_EXPERTS; k++)
        if (takes_part(t, k))
            list(to, t->experts[k].model,
                 (network_shape){.net = NET_UNET,
                                 .compute = t->compute,
                                 .B = txt2img_rows(t, t->guided) * group,
                                 .H = t->h,
                                 .W = t->w,
                                 .T = T});
    list(to, t->model,
         (network_shape){.net = NET_VAE_DECODER, .compute = t->compute, .B = 1, .H = t->h, .W = t->w});
    return OK;
}

// ---- what they take

enum { NAME = 40 };

static double mega(size_t bytes) { return (double)bytes * 1e-6; }

// 0: not an autoencoder, or not in parts.
static size_t tiled_bytes(const txt2img *t, network net, bool least) {
    autoencoder a =
        net == NET_VAE_ENCODER && hires_encodes(t) ? hires_autoencoder(t) : txt2img_autoencoder(t);
    if (net != NET_VAE_ENCODER && net != NET_VAE_DECODER) return 0;
    return autoencoder_tiled_bytes(&a, net == NET_VAE_ENCODER ? VAE_ENCODE : VAE_DECODE, least);
}

status txt2img_memory(const txt2img *t, int group, memory_table *to, error *err) {
    TRY(list_networks(t, group, to, err));
    for (memory_row *r = to->at; r < to->at + to->n; r++) {
        TRY(api_network_memory(r->model, &r->shape, FAST, &r->need, err));
        r->tiled = tiled_bytes(t, r->shape.net, false);
        r->least = r->tiled ? r->tiled : r->need.least; // in parts it takes what those take
    }
    return OK;
}

status memory_find_least(const txt2img *t, memory_row *r, error *err) {
    network_memory lean;
    size_t tiled = tiled_bytes(t, r->shape.net, true);
    TRY(api_network_memory(r->model, &r->shape, LEAN, &lean, err));
    if (lean.least < r->least) r->least = lean.least;
    if (tiled && tiled < r->least) r->least = tiled;
    return OK;
}

const memory_row *memory_largest(const memory_table *all) {
    const memory_row *largest = all->at;
    for (const memory_row *r = all->at; r < all->at + all->n; r++)
        if (r->least > largest->least) largest = r;
    return largest;
}

size_t memory_least(const memory_table *all) { return memory_largest(all)->least + PROCESS_BYTES; }

// "unet", "refiner's unet"
static const char *name_of(const txt2img *t, const memory_row *r, char name[NAME]) {
    snprintf(name, NAME, "%s%s", r->model == t->model ? "" : "refiner's ", network_name(r->shape.net));
    return name;
}

static void tell_network(const txt2img *t, const memory_row *r) {
    const network_memory *n = &r->need;
    char how[100] = "", name[NAME];
    if (r->tiled) {
        log_put(&t->model->ctx->log, LOG_LEVEL_INFO, "memory: %s in parts, in all %.0f MB",
                name_of(t, r, name), mega(r->tiled + PROCESS_BYTES));
        return;
    }
    if (n->stage)
        snprintf(how, sizeof how, "; %.0f MB of the weights are read in every run",
                 mega(n->weights - n->kept));
    log_put(&t->model->ctx->log, LOG_LEVEL_INFO,
            "memory: %s %.0f MB of weights%s, %.0f MB of activations, in all %.0f MB%s", name_of(t, r, name),
            mega(n->weights), n->be ? " (lean for Winograd's method)" : "", mega(n->activations),
            mega(n->total + PROCESS_BYTES), how);
}

// Beside nothing else of the model. *bytes: of the process.
static status tell_enlarger(const txt2img *t, size_t *bytes, error *err) {
    int tile;
    TRY(hires_memory(t, bytes, &tile, err));
    *bytes += PROCESS_BYTES;
    log_put(&t->model->ctx->log, LOG_LEVEL_INFO,
            "memory: hires upscaler in tiles of %d pixels, in all %.0f MB", tile, mega(*bytes));
    return OK;
}

status txt2img_check_memory(const txt2img *t, int group, error *err) {
    size_t allowed = (size_t)t->model->ctx->options.max_memory;
    memory_table all;
    char name[NAME];
    if (!allowed) return OK;
    TRY(txt2img_memory(t, group, &all, err));
    for (int i = 0; i < all.n; i++) tell_network(t, &all.at[i]);
    size_t least = memory_least(&all), enlarger = 0;
    const char *what = name_of(t, memory_largest(&all), name);
    if (t->enlarger) TRY(tell_enlarger(t, &enlarger, err));
    if (enlarger > least) {
        least = enlarger;
        what = "hires upscaler";
    }
    if (least <= allowed) return OK;
    return fail(err, ERR_USAGE,
                "a picture of %dx%d takes %.0f MB of memory at least (the %s), and %.0f MB are allowed",
                t->width, t->height, mega(least) + 1, what, mega(allowed));
}
