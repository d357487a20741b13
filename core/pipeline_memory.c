#include "core/pipeline_memory.h"
#include "core/pipeline_hires.h"

#include <stdio.h>
#include <string.h>

// ---- the networks of a request

static status add_text(const txt2img *t, model_part part, network net, network_shape *shapes, int *n,
                       error *err) {
    if (!model_has(t->model->m, part)) return OK;
    const tokenizer *tok = model_tokenizer(t->model->m, part, err);
    if (!tok) return err->code;
    shapes[(*n)++] = (network_shape){.net = net,
                                     .compute = t->compute,
                                     .B = 1,
                                     .T = (int64_t)tokenizer_vocabulary(tok)->max_length,
                                     .skip = t->request->clip_skip};
    return OK;
}

// In the order in which they run. Prompts of more tokens than one row take a little more.
static status list_networks(const txt2img *t, int group, network_shape shapes[N_NETS], int *n, error *err) {
    *n = 0;
    TRY(add_text(t, PART_TEXT_ENCODER, NET_TEXT_ENCODER, shapes, n, err));
    TRY(add_text(t, PART_TEXT_ENCODER_2, NET_TEXT_ENCODER_2, shapes, n, err));
    int64_t T = *n ? shapes[0].T : 1;
    if (t->request->init_image)
        shapes[(*n)++] = (network_shape){
            .net = NET_VAE_ENCODER, .compute = t->compute, .B = 1, .H = t->height, .W = t->width};
    if (hires_encodes(t)) {
        autoencoder a = hires_autoencoder(t);
        int64_t f = t->width / t->w;
        shapes[(*n)++] = (network_shape){
            .net = NET_VAE_ENCODER, .compute = t->compute, .B = 1, .H = a.h * f, .W = a.w * f};
    }
    shapes[(*n)++] = (network_shape){.net = NET_UNET,
                                     .compute = t->compute,
                                     .B = txt2img_rows(t, t->guided) * group,
                                     .H = t->h,
                                     .W = t->w,
                                     .T = T};
    shapes[(*n)++] =
        (network_shape){.net = NET_VAE_DECODER, .compute = t->compute, .B = 1, .H = t->h, .W = t->w};
    return OK;
}

// ---- what they take

static double mega(size_t bytes) { return (double)bytes * 1e-6; }

static size_t tiled_bytes(const txt2img *t, network net) {
    autoencoder a =
        net == NET_VAE_ENCODER && hires_encodes(t) ? hires_autoencoder(t) : txt2img_autoencoder(t);
    if (net == NET_VAE_ENCODER) return autoencoder_tiled_bytes(&a, VAE_ENCODE);
    return net == NET_VAE_DECODER ? autoencoder_tiled_bytes(&a, VAE_DECODE) : 0;
}

// A network that works in parts takes what those take.
static size_t least_of(const memory_row *r) { return r->tiled ? r->tiled : r->need.least; }

status txt2img_memory(const txt2img *t, int group, memory_row rows[N_NETS], int *n, error *err) {
    network_shape shapes[N_NETS];
    TRY(list_networks(t, group, shapes, n, err));
    for (int i = 0; i < *n; i++) {
        memory_row *r = &rows[i];
        *r = (memory_row){.shape = shapes[i]};
        TRY(api_network_memory(t->model, &shapes[i], FAST, &r->need, err));
        r->tiled = tiled_bytes(t, r->shape.net);
    }
    return OK;
}

size_t memory_least(const memory_row *rows, int n, network *largest) {
    size_t least = 0;
    for (int i = 0; i < n; i++)
        if (least_of(&rows[i]) > least) {
            least = least_of(&rows[i]);
            *largest = rows[i].shape.net;
        }
    return least + PROCESS_BYTES;
}

static void tell_network(const txt2img *t, const memory_row *r) {
    const network_memory *n = &r->need;
    char how[100] = "";
    if (r->tiled) {
        log_put(&t->model->ctx->log, LOG_LEVEL_INFO, "memory: %s in parts, in all %.0f MB",
                network_name(r->shape.net), mega(r->tiled + PROCESS_BYTES));
        return;
    }
    if (n->stage)
        snprintf(how, sizeof how, "; %.0f MB of the weights are read in every run",
                 mega(n->weights - n->kept));
    log_put(&t->model->ctx->log, LOG_LEVEL_INFO,
            "memory: %s %.0f MB of weights%s, %.0f MB of activations, in all %.0f MB%s",
            network_name(r->shape.net), mega(n->weights), n->be ? " (lean for Winograd's method)" : "",
            mega(n->activations), mega(n->total + PROCESS_BYTES), how);
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
    memory_row rows[N_NETS];
    network largest = NET_UNET;
    int n;
    if (!allowed) return OK;
    TRY(txt2img_memory(t, group, rows, &n, err));
    for (int i = 0; i < n; i++) tell_network(t, &rows[i]);
    size_t least = memory_least(rows, n, &largest), enlarger = 0;
    const char *what = network_name(largest);
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
