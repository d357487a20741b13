#include "core/train/sheet.h"

#include <string.h>

#include "core/files/image.h"

status sheet_save(const char *path, const float *pictures, int B, int H, int W, int columns, error *err) {
    image im = {0};
    int rows = (B + columns - 1) / columns;
    status s = image_alloc(&im, columns * W, rows * H, 3, err);
    if (s) return s;
    memset(im.px, 255, (size_t)im.w * (size_t)im.h * 3);
    for (int b = 0; b < B; b++)
        for (int y = 0; y < H; y++) {
            const float *src = pictures + ((size_t)b * (size_t)H + (size_t)y) * (size_t)W * 3;
            uint8_t *dst =
                im.px + ((size_t)(b / columns * H + y) * (size_t)im.w + (size_t)(b % columns * W)) * 3;
            for (int i = 0; i < 3 * W; i++) dst[i] = sheet_byte(src[i]);
        }
    s = image_save(path, &im, &(image_options){.format = IMAGE_PNG}, true, err);
    image_free(&im);
    return s;
}
