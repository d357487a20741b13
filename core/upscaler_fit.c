#include "core/upscaler_fit.h"

static int least(int a, int b) { return a < b ? a : b; }

status upscaler_fit(upscaler *u, calo_context *ctx, uint64_t limit, int w, int h, upscaling *how,
                    size_t *bytes, error *err) {
    static const struct {
        int tile;
        arithmetic arithmetic;
    } WAYS[] = {{UPSCALE_MAX_TILE, FAST},
                {UPSCALE_TILE, FAST},
                {256, FAST},
                {UPSCALE_MIN_TILE, FAST},
                {UPSCALE_MIN_TILE, LEAN}};
    int most = how->tile ? how->tile : UPSCALE_TILE;
    size_t takes = 0;
    how->ws = &ctx->ws;
    how->log = &ctx->log;
    for (size_t i = 0; i < sizeof WAYS / sizeof *WAYS; i++) {
        if (!(how->be = api_backend(ctx, WAYS[i].arithmetic, err))) return err->code;
        how->tile = least(WAYS[i].tile, most);
        if (!limit && !bytes) break;
        TRY(upscaler_memory(u, how, w, h, &takes, err));
        if (!limit || takes + PROCESS_BYTES <= limit) break;
    }
    if (bytes) *bytes = takes;
    return OK;
}
