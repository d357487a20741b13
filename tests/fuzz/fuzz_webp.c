// libFuzzer: WebP.
#include "tests/fuzz/image.h"

#include <webp/decode.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    int w, h;
    if (WebPGetInfo(data, n, &w, &h) && (int64_t)w * h > FUZZ_MAX_PIXELS) return 0;
    fuzz_image(data, n);
    return 0;
}
