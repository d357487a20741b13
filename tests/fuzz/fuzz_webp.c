// libFuzzer: WebP.
#include "tests/fuzz/image.h"

#include <webp/decode.h>

void fuzz_input(const uint8_t *data, size_t n) {
    int w, h;
    if (WebPGetInfo(data, n, &w, &h) && (int64_t)w * h > FUZZ_MAX_PIXELS) return;
    fuzz_image(data, n);
}
