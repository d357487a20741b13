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

static double mega(size_t bytes) { return (double)bytes * 1e-6; }

// 0: not an autoencoder, or not in parts.
static size_t tiled_bytes(const txt2img *t, network net, bool least) {
    autoencoder a =
        net == NET_VAE_ENCODER && hires_encodes(t) ? hires_autoencoder(t) : txt2img_autoencoder(t);
    if (net != NET_VAE_ENCODER && net != NET_VAE_DECODER) return 0;
    return autoencoder_tiled_bytes(&a, net == NET_VAE_ENCODER ? VAE_ENCODE : VAE_DECODE, least);
}

status txt2img_memory(const txt2img *first, int group, memory_table *to, error *err) {
    const txt2img *t = txt2img_largest(first);
    TRY(list_networks(t, group, to, err));
    for (memory_row *r = to->at; r < to->at + to->n; r++) {
        TRY(api_network_memory(r->model, &r->shape, FAST, &r->need, err));
        r->refines = r->model != t->model;
        r->tiled = tiled_bytes(t, r->shape.net, false);
        r->least = r->tiled ? r->tiled : r->need.least; // in parts it takes what those take
    }
    if (!t->enlarger) return OK;
    TRY(hires_memory(t, t->model->ctx->options.max_memory, &to->enlarger, &to->tile, err));
    to->enlarger_least = to->enlarger;
    return OK;
}

status memory_find_least(const txt2img *first, memory_table *all, error *err) {
    const txt2img *t = txt2img_largest(first);
    for (memory_row *r = all->at; r < all->at + all->n; r++) {
        network_memory lean;
        size_t tiled = tiled_bytes(t, r->shape.net, true);
        TRY(api_network_memory(r->model, &r->shape, LEAN, &lean, err));
        if (lean.least < r->least) r->least = lean.least;
        if (tiled && tiled < r->least) r->least = tiled;
    }
    int tile;
    return t->enlarger ? hires_memory(t, 1, &all->enlarger_least, &tile, err) : OK;
}

// "unet", "refiner's unet"
static const char *name_of(const memory_row *r, char name[MEMORY_NAME]) {
    snprintf(name, MEMORY_NAME, "%s%s", r->refines ? "refiner's " : "", network_name(r->shape.net));
    return name;
}

size_t memory_least(const memory_table *all, char name[MEMORY_NAME]) {
    const memory_row *largest = all->at;
    for (const memory_row *r = all->at; r < all->at + all->n; r++)
        if (r->least > largest->least) largest = r;
    bool enlarges = all->enlarger_least > largest->least;
    if (enlarges)
        snprintf(name, MEMORY_NAME, "hires upscaler");
    else
        name_of(largest, name);
    return (enlarges ? all->enlarger_least : largest->least) + PROCESS_BYTES;
}

static void tell_network(const memory_row *r) {
    const log_sink *log = &r->model->ctx->log;
    const network_memory *n = &r->need;
    char how[100] = "", name[MEMORY_NAME];
    name_of(r, name);
    if (r->tiled) {
        log_put(log, LOG_LEVEL_INFO, "memory: %s in parts, in all %.0f MB", name,
                mega(r->tiled + PROCESS_BYTES));
        return;
    }
    if (n->stage)
        snprintf(how, sizeof how, "; %.0f MB of the weights are read in every run",
                 mega(n->weights - n->kept));
    log_put(log, LOG_LEVEL_INFO, "memory: %s %.0f MB of weights%s, %.0f MB of activations, in all %.0f MB%s",
            name, mega(n->weights), n->be ? " (lean for Winograd's method)" : "", mega(n->activations),
            mega(n->total + PROCESS_BYTES), how);
}

static void tell_all(const txt2img *t, const memory_table *all) {
    for (int i = 0; i < all->n; i++) tell_network(&all->at[i]);
    if (all->enlarger)
        log_put(&t->model->ctx->log, LOG_LEVEL_INFO,
                "memory: hires upscaler in tiles of %d pixels, in all %.0f MB", all->tile,
                mega(all->enlarger + PROCESS_BYTES));
}

status txt2img_check_memory(const txt2img *t, int *group, error *err) {
    size_t allowed = (size_t)t->model->ctx->options.max_memory, least;
    memory_table all;
    char name[MEMORY_NAME];
    if (!allowed) return OK;
    for (;; *group = (*group + 1) / 2) {
        TRY(txt2img_memory(t, *group, &all, err));
        least = memory_least(&all, name);
        if (least <= allowed || *group == 1) break;
    }
    tell_all(t, &all);
    if (least <= allowed) return OK;
    const txt2img *last = txt2img_largest(t);
    return fail(err, ERR_USAGE,
                "a picture of %dx%d takes %.0f MB of memory at least (the %s), and %.0f MB are allowed",
                last->width, last->height, mega(least) + 1, name, mega(allowed));
}
