#include "assets/world/autoencoder.h"

#include <math.h>
#include <string.h>

#include "core/base/fs.h"
#include "core/base/mem.h"
#include "core/cpu/cpu.h"
#include "core/files/weights_file.h"
#include "core/graph/runner.h"
#include "core/models/config.h"
#include "core/models/vae.h"

enum { BATCH = 4 };

struct autoencoder {
    int side;
    dtype compute;
    size_t latents; // values of one picture
    vae_config config;
    weights_file *file;
    backend *backend;
    runner run;
};

static status read_config(autoencoder *a, const char *folder, error *err) {
    char *path = fs_join(folder, "config.json");
    if (!path) return fail(err, ERR_TEMP, "out of memory");
    json_t *json = js_load(path, CONFIG_BYTES, err);
    status s = json ? vae_config_parse(&a->config, json, path, err) : err->code;
    if (!s && (a->config.in_channels != 3 || a->config.out_channels != 3))
        s = fail(err, ERR_DATA, "%s: pictures have 3 channels", path);
    if (!s && a->side % (int)vae_factor(&a->config))
        s = fail(err, ERR_DATA, "%s: %d pixels are no multiple of %d", path, a->side,
                 (int)vae_factor(&a->config));
    json_decref(json);
    mem_free(path);
    return s;
}

static status make_plan(autoencoder *a, error *err) {
    graph g;
    graph_init(&g, a->compute);
    g.weights = weights_file_weights(a->file);
    node *picture = graph_input(&g, "picture", SHAPE(BATCH, a->side, a->side, 3), DT_F32, RATE_STEP);
    node *z = vae_encode_build(&g, &a->config, picture).mean;
    if (!g.err.code) {
        a->latents = (size_t)(shape_count(z->shape) / BATCH);
        z = add(z, graph_input(&g, "noise", z->shape, z->dtype, RATE_STEP));
    }
    node *decoded = vae_decode_build(&g, &a->config, z);
    return runner_init(&a->run, &g, &decoded, 1, a->backend, NULL, NULL, err);
}

static status open_parts(autoencoder *a, const char *model, team *t, error *err) {
    char *folder = fs_join(model, "vae");
    status s = folder ? OK : fail(err, ERR_TEMP, "out of memory");
    if (!s) s = read_config(a, folder, err);
    if (!s && !(a->file = weights_file_open(folder, NULL, err))) s = err->code;
    if (!s && !(a->backend = cpu_backend(t, err))) s = err->code;
    if (!s) s = make_plan(a, err);
    mem_free(folder);
    return s;
}

autoencoder *autoencoder_open(const char *model, int side, dtype compute, team *t, error *err) {
    error local = {0};
    if (!err) err = &local;
    autoencoder *a = mem_calloc(1, sizeof *a);
    if (!a) return fail(err, ERR_TEMP, "out of memory"), NULL;
    a->side = side;
    a->compute = compute;
    if (!open_parts(a, model, t, err)) return a;
    autoencoder_free(a);
    return NULL;
}

void autoencoder_free(autoencoder *a) {
    if (!a) return;
    runner_free(&a->run);
    backend_free(a->backend);
    weights_file_close(a->file);
    mem_free(a);
}

static void set_noise(autoencoder *a, int n, const float *noise, dice *d) {
    float *at = exec_input(a->run.exec, "noise");
    memset(at, 0, BATCH * a->latents * sizeof *at);
    for (int i = 0; i < n && noise; i++)
        for (size_t k = 0; k < a->latents; k++)
            at[(size_t)i * a->latents + k] = noise[i] * (float)dice_bell(d);
}

status autoencoder_pass(autoencoder *a, uint8_t *rgb, int n, const float *noise, dice *d, error *err) {
    size_t each = (size_t)a->side * (size_t)a->side * 3;
    for (int at = 0; at < n; at += BATCH) {
        int some = n - at < BATCH ? n - at : BATCH;
        uint8_t *pixels = rgb + (size_t)at * each;
        float *picture = exec_input(a->run.exec, "picture");
        memset(picture, 0, BATCH * each * sizeof *picture);
        for (size_t i = 0; i < (size_t)some * each; i++) picture[i] = pixels[i] / 127.5f - 1;
        set_noise(a, some, noise ? noise + at : NULL, d);
        status s = exec_run(a->run.exec, err);
        if (s) return s;
        const float *decoded = exec_output(a->run.exec, 0);
        for (size_t i = 0; i < (size_t)some * each; i++)
            pixels[i] = (uint8_t)lrintf(fminf(fmaxf((decoded[i] + 1) * 127.5f, 0), 255));
    }
    return OK;
}
