// libFuzzer: a model_index.json and the index of a sharded network. The shards are in
// tests/golden/malformed/index, or $CALO_FUZZ_SHARDS.
#include "core/base/fs.h"
#include "core/base/mem.h"
#include "core/files/model_dir.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static char dir[64], index_path[160], pipeline_path[160];

static void make_folder(void) {
    const char *from = getenv("CALO_FUZZ_SHARDS");
    char shard[4200], here[4000] = "", to[160];
    snprintf(dir, sizeof dir, "%s/calotype-fuzz-XXXXXX", access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
    if (!mkdtemp(dir) || !getcwd(here, sizeof here)) abort();
    snprintf(index_path, sizeof index_path, "%s/model.safetensors.index.json", dir);
    snprintf(pipeline_path, sizeof pipeline_path, "%s/model_index.json", dir);
    snprintf(shard, sizeof shard, "%s/good-1.safetensors", from ? from : "tests/golden/malformed/index");
    snprintf(to, sizeof to, "%s/good-1.safetensors", dir);
    char *whole = *shard == '/' ? mem_strdup(shard) : fs_join(here, shard);
    if (!whole || symlink(whole, to)) abort();
    mem_free(whole);
}

static void write_file(const char *path, const uint8_t *data, size_t n) {
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(data, 1, n, f) != n || fclose(f)) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    error err = {0};
    if (!*dir) make_folder();
    write_file(index_path, data, n);
    write_file(pipeline_path, data, n);
    model_files *m = model_files_open(dir, NULL, &err);
    if (!m && (!err.code || !*err.text)) abort();
    for (size_t i = 0; m && i < model_files_count(m); i++)
        if (!model_files_find(m, model_files_at(m, i).tensor->name, NULL)) abort();
    model_files_close(m);
    err = (error){0};
    model_index *x = model_index_open(dir, &err);
    if (!x && (!err.code || !*err.text)) abort();
    for (size_t i = 0; x && i < model_index_count(x); i++)
        if (!fs_is_plain_name(model_index_at(x, i).name)) abort();
    model_index_close(x);
    return 0;
}
