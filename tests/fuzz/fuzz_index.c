// libFuzzer: a model_index.json, the index of a sharded network and a shard, beside two good shards; and a
// checkpoint in a folder of its own.
#include "core/base/fs.h"
#include "core/base/mem.h"
#include "core/files/model_dir.h"
#include "core/files/safetensors.h"
#include "tests/fuzz/fuzz.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char dir[64], empty[64], lone[64];
static char index_path[160], variant_path[160], pipeline_path[160], whole_path[160], lone_path[160];

static void put_shard(const char *shard, const char *tensor) {
    static const float VALUES[2] = {1, 2};
    const safetensors_item item = {.name = tensor, .type = DT_F32, .ndim = 1, .shape = {2}, .data = VALUES};
    char path[160];
    snprintf(path, sizeof path, "%s/%s", dir, shard);
    if (safetensors_save(path, &item, 1, NULL, 0, true, NULL)) abort();
}

void fuzz_start(void) {
    fuzz_folder(dir);
    fuzz_folder(empty);
    fuzz_folder(lone);
    snprintf(index_path, sizeof index_path, "%s/model.safetensors.index.json", dir);
    snprintf(variant_path, sizeof variant_path, "%s/model.safetensors.index.fp16.json", dir);
    snprintf(pipeline_path, sizeof pipeline_path, "%s/model_index.json", dir);
    snprintf(whole_path, sizeof whole_path, "%s/whole.safetensors", dir);
    snprintf(lone_path, sizeof lone_path, "%s/lone.safetensors", lone);
    put_shard("good-1.safetensors", "a");
    put_shard("good-2.safetensors", "b");
}

static void look_at(const model_files *m) {
    if (model_files_count(m) && !model_files_begins(m, 0)) abort();
    for (size_t i = 0; i < model_files_count(m); i++) {
        model_tensor t = model_files_at(m, i), found;
        const int64_t other[TENSOR_MAX_DIMS] = {3, 1, 4};
        error err = {0};
        float values[16];
        if (i && model_files_begins(m, i) && t.file == model_files_at(m, i - 1).file) abort();
        if (!model_files_find(m, t.tensor->name, NULL)) abort();
        if (model_files_need(m, t.tensor->name, t.tensor->ndim, t.tensor->shape, &found, &err)) abort();
        if (!model_files_need(m, t.tensor->name, 3, other, &found, &err) && t.tensor->shape[0] != 3) abort();
        if (t.tensor->count <= 16)
            model_files_read_f32(m, t.tensor->name, t.tensor->ndim, t.tensor->shape, values, &err);
        if (!model_files_read_f32(m, "no such tensor", 1, other, values, &err)) abort();
    }
}

static void open_files(const char *path, const char *variant) {
    error err = {0};
    model_files *m = model_files_open(path, variant, &err);
    if (!m && (!err.code || !*err.text)) abort();
    if (!m) return;
    if (!*model_files_path(m)) abort();
    look_at(m);
    model_files_close(m);
}

static void open_pipeline(const char *path) {
    error err = {0};
    model_index *x = model_index_open(path, &err);
    if (!x && (!err.code || !*err.text)) abort();
    for (size_t i = 0; x && i < model_index_count(x); i++) {
        model_component c = model_index_at(x, i);
        if (!fs_is_plain_name(c.name) || !model_index_find(x, c.name)) abort();
    }
    if (x && (!model_index_class(x) || model_index_find(x, "no such component"))) abort();
    model_index_close(x);
}

// What stands for the folder: itself, or what lies in it.
static void resolve(const char *folder) {
    error err = {0};
    char *found = model_dir_resolve(folder, &err);
    if (found ? strncmp(found, folder, strlen(folder)) != 0 : !err.code || !*err.text) abort();
    mem_free(found);
}

void fuzz_input(const uint8_t *data, size_t n) {
    fuzz_write(index_path, data, n);
    fuzz_write(variant_path, data, n);
    fuzz_write(pipeline_path, data, n);
    fuzz_write(whole_path, data, n);
    fuzz_write(lone_path, data, n);
    resolve(dir);
    resolve(empty);
    resolve(lone);
    resolve("");
    open_files(dir, NULL);
    open_files(dir, "fp16");
    open_files(dir, "none");
    open_files(whole_path, NULL);
    open_files(empty, "");
    open_files("", NULL);
    open_pipeline(dir);
}
