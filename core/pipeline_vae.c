#include "core/pipeline_vae.h"

#include <math.h>
#include <string.h>

#include "core/api.h"
#include "core/base/mem.h"
#include "core/models/vae_tiles.h"

bool all_finite(const float *x, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (!isfinite(x[i])) return false;
    return true;
}

static size_t latent_size(const autoencoder *a) { return (size_t)(a->C * a->h * a->w); }

static void warn(const autoencoder *a, const char *what) {
    log_put(&a->model->ctx->log, LOG_LEVEL_WARN, "%s in %s: once more in F32", what, dtype_name(a->compute));
}

// ---- in parts

// Sides of parts in pixels; smaller ones are slower.
enum { VAE_TILE = 256, LEAN_TILE = 128 };
#define LARGEST_WHOLE ((int64_t)3 << 30) // bytes

static bool is_limited(const autoencoder *a) { return a->model->ctx->options.max_memory > 0; }

static int64_t tile_pixels(const autoencoder *a, bool limited) {
    int64_t side = a->tile ? a->tile : limited ? LEAN_TILE : VAE_TILE;
    return side * side;
}

static network_shape shape_of(const autoencoder *a, vae_way way, dtype compute) {
    int64_t f = way == VAE_ENCODE ? vae_factor(model_vae(a->model->m, NULL)) : 1;
    return (network_shape){.net = way == VAE_ENCODE ? NET_VAE_ENCODER : NET_VAE_DECODER,
                           .compute = compute,
                           .B = 1,
                           .H = a->h * f,
                           .W = a->w * f};
}

static int64_t tiled_bytes(const autoencoder *a, vae_way way, dtype compute, bool limited) {
    const vae_config *v = model_vae(a->model->m, NULL);
    int64_t f = vae_factor(v);
    return vae_tiled_bytes(v, way, a->h * f, a->w * f, compute, tile_pixels(a, limited));
}

// Whether a limit of memory leaves no other way. What cannot be told is told when the network is made.
static bool is_too_large(const autoencoder *a, vae_way way, dtype compute) {
    network_shape s = shape_of(a, way, compute);
    network_memory need;
    error ignored = {0};
    return is_limited(a) && !api_network_memory(a->model, &s, FAST, &need, &ignored) && !need.fits &&
           tiled_bytes(a, way, compute, true) < (int64_t)need.least;
}

static bool tiles(const autoencoder *a, vae_way way, dtype compute) {
    const vae_config *v = model_vae(a->model->m, NULL);
    int64_t f = vae_factor(v);
    return a->tiling == CALO_TILING_ON ||
           (a->tiling == CALO_TILING_AUTO &&
            (vae_untiled_bytes(v, way, a->h * f, a->w * f, compute) > LARGEST_WHOLE ||
             is_too_large(a, way, compute)));
}

size_t autoencoder_tiled_bytes(const autoencoder *a, vae_way way, bool least) {
    bool parts = least ? a->tiling != CALO_TILING_OFF : tiles(a, way, a->compute);
    return parts ? (size_t)tiled_bytes(a, way, a->compute, least || is_limited(a)) : 0;
}

typedef struct {
    api_pieces pieces;
    int done, runs;
} bands;

static status tell(void *user, error *err) {
    bands *at = user;
    return api_piece(&at->pieces, ++at->done, at->runs, err);
}

static status run_tiles(const autoencoder *a, vae_way way, dtype compute, const float *in, float *out,
                        error *err) {
    model *m = a->model->m;
    const vae_config *v = model_vae(m, err);
    int64_t f = way == VAE_ENCODE ? vae_factor(v) : 1;
    bands at = {.pieces = api_pieces_begin(a->model->ctx, "bands", a->image, a->images)};
    vae_tiles t = {.config = v,
                   .way = way,
                   .compute = compute,
                   .weights = model_weights(m, PART_VAE, err),
                   .values = model_values(m, PART_VAE),
                   .be = api_backend(a->model->ctx, is_limited(a) ? LEAN : FAST, err),
                   .room = &a->model->ctx->ws,
                   .forgets = is_limited(a),
                   .pixels = tile_pixels(a, is_limited(a)),
                   .progress = tell,
                   .user = &at};
    if (!t.weights || !t.be) return err->code;
    if (t.forgets) model_forget(m, t.room);
    at.runs = vae_tiles_runs(&t, a->h * f, a->w * f);
    return vae_tiles_run(&t, in, a->h * f, a->w * f, out, err);
}

// ---- decoding

static uint8_t to_byte(float v) { return (uint8_t)lrintf(fminf(fmaxf(v * 0.5f + 0.5f, 0), 1) * 255); }

// As the autoencoder sees latents.
static void unscale(const autoencoder *a, const float *x, float *to) {
    const vae_config *v = model_vae(a->model->m, NULL);
    for (size_t i = 0; to && i < latent_size(a); i++)
        to[i] = (float)(x[i] / v->scaling_factor + v->shift_factor);
}

static const float *decode_in_tiles(const autoencoder *a, dtype compute, const float *x, float **own,
                                    error *err) {
    int64_t f = vae_factor(model_vae(a->model->m, err));
    float *latent = mem_alloc(latent_size(a) * sizeof *latent);
    mem_free(*own);
    *own = mem_alloc((size_t)(3 * a->h * f * a->w * f) * sizeof **own);
    status s = latent && *own ? OK : fail(err, ERR_TEMP, "out of memory");
    unscale(a, x, latent);
    if (!s) s = run_tiles(a, VAE_DECODE, compute, latent, *own, err);
    mem_free(latent);
    return s ? NULL : *own;
}

// The picture, [H,W,3] around -1 .. 1: in *own, which the caller frees, or borrowed until the next network is
// asked for. NULL on failure.
static const float *run_decoder(const autoencoder *a, dtype compute, const float *x, float **own,
                                error *err) {
    if (tiles(a, VAE_DECODE, compute)) return decode_in_tiles(a, compute, x, own, err);
    network_shape s = shape_of(a, VAE_DECODE, compute);
    exec *e = api_network(a->model, &s, FAST, err);
    if (!e) return NULL;
    unscale(a, x, exec_input(e, "latent"));
    return exec_run(e, err) ? NULL : exec_output(e, 0);
}

status autoencoder_decode(const autoencoder *a, const float *x, uint8_t *rgb, error *err) {
    int64_t f = vae_factor(model_vae(a->model->m, err));
    size_t n = (size_t)(3 * a->h * f * a->w * f);
    float *own = NULL;
    const float *out = run_decoder(a, a->compute, x, &own, err);
    if (out && a->compute != DT_F32 && !all_finite(out, n)) {
        warn(a, "the autoencoder's picture is not a number");
        out = run_decoder(a, DT_F32, x, &own, err);
    }
    if (out && !all_finite(out, n))
        fail(err, ERR_DATA, "nan: the autoencoder's picture is not a number, so it is not drawn");
    for (size_t i = 0; i < n && !err->code; i++) rgb[i] = to_byte(out[i]);
    mem_free(own);
    return err->code;
}

// ---- encoding

// The encoder's input, -1 .. 1.
static void fill_picture(const image *im, const image *hidden, float *in) {
    for (size_t i = 0, n = 3 * (size_t)im->w * (size_t)im->h; i < n; i++)
        in[i] = hidden && hidden->px[i / 3] >= 128 ? 0 : (float)(im->px[i] / 127.5 - 1);
}

static status encode_in_tiles(const autoencoder *a, dtype compute, const image *im, const image *hidden,
                              const encoded *to, error *err) {
    size_t n = latent_size(a), C = (size_t)a->C;
    float *in = mem_alloc(3 * (size_t)im->w * (size_t)im->h * sizeof *in),
          *out = mem_alloc(2 * n * sizeof *out);
    status s = in && out ? OK : fail(err, ERR_TEMP, "out of memory");
    if (!s) {
        fill_picture(im, hidden, in);
        s = run_tiles(a, VAE_ENCODE, compute, in, out, err);
    }
    for (size_t i = 0; i < n && !s; i++) {
        const float *moments = out + i / C * 2 * C + i % C;
        to->mean[i] = moments[0];
        to->deviation[i] = fminf(fmaxf(moments[C], VAE_LOW_LOGVAR), VAE_HIGH_LOGVAR);
    }
    mem_free(in);
    mem_free(out);
    return s;
}

static status encode_whole(const autoencoder *a, dtype compute, const image *im, const image *hidden,
                           const encoded *to, error *err) {
    network_shape size = shape_of(a, VAE_ENCODE, compute);
    exec *e = api_network(a->model, &size, FAST, err);
    float *in = e ? exec_input(e, "sample") : NULL;
    if (in) fill_picture(im, hidden, in);
    if (!e) return err->code;
    TRY(exec_run(e, err));
    size_t bytes = latent_size(a) * sizeof(float);
    memcpy(to->mean, exec_output(e, 0), bytes);
    memcpy(to->deviation, exec_output(e, 1), bytes);
    return OK;
}

// Whether the result is all numbers; *s says what else went wrong.
static bool run_encoder(const autoencoder *a, dtype compute, const image *im, const image *hidden,
                        const encoded *to, status *s, error *err) {
    size_t n = latent_size(a);
    *s = (tiles(a, VAE_ENCODE, compute) ? encode_in_tiles : encode_whole)(a, compute, im, hidden, to, err);
    for (size_t i = 0; i < n && !*s; i++)
        to->deviation[i] = expf(0.5f * to->deviation[i]); // of log variances
    return !*s && all_finite(to->mean, n) && all_finite(to->deviation, n);
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
