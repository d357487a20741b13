// What the picture targets share: decode a picture, read its texts, write it again. The targets themselves
// turn away headers that claim more pixels than a fuzzer has time for.
#pragma once
#include "core/base/mem.h"
#include "core/files/image.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { FUZZ_MAX_PIXELS = 1 << 20 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

// A small picture survives PNG and lossless WebP unchanged, and JPEG takes it.
static inline void fuzz_encoders(const image *im) {
    for (image_format f = IMAGE_PNG; f <= IMAGE_WEBP; f++) {
        image_options o = {.format = f, .texts = &(image_text){"parameters", "x"}, .n_texts = 1};
        uint8_t *file;
        size_t n;
        image again;
        error err = {0};
        if (image_encode(im, &o, &file, &n, &err) || image_decode(file, n, "fuzz", &again, &err)) abort();
        if (again.w != im->w || again.h != im->h) abort();
        if (f == IMAGE_PNG && memcmp(again.px, im->px, (size_t)im->w * (size_t)im->h * (size_t)im->c))
            abort();
        image_free(&again);
        mem_free(file);
    }
}

static inline void fuzz_image(const uint8_t *data, size_t n) {
    image im;
    image_texts texts;
    error err = {0};
    status s = image_decode(data, n, "fuzz", &im, &err);
    if (s && (im.px || !*err.text)) abort();
    // Every pixel must have been written: the sanitizer for memory sees it here.
    unsigned sum = 0;
    for (size_t i = 0; !s && i < (size_t)im.w * (size_t)im.h * (size_t)im.c; i++) sum += im.px[i];
    volatile bool odd = sum & 1;
    (void)odd;
    if (!s && im.w <= 32 && im.h <= 32) fuzz_encoders(&im);
    image_free(&im);
    if (!image_read_texts(data, n, "fuzz", &texts, &err)) image_texts_free(&texts);
}
