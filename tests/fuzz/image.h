// What the picture targets share: decode a picture, read its texts, write both again. The targets themselves
// turn away headers that claim more pixels than a fuzzer has time for.
#pragma once
#include "core/base/mem.h"
#include "core/files/image.h"
#include "tests/fuzz/fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FUZZ_MAX_PIXELS = 1 << 20, FUZZ_MAX_ENCODED = 1 << 14 };

static char fuzz_saved[100];

void fuzz_start(void) {
    char dir[64];
    fuzz_folder(dir);
    snprintf(fuzz_saved, sizeof fuzz_saved, "%s/picture.", dir);
}

// Every pixel must have been written: the sanitizer for memory sees it here.
static inline void fuzz_look(const image *im) {
    unsigned sum = 0;
    for (size_t i = 0; i < (size_t)im->w * (size_t)im->h * (size_t)im->c; i++) sum += im->px[i];
    volatile bool odd = sum & 1;
    (void)odd;
}

// What is written can be read; PNG keeps every byte. A format may refuse a text or a size.
static inline void fuzz_encode(const image *im, const image_options *o) {
    uint8_t *file;
    size_t n;
    image again;
    error err = {0};
    status s = image_encode(im, o, &file, &n, &err);
    if (s && s != ERR_DATA && s != ERR_USAGE && !fuzz_failed()) abort();
    if (s) return;
    s = image_decode(file, n, "fuzz", &again, &err);
    if (s && !fuzz_failed()) abort();
    if (!s && (again.w != im->w || again.h != im->h)) abort();
    if (!s && o->format == IMAGE_PNG &&
        memcmp(again.px, im->px, (size_t)im->w * (size_t)im->h * (size_t)im->c))
        abort();
    image_free(&again);
    mem_free(file);
}

static inline void fuzz_save(const image *im, const char *extension) {
    char path[120];
    error err = {0};
    snprintf(path, sizeof path, "%s%s", fuzz_saved, extension);
    status s = image_save(path, im, &(image_options){.quality = 0}, false, &err);
    if (s && s != ERR_DATA && s != ERR_USAGE && !fuzz_failed()) abort();
    if (!s && access(path, R_OK)) abort();
    unlink(path);
}

static inline void fuzz_write_again(const image *im, const image_texts *texts) {
    static const image_text OWN[] = {{"parameters", "x"}, {"prompt", "{}"}};
    static const char *const EXTENSIONS[] = {"png", "jpg", "webp", "tga"};
    for (int i = 0; i < 12; i++) {
        image_options o = {
            .format = (image_format)(i % 3), .quality = i / 3 % 2 * 80, .texts = OWN, .n_texts = 2};
        if (i >= 6) o.texts = texts->at, o.n_texts = texts->n;
        fuzz_encode(im, &o);
    }
    for (int i = 0; i < 4; i++) fuzz_save(im, EXTENSIONS[i]);
    for (int c = 1; c <= 4; c += 1 + (c == 1)) {
        image other;
        error err = {0};
        if (image_channels(im, c, &other, &err) && !fuzz_failed()) abort();
        image_free(&other);
    }
}

// A picture under a file's name is the one in memory.
static inline void fuzz_load(const uint8_t *data, size_t n, status expected) {
    image im;
    error err = {0};
    status s = image_load(fuzz_file(data, n), &im, &err);
    if (s != expected && !fuzz_failed()) abort();
    image_free(&im);
}

static inline void fuzz_image(const uint8_t *data, size_t n) {
    image im;
    image_texts texts;
    error err = {0};
    status s = image_decode(data, n, "fuzz", &im, &err);
    if (s && (im.px || s != err.code || !*err.text)) abort();
    if (!s) fuzz_look(&im);
    fuzz_load(data, n, s);
    status t = image_read_texts(data, n, "fuzz", &texts, &err);
    if (t && (texts.n || !*err.text)) abort();
    if (!s && im.w * im.h <= FUZZ_MAX_ENCODED) fuzz_write_again(&im, &texts);
    image_texts_free(&texts);
    image_free(&im);
}
