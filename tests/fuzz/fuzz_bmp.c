// libFuzzer: BMP and TGA.
#include "tests/fuzz/image.h"

// Two bytes of width and two of height, or four of each.
static bool too_large(const uint8_t *f, size_t n) {
    uint64_t tga = n < 18 ? 0 : (uint64_t)(f[12] | f[13] << 8) * (uint64_t)(f[14] | f[15] << 8);
    uint64_t bmp = n < 26 ? 0 : (uint64_t)(f[18] | f[19] << 8) * (uint64_t)(f[22] | f[23] << 8);
    return n >= 2 && f[0] == 'B' && f[1] == 'M' ? bmp > FUZZ_MAX_PIXELS : tga > FUZZ_MAX_PIXELS;
}

void fuzz_input(const uint8_t *data, size_t n) {
    if (!too_large(data, n)) fuzz_image(data, n);
}
