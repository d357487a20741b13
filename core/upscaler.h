// Pictures enlarged by a network, in tiles, so that the memory does not grow with the picture.
//
// A tile sees UPSCALE_HALO pixels beyond its part of the picture. Where two parts meet, the tiles fade into
// each other over 2·UPSCALE_FEATHER pixels. A network whose receptive field ends within the halo less the
// feather gives what it would give in one piece; of the others docs/models.md tells what was measured.
#pragma once
#include "core/base/log.h"
#include "core/files/image.h"
#include "core/graph/plan.h"

enum {
    UPSCALE_TILE = 384,
    UPSCALE_MIN_TILE = 128,
    UPSCALE_MAX_TILE = 4096,
    UPSCALE_HALO = 24,
    UPSCALE_FEATHER = 8
};

typedef struct upscaler upscaler;

// An upscaler's file, checked: ERR_DATA lists tensors that are missing or have another shape. NULL on
// failure.
upscaler *upscaler_open(const char *path, error *err);
void upscaler_free(upscaler *u); // NULL is fine

// Frees its packed weights, its plan, and `ws`, which nothing else may be using; they are made again where
// they are needed.
void upscaler_forget(upscaler *u, workspace *ws);

int upscaler_scale(const upscaler *u);
const char *upscaler_name(const upscaler *u); // of the file, without its extension

typedef struct {
    const backend *be; // the same in all calls, as
    workspace *ws;     // this
    dtype compute;     // tried first; f32 where its result is not all numbers
    int tile;          // pixels of the given picture on the sides of a tile at most; 0: UPSCALE_TILE
    const log_sink *log;
    // After each tile; not OK ends the work. May be NULL.
    status (*progress)(void *user, int done, int tiles, error *err);
    void *user;
} upscaling;

// Bytes that enlarging a picture of w × h pixels takes at the peak, with its result and all weights, without
// reading these.
status upscaler_memory(upscaler *u, const upscaling *how, int w, int h, size_t *bytes, error *err);

// im: RGB. larger: RGB, upscaler_scale(u) as large on each side; image_free. ERR_DATA if it would be larger
// than pictures may be, or is not made of numbers.
status upscaler_run(upscaler *u, const upscaling *how, const image *im, image *larger, error *err);
