#include "core/pipeline_vae.h"

#include <math.h>
#include <string.h>

#include "core/api.h"
#include "core/base/mem.h"

bool all_finite(const float *x, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (!isfinite(x[i])) return false;
    return true;
}

static size_t latent_size(const autoencoder *a) { return (size_t)(a->C * a->h * a->w); }

static void warn(const autoencoder *a, const char *what) {
    log_put(&a->model->ctx->log, LOG_LEVEL_WARN, "%s in %s: once more in F32", what, dtype_name(a->compute));
}

// ---- decoding

static uint8_t to_byte(float v) { return (uint8_t)lrintf(fminf(fmaxf(v * 0.5f + 0.5f, 0), 1) * 255); }

// The picture, [H,W,3] around -1 .. 1, borrowed until the next network is asked for. NULL on failure.
static const float *run_decoder(const autoencoder *a, dtype compute, const float *x, error *err) {
    const vae_config *v = model_vae(a->model->m, err);
    network_shape s = {.net = NET_VAE_DECODER, .compute = compute, .B = 1, .H = a->h, .W = a->w};
    exec *e = api_network(a->model, &s, FAST, err);
    if (!e) return NULL;
    float *in = exec_input(e, "latent");
    for (size_t i = 0; in && i < latent_size(a); i++)
        in[i] = (float)(x[i] / v->scaling_factor + v->shift_factor);
    return exec_run(e, err) ? NULL : exec_output(e, 0);
}

status autoencoder_decode(const autoencoder *a, const float *x, uint8_t *rgb, error *err) {
    int64_t f = vae_factor(model_vae(a->model->m, err));
    size_t n = (size_t)(3 * a->h * f * a->w * f);
    const float *out = run_decoder(a, a->compute, x, err);
    if (out && a->compute != DT_F32 && !all_finite(out, n)) {
        warn(a, "the autoencoder's picture is not a number");
        out = run_decoder(a, DT_F32, x, err);
    }
    if (!out) return err->code;
    if (!all_finite(out, n))
        return fail(err, ERR_DATA, "nan: the autoencoder's picture is not a number, so it is not drawn");
    for (size_t i = 0; i < n; i++) rgb[i] = to_byte(out[i]);
    return OK;
}

// ---- encoding

// The encoder's input, -1 .. 1.
static void fill_picture(const image *im, const image *hidden, float *in) {
    for (size_t i = 0, n = 3 * (size_t)im->w * (size_t)im->h; i < n; i++)
        in[i] = hidden && hidden->px[i / 3] >= 128 ? 0 : (float)(im->px[i] / 127.5 - 1);
}

// Whether the result is all numbers; *s says what else went wrong.
static bool run_encoder(const autoencoder *a, dtype compute, const image *im, const image *hidden,
                        const encoded *to, status *s, error *err) {
    network_shape size = {.net = NET_VAE_ENCODER, .compute = compute, .B = 1, .H = im->h, .W = im->w};
    exec *e = api_network(a->model, &size, FAST, err);
    float *in = e ? exec_input(e, "sample") : NULL;
    if (in) fill_picture(im, hidden, in);
    if ((*s = e ? exec_run(e, err) : err->code)) return false;
    size_t n = latent_size(a);
    const float *mean = exec_output(e, 0), *logvar = exec_output(e, 1);
    memcpy(to->mean, mean, n * sizeof *mean);
    for (size_t i = 0; i < n; i++) to->deviation[i] = expf(0.5f * logvar[i]);
    return all_finite(to->mean, n) && all_finite(to->deviation, n);
}

status autoencoder_encode(const autoencoder *a, const image *im, const image *hidden, encoded *to,
                          error *err) {
    size_t n = latent_size(a);
    *to = (encoded){mem_alloc(n * sizeof *to->mean), mem_alloc(n * sizeof *to->deviation)};
    if (!to->mean || !to->deviation) return fail(err, ERR_TEMP, "out of memory");
    status s;
    if (run_encoder(a, a->compute, im, hidden, to, &s, err) || s) return s;
    if (a->compute != DT_F32) {
        warn(a, "the initial picture's latents are not numbers");
        if (run_encoder(a, DT_F32, im, hidden, to, &s, err) || s) return s;
    }
    return fail(err, ERR_DATA, "nan: the initial picture's latents are not numbers, so nothing is drawn");
}

void encoded_free(encoded *e) {
    mem_free(e->mean);
    mem_free(e->deviation);
    *e = (encoded){0};
}
