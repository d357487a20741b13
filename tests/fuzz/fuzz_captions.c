// libFuzzer: training folders. The input is, one after another, the list of captions (metadata.jsonl) beside
// good pictures, the caption of a picture (1.txt) and a picture (1.png).
#include "core/files/image.h"
#include "core/train/folder.h"
#include "tests/fuzz/fuzz.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { LISTED, CAPTION, PICTURE, FOLDERS };

static char dir[FOLDERS][64], input[FOLDERS][100], nowhere[100];

static void put(int folder, const char *name, int w, int h, int c) {
    uint8_t px[64] = {0};
    image im = {w, h, c, px};
    char path[100];
    snprintf(path, sizeof path, "%s/%s", dir[folder], name);
    if (image_save(path, &im, &(image_options){.format = IMAGE_PNG}, true, NULL)) abort();
}

void fuzz_start(void) {
    static const char *const NAMES[FOLDERS] = {"metadata.jsonl", "1.txt", "1.png"};
    char path[100];
    for (int i = 0; i < FOLDERS; i++) {
        fuzz_folder(dir[i]);
        snprintf(input[i], sizeof input[i], "%s/%s", dir[i], NAMES[i]);
    }
    snprintf(nowhere, sizeof nowhere, "%s/nowhere", dir[LISTED]);
    snprintf(path, sizeof path, "%s/inner", dir[LISTED]);
    if (mkdir(path, 0700)) abort();
    put(LISTED, "1.png", 2, 2, 3);
    put(LISTED, "wide.png", 6, 2, 4);
    put(LISTED, "inner/grey.jpg", 2, 4, 1);
    put(CAPTION, "1.png", 2, 2, 3);
    put(CAPTION, "2.WebP", 6, 2, 4);
    snprintf(path, sizeof path, "%s/2.txt", dir[CAPTION]);
    fuzz_write(path, " two \n", 6);
    snprintf(path, sizeof path, "%s/1.txt", dir[PICTURE]);
    fuzz_write(path, "one", 3);
}

static void look_at(const sample_source *s, int n_buckets, const source_size *sizes) {
    static uint8_t rgb[16 * 16 * 3];
    char caption[SOURCE_CAPTION_MAX];
    source_spots spots;
    error err = {0};
    for (uint64_t i = 0; i < s->count; i++) {
        int b = s->bucket(s->self, i);
        if (b < 0 || b >= n_buckets) abort();
        if (s->caption(s->self, i, 0, caption, &err) || strlen(caption) >= SOURCE_CAPTION_MAX) abort();
        // a few, since time is short
        if (i < 4 && s->picture(s->self, i, sizes[b].W, sizes[b].H, rgb, i & 1 ? &spots : NULL, &err) &&
            !fuzz_failed())
            abort();
    }
}

static status read_folder(const char *path, bool captions, bool skip) {
    static const source_size SIZES[] = {{8, 8}, {16, 8}, {8, 16}};
    folder_options o = {.sizes = SIZES, .n_sizes = 3, .captions = captions, .skip_bad = skip};
    sample_source s;
    error err = {0};
    status code = folder_open(path, &o, &s, &err);
    if (code) {
        if (code != err.code || !*err.text) abort();
        return code;
    }
    look_at(&s, 3, SIZES);
    source_free(&s);
    return OK;
}

void fuzz_input(const uint8_t *data, size_t n) {
    for (int i = 0; i < FOLDERS; i++) {
        fuzz_write(input[i], data, n);
        // What is read without a bad sample is read just so when they may be skipped, or without captions.
        if (!read_folder(dir[i], true, false) &&
            (read_folder(dir[i], true, true) || read_folder(dir[i], false, false)) && !fuzz_failed())
            abort();
        read_folder(dir[i], false, true);
    }
    if (!read_folder(nowhere, false, false)) abort();
}
