// Pictures side by side in one file.
#pragma once
#include "core/base/status.h"

#include <math.h>
#include <stdint.h>

// A value from −1 to 1, cut off outside.
static inline uint8_t sheet_byte(float v) {
    return (uint8_t)lrintf(fminf(fmaxf(v * 127.5f + 127.5f, 0), 255));
}

// B pictures [B,H,W,3] of values from −1 to 1 (cut off outside), `columns` to a row.
status sheet_save(const char *path, const float *pictures, int B, int H, int W, int columns, error *err);
