// An upscaler in a context: which tiles keep to a limit of memory.
#pragma once
#include "core/api.h"
#include "core/upscaler.h"

// *how for pictures of w × h pixels, all but its progress: the largest tiles, how->tile (0: UPSCALE_TILE) at
// most, with which `limit` bytes of the process (0: none) are kept; the smallest, with lean weights, where
// none does. *bytes (unless NULL): what they take of it.
status upscaler_fit(upscaler *u, calo_context *ctx, uint64_t limit, int w, int h, upscaling *how,
                    size_t *bytes, error *err);
