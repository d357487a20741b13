// libFuzzer: PNG. Signature and checksums are repaired first, or the fuzzer would never come behind them.
#include "tests/fuzz/image.h"

#include <string.h>
#include <zlib.h>

static uint32_t get32(const uint8_t *p) {
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void repair(uint8_t *f, size_t n) {
    memcpy(f, "\x89PNG\r\n\x1a\n", 8);
    for (size_t at = 8; n - at >= 12;) {
        size_t length = get32(f + at);
        if (length > n - at - 12) return;
        uint32_t crc = (uint32_t)crc32(0, f + at + 4, (uInt)length + 4);
        for (int i = 0; i < 4; i++) f[at + 8 + length + (size_t)i] = (uint8_t)(crc >> (24 - 8 * i));
        at += 12 + length;
    }
}

void fuzz_input(const uint8_t *data, size_t n) {
    if (n < 33) return;
    uint8_t *f = malloc(n);
    if (!f) return; // on request
    memcpy(f, data, n);
    repair(f, n);
    if ((uint64_t)get32(f + 16) * get32(f + 20) <= FUZZ_MAX_PIXELS) fuzz_image(f, n);
    free(f);
}
