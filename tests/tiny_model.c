#include "tests/tiny_model.h"

#include "core/base/arena.h"
#include "core/base/fs.h"
#include "core/base/json.h"
#include "core/base/mem.h"
#include "core/files/safetensors.h"
#include "tests/tools/genweights.h"

#include <criterion/criterion.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const COMPONENTS[] = {"text_encoder", "text_encoder_2", "unet", "vae"};
static const char *const TOKENIZERS[] = {"tokenizer", "tokenizer_2"};

static void write_file(const char *dir, const char *name, const char *data, size_t n) {
    char to[512];
    error err = {0};
    snprintf(to, sizeof to, "%s/%s", dir, name);
    cr_assert_eq(fs_mkdirs(dir, &err), OK, "%s", err.text);
    cr_assert_eq(fs_write_atomic(to, data, n, true, &err), OK, "%s", err.text);
}

static void copy_file(const char *from, const char *dir, const char *name) {
    char *data;
    size_t n;
    error err = {0};
    cr_assert_eq(fs_read_file(from, 1 << 20, &data, &n, &err), OK, "%s", err.text);
    write_file(dir, name, data, n);
    mem_free(data);
}

// `spoiled` NULL: none.
static void write_weights(const char *path, const json_t *tensors, const char *spoiled, float value) {
    size_t n = json_array_size(tensors);
    safetensors_item *items = mem_calloc(n, sizeof *items);
    arena a = {0};
    error err = {0};
    for (size_t i = 0; i < n; i++) {
        const json_t *row = json_array_get(tensors, i), *dims = json_array_get(row, 1);
        safetensors_item *t = &items[i];
        *t = (safetensors_item){.name = json_string_value(json_array_get(row, 0)), .type = DT_F32};
        int64_t count = 1;
        for (t->ndim = 0; t->ndim < (int)json_array_size(dims); t->ndim++)
            count *= t->shape[t->ndim] = json_integer_value(json_array_get(dims, (size_t)t->ndim));
        float *data = arena_alloc(&a, (size_t)count * sizeof *data);
        cr_assert_not_null(data);
        gen_weight(t->name, t->ndim, t->shape, data);
        for (int64_t k = 0; spoiled && !strcmp(t->name, spoiled) && k < count; k++) data[k] = value;
        t->data = data;
    }
    cr_assert_eq(safetensors_save(path, items, n, NULL, 0, true, &err), OK, "%s", err.text);
    arena_free(&a);
    mem_free(items);
}

static void write_component(const char *from, const char *dir, const char *spoiled, float value) {
    char path[1024];
    error err = {0};
    json_t *j = js_load(from, 1 << 20, &err);
    cr_assert_not_null(j, "%s", err.text);
    cr_assert_eq(fs_mkdirs(dir, &err), OK, "%s", err.text);
    snprintf(path, sizeof path, "%s/config.json", dir);
    cr_assert_eq(json_dump_file(json_object_get(j, "config"), path, JSON_INDENT(2)), 0);
    snprintf(path, sizeof path, "%s/%s", dir, json_string_value(json_object_get(j, "file")));
    write_weights(path, json_object_get(j, "tensors"), spoiled, value);
    json_decref(j);
}

void tiny_model_write(const char *name, const char *scheduler, char *dir, size_t size) {
    char from[256], to[512];
    const char *tmp = getenv("TMPDIR");
    snprintf(dir, size, "%s/calotype-XXXXXX", tmp && *tmp ? tmp : "/tmp");
    cr_assert_not_null(mkdtemp(dir));
    size_t at = strlen(dir);
    snprintf(dir + at, size - at, "/%s", name);
    for (size_t i = 0; i < sizeof COMPONENTS / sizeof *COMPONENTS; i++) {
        snprintf(from, sizeof from, "tests/golden/pipeline/%s/%s.json", name, COMPONENTS[i]);
        snprintf(to, sizeof to, "%s/%s", dir, COMPONENTS[i]);
        if (fs_exists(from)) write_component(from, to, NULL, 0);
    }
    for (size_t i = 0; i < sizeof TOKENIZERS / sizeof *TOKENIZERS; i++) {
        snprintf(from, sizeof from, "tests/golden/pipeline/%s/%s_config.json", name, TOKENIZERS[i]);
        snprintf(to, sizeof to, "%s/%s", dir, TOKENIZERS[i]);
        if (!fs_exists(from)) continue;
        copy_file(from, to, "tokenizer_config.json");
        copy_file("tests/golden/tokenizer/vocab.json", to, "vocab.json");
        copy_file("tests/golden/tokenizer/merges.txt", to, "merges.txt");
    }
    snprintf(from, sizeof from, "tests/golden/pipeline/%s/scheduler_%s.json", name, scheduler);
    snprintf(to, sizeof to, "%s/scheduler", dir);
    copy_file(from, to, "scheduler_config.json");
    snprintf(from, sizeof from, "tests/golden/pipeline/%s/model_index.json", name);
    copy_file(from, dir, "model_index.json");
}

void tiny_model_settle(char *model, char *folder, size_t size) {
    tiny_model_write("sd", "v", model, size);
    snprintf(folder, size, "%.*s", (int)(fs_basename(model) - model - 1), model);
    setenv("XDG_CACHE_HOME", folder, 1);
}

static bool draws_within(const char *dir, int count, uint64_t memory) {
    calo_context_options o = calo_context_defaults();
    calo_context *ctx;
    calo_model *m = NULL;
    o.precision = CALO_PRECISION_F32;
    o.threads = 1;
    o.max_memory = memory;
    cr_assert_eq(calo_context_new(&o, &ctx), CALO_OK);
    calo_txt2img_request r = calo_txt2img_defaults();
    r.prompt = "a boat";
    r.width = r.height = 32;
    r.steps = 1;
    r.count = count;
    r.no_hash = 1;
    calo_status s = calo_model_open(ctx, dir, &m);
    if (!s) s = calo_txt2img(m, &r, NULL);
    cr_assert(!s || s == CALO_ERR_USAGE, "%s", calo_message(ctx));
    calo_model_free(m);
    calo_context_free(ctx);
    return !s;
}

uint64_t tiny_model_least_memory(const char *dir, int count) {
    uint64_t low = 0, high = 256 << 20;
    while (high - low > 4000) {
        uint64_t middle = low + (high - low) / 2;
        if (draws_within(dir, count, middle))
            high = middle;
        else
            low = middle;
    }
    return high;
}

void tiny_autoencoder_write(const char *dir) {
    static const char index[] = "{\"_class_name\": \"StableDiffusionPipeline\"}",
                      config[] = "{\"_class_name\": \"AutoencoderKL\", \"latent_channels\": 2,"
                                 " \"block_out_channels\": [4, 8], \"norm_num_groups\": 2,"
                                 " \"layers_per_block\": 1, \"mid_block_add_attention\": false,"
                                 " \"down_block_types\": [\"DownEncoderBlock2D\", \"DownEncoderBlock2D\"],"
                                 " \"up_block_types\": [\"UpDecoderBlock2D\", \"UpDecoderBlock2D\"]}";
    char vae[500];
    snprintf(vae, sizeof vae, "%s/vae", dir);
    write_file(vae, "config.json", config, strlen(config));
    write_file(dir, "model_index.json", index, strlen(index));
}

void tiny_model_spoil(const char *dir, const char *component, const char *tensor, float value) {
    char from[256], to[512];
    snprintf(from, sizeof from, "tests/golden/pipeline/%s/%s.json", fs_basename(dir), component);
    snprintf(to, sizeof to, "%s/%s", dir, component);
    write_component(from, to, tensor, value);
}

calo_status convert_once(const calo_convert_request *r, char *message, size_t size) {
    calo_context *ctx;
    cr_assert_eq(calo_context_new(NULL, &ctx), CALO_OK);
    calo_status code = calo_convert(ctx, r);
    snprintf(message, size, "%s", calo_message(ctx));
    calo_context_free(ctx);
    return code;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *where) {
    (void)st, (void)type, (void)where;
    return remove(path);
}

void remove_tree(const char *path) { nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS); }

void tiny_model_remove(const char *dir) {
    char *base = fs_dirname(dir);
    remove_tree(base);
    mem_free(base);
}
