// libFuzzer: the list of captions of a training folder (metadata.jsonl), beside one good picture, 1.png.
#include "core/files/image.h"
#include "core/train/folder.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static char dir[64], list[100];

static void make_folder(void) {
    uint8_t px[12] = {0};
    image im = {2, 2, 3, px};
    char picture[100];
    snprintf(dir, sizeof dir, "%s/calotype-fuzz-XXXXXX", access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
    if (!mkdtemp(dir)) abort();
    snprintf(list, sizeof list, "%s/metadata.jsonl", dir);
    snprintf(picture, sizeof picture, "%s/1.png", dir);
    if (image_save(picture, &im, &(image_options){.format = IMAGE_PNG}, true, NULL)) abort();
}

static status read_folder(bool skip) {
    static const source_size size = {8, 8};
    folder_options o = {.sizes = &size, .n_sizes = 1, .captions = true, .skip_bad = skip};
    sample_source s;
    error err = {0};
    char caption[SOURCE_CAPTION_MAX];
    status code = folder_open(dir, &o, &s, &err);
    if (code) {
        if (code != err.code || !*err.text) abort();
        return code;
    }
    for (uint64_t i = 0; i < s.count; i++)
        if (s.caption(s.self, i, 0, caption, &err) || strlen(caption) >= SOURCE_CAPTION_MAX) abort();
    source_free(&s);
    return OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    if (!*dir) make_folder();
    FILE *f = fopen(list, "wb");
    if (!f || fwrite(data, 1, n, f) != n || fclose(f)) abort();
    // What is read without a bad sample is read just so when they may be skipped.
    if (!read_folder(false) && read_folder(true)) abort();
    read_folder(true);
    return 0;
}
