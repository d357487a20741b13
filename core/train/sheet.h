// Pictures side by side in one file.
#pragma once
#include "core/base/status.h"

// B pictures [B,H,W,3] of values from −1 to 1 (cut off outside), `columns` to a row.
status sheet_save(const char *path, const float *pictures, int B, int H, int W, int columns, error *err);
