#include "core/train/latents.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/base/fs.h"
#include "core/base/mem.h"
#include "core/files/model_dir.h"
#include "core/files/safetensors.h"
#include "core/files/weights_file.h"
#include "core/train/recipe.h"

enum {
    SHARD = 4096, // samples of a file
    ENCODED = 16  // samples of one run of the encoder
};

typedef struct {
    int64_t h, w;
    uint64_t count;
    size_t n_shards;
    tensor_file **shard;
} bucket_latents;

struct latents {
    const feed *f;
    const vae_config *config;
    char *dir;
    int n_buckets;
    bucket_latents *bucket;
};

static size_t values_of(const latents *l, const bucket_latents *b) {
    return (size_t)(b->h * b->w * l->config->latent_channels);
}

// ---- the key

static status add_file(store_key *k, const char *path, error *err) {
    uint64_t size = 0;
    int fd = fs_open_read(path, &size, err);
    if (fd < 0) return err->code;
    char piece[1 << 14];
    status s = OK;
    for (uint64_t at = 0; at < size && !s; at += sizeof piece) {
        size_t n = size - at < sizeof piece ? (size_t)(size - at) : sizeof piece;
        s = fs_read_at(fd, path, at, piece, n, err);
        if (!s) *k = key_add(*k, piece, n);
    }
    close(fd);
    return s;
}

// The bytes of the file, or of an index and of the shards behind it.
static status add_weights(store_key *k, const char *vae, error *err) {
    model_files *files = model_files_open(vae, NULL, err);
    if (!files) return err->code;
    status s = add_file(k, model_files_path(files), err);
    for (size_t i = 0; i < model_files_count(files) && !s; i++) {
        const char *shard = tensor_file_path(model_files_at(files, i).file);
        if (model_files_begins(files, i) && strcmp(shard, model_files_path(files)) != 0)
            s = add_file(k, shard, err);
    }
    model_files_close(files);
    return s;
}

static status find_key(const latents *l, const char *vae, store_key *k, error *err) {
    const feed *f = l->f;
    uint64_t about[] = {(uint64_t)f->context->config->seed, f->context->compute == DT_BF16, SHARD,
                        f->source.files};
    double scale[] = {l->config->scaling_factor, l->config->shift_factor};
    *k = key_start();
    *k = key_add(*k, f->source.name, strlen(f->source.name));
    *k = key_add(*k, about, sizeof about);
    *k = key_add(*k, scale, sizeof scale);
    *k = key_add(*k, f->stage->sizes, (size_t)f->stage->n_sizes * sizeof *f->stage->sizes);
    return add_weights(k, vae, err);
}

// ---- encoding

typedef struct {
    const latents *l;
    const weights_file *file;
    runner run;
    uint8_t *rgb;
    uint16_t *shard; // f16
    int64_t values;  // of ENCODED pictures
} encoder;

static status encoder_make(encoder *e, const latents *l, const weights_file *file, int bucket, error *err) {
    const train_context *x = l->f->context;
    source_size size = feed_size(l->f, bucket);
    graph g;
    *e = (encoder){.l = l, .file = file};
    recipe_graph(x, &g, weights_file_weights(file));
    node *picture = graph_input(&g, "picture", SHAPE(ENCODED, size.H, size.W, 3), DT_F32, RATE_STEP);
    node *mean = vae_encode_build(&g, l->config, picture).mean;
    double scale = l->config->scaling_factor;
    node *latent = affine(mean, scale, -l->config->shift_factor * scale);
    e->values = shape_count(picture->shape);
    status s = recipe_runner(&e->run, x, &g, &latent, 1, err);
    e->rgb = mem_alloc((size_t)e->values);
    e->shard = mem_alloc(SHARD * values_of(l, &l->bucket[bucket]) * sizeof *e->shard);
    return s ? s : e->rgb && e->shard ? OK : fail(err, ERR_TEMP, "out of memory");
}

static void encoder_free(encoder *e) {
    runner_free(&e->run);
    mem_free(e->rgb);
    mem_free(e->shard);
}

// Up to ENCODED samples from place `first` on; a short batch is filled up with its last sample.
static status encode_some(encoder *e, int bucket, uint64_t first, uint64_t n, uint16_t *dst, error *err) {
    const feed *f = e->l->f;
    uint64_t sample[ENCODED];
    for (uint64_t i = 0; i < ENCODED; i++) sample[i] = feed_at(f, bucket, first + (i < n ? i : n - 1));
    status s = feed_pictures(f, sample, ENCODED, feed_size(f, bucket), e->rgb, NULL, err);
    if (s) return s;
    float *picture = exec_input(e->run.exec, "picture");
    for (int64_t i = 0; i < e->values; i++) picture[i] = e->rgb[i] / 127.5f - 1;
    if ((s = exec_run(e->run.exec, err))) return s;
    const float *latent = exec_output(e->run.exec, 0);
    for (size_t i = 0; i < n * values_of(e->l, &e->l->bucket[bucket]); i++) dst[i] = f32_to_f16(latent[i]);
    return OK;
}

static status save_shard(const encoder *e, const bucket_latents *b, const char *path, uint64_t n,
                         error *err) {
    safetensors_item it = {.name = "latents",
                           .type = DT_F16,
                           .ndim = 4,
                           .shape = {(int64_t)n, b->h, b->w, e->l->config->latent_channels},
                           .data = e->shard};
    return safetensors_save(path, &it, 1, NULL, 0, true, err);
}

static bool stopped(const train_context *x) {
    return x->hooks->cancelled && x->hooks->cancelled(x->hooks->user);
}

static status encode_shard(encoder *e, int bucket, size_t shard, const char *path, error *err) {
    const latents *l = e->l;
    const bucket_latents *b = &l->bucket[bucket];
    uint64_t first = shard * SHARD, n = b->count - first < SHARD ? b->count - first : SHARD;
    status s = e->shard ? OK : encoder_make(e, l, e->file, bucket, err);
    for (uint64_t i = 0; i < n && !s; i += ENCODED) {
        if (stopped(l->f->context)) return fail(err, ERR_CANCELLED, "stopped while encoding latents");
        uint64_t some = n - i < ENCODED ? n - i : ENCODED;
        s = encode_some(e, bucket, first + i, some, e->shard + i * values_of(l, b), err);
    }
    if (!s) s = save_shard(e, b, path, n, err);
    if (!s)
        log_put(l->f->context->log, LOG_LEVEL_INFO, "encoded %llu of %llu samples of %lldx%lld latents",
                (unsigned long long)(first + n), (unsigned long long)b->count, (long long)b->w,
                (long long)b->h);
    return s;
}

// ---- opening

// The shard's file is there and holds what it should.
static tensor_file *shard_open(const latents *l, const bucket_latents *b, size_t shard, const char *path,
                               error *err) {
    tensor_file *st = tensor_file_open(path, err);
    if (!st) return NULL;
    const tensor_entry *t = tensor_file_find(st, "latents");
    uint64_t left = b->count - shard * SHARD, n = left < SHARD ? left : SHARD;
    if (t && t->type == DT_F16 && t->count == n * values_of(l, b)) return st;
    fail(err, ERR_DATA, "%s: not the latents of this data; remove the folder", path);
    tensor_file_close(st);
    return NULL;
}

static status open_bucket(latents *l, const weights_file *file, int bucket, error *err) {
    bucket_latents *b = &l->bucket[bucket];
    source_size size = feed_size(l->f, bucket);
    int64_t f = vae_factor(l->config);
    *b = (bucket_latents){.h = size.H / f, .w = size.W / f, .count = l->f->count[bucket]};
    size_t n = (size_t)((b->count + SHARD - 1) / SHARD);
    if (!(b->shard = mem_calloc(n + 1, sizeof(tensor_file *)))) return fail(err, ERR_TEMP, "out of memory");
    encoder e = {.l = l, .file = file};
    status s = OK;
    for (; b->n_shards < n && !s; b->n_shards++) {
        char name[64];
        snprintf(name, sizeof name, "%dx%d-%05zu.safetensors", size.W, size.H, b->n_shards);
        char *path = fs_join(l->dir, name);
        if (!path) s = fail(err, ERR_TEMP, "out of memory");
        if (!s && !fs_exists(path)) s = encode_shard(&e, bucket, b->n_shards, path, err);
        if (!s && !(b->shard[b->n_shards] = shard_open(l, b, b->n_shards, path, err))) s = err->code;
        mem_free(path);
    }
    encoder_free(&e);
    return s;
}

static status open_all(latents *l, const char *vae, error *err) {
    store_key key;
    char name[64];
    status s = find_key(l, vae, &key, err);
    if (s) return s;
    snprintf(name, sizeof name, "cache/%016llx", (unsigned long long)key.a);
    l->dir = fs_join(l->f->context->config->out, name);
    l->n_buckets = l->f->order.n_buckets;
    l->bucket = mem_calloc((size_t)l->n_buckets, sizeof *l->bucket);
    if (!l->dir || !l->bucket) return fail(err, ERR_TEMP, "out of memory");
    if ((s = fs_mkdirs(l->dir, err))) return s;
    weights_file *file = weights_file_open(vae, NULL, err);
    if (!file) return err->code;
    for (int b = 0; b < l->n_buckets && !s; b++) s = open_bucket(l, file, b, err);
    weights_file_close(file);
    return s;
}

latents *latents_open(const feed *f, const vae_config *config, const char *vae, error *err) {
    latents *l = mem_calloc(1, sizeof *l);
    if (!l) return fail(err, ERR_TEMP, "out of memory"), NULL;
    *l = (latents){.f = f, .config = config};
    if (!open_all(l, vae, err)) return l;
    latents_close(l);
    return NULL;
}

void latents_close(latents *l) {
    if (!l) return;
    for (int b = 0; l->bucket && b < l->n_buckets; b++) {
        for (size_t i = 0; i < l->bucket[b].n_shards; i++) tensor_file_close(l->bucket[b].shard[i]);
        mem_free(l->bucket[b].shard);
    }
    mem_free(l->bucket);
    mem_free(l->dir);
    mem_free(l);
}

status latents_read(const latents *l, int bucket, uint64_t place, float *dst, error *err) {
    const bucket_latents *b = &l->bucket[bucket];
    const tensor_file *st = b->shard[place / SHARD];
    uint64_t n = values_of(l, b);
    return tensor_file_read_f32(st, tensor_file_find(st, "latents"), place % SHARD * n, n, dst, err);
}
