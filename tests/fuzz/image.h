// What the three picture targets share: decode a picture and read its texts. The targets themselves turn away
// headers that claim more pixels than a fuzzer has time for.
#pragma once
#include "core/files/image.h"

#include <stdbool.h>
#include <stdlib.h>

enum { FUZZ_MAX_PIXELS = 1 << 20 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

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
    image_free(&im);
    if (!image_read_texts(data, n, "fuzz", &texts, &err)) image_texts_free(&texts);
}
