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

// What a program may ask for by mistake.
static inline void fuzz_mistakes(void) {
    uint8_t px[3] = {0}, *file;
    size_t n;
    image im = {1, 1, 3, px}, none;
    const image_text bad[] = {{"\xff", "x"}, {"x", "\xff"}};
    for (int i = 0; i < 2; i++)
        if (image_encode(&im, &(image_options){.texts = &bad[i], .n_texts = 1}, &file, &n, NULL) != ERR_DATA)
            abort();
    if (!image_alloc(&none, 0, 1, 3, NULL) || !image_alloc(&none, 1, 0, 3, NULL) ||
        !image_alloc(&none, 1, IMAGE_MAX_SIDE + 1, 3, NULL))
        abort();
}

void fuzz_start(void) {
    char dir[64];
    fuzz_mistakes();
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

// In every format, with texts of our own and with those of the picture.
static inline void fuzz_write_again(const image *im, const image_texts *texts) {
    static const image_text OWN[] = {{"parameters", "x"}, {"prompt", "{}"}};
    for (image_format f = IMAGE_PNG; f <= IMAGE_WEBP; f++) {
        fuzz_encode(im, &(image_options){.format = f, .texts = OWN, .n_texts = 2});
        fuzz_encode(im,
                    &(image_options){.format = f, .quality = 80, .texts = texts->at, .n_texts = texts->n});
    }
    fuzz_save(im, "jpeg");
    fuzz_save(im, "tga");
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
