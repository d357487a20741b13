// libFuzzer: JPEG.
#include "tests/fuzz/image.h"

// Anything that looks like a frame header (FF C0 to FF CF, length, precision, rows, columns).
static bool too_large(const uint8_t *f, size_t n) {
    for (size_t i = 0; i + 9 <= n; i++)
        if (f[i] == 0xff && f[i + 1] >> 4 == 0xc &&
            (f[i + 5] << 8 | f[i + 6]) * (uint64_t)(f[i + 7] << 8 | f[i + 8]) > FUZZ_MAX_PIXELS)
            return true;
    return false;
}

void fuzz_input(const uint8_t *data, size_t n) {
    if (!too_large(data, n)) fuzz_image(data, n);
}
