// Pictures of scenes, in memory: H × W × 3 bytes or floats, rows from the top. Every call owns its cairo
// surface, so calls may run side by side; memory is the caller's.
#pragma once
#include "assets/world/scene.h"
#include "core/base/status.h"
#include "core/base/threads.h"

#include <stddef.h>
#include <stdint.h>

enum { PICTURE_MAX_SIDE = 4096 };

// ERR_USAGE for a side outside 1 … PICTURE_MAX_SIDE, ERR_TEMP when memory is short.
status picture_rgb8(const scene *s, int H, int W, uint8_t *out /* [H,W,3] */, error *err);
// The same from −1 to 1: byte / 127.5 − 1.
status picture_f32(const scene *s, int H, int W, float *out /* [H,W,3] */, error *err);
// 0 background, 1 the first object, 2 the second; no half-tones. s->objects[label − 1] tells the class.
status picture_mask(const scene *s, int H, int W, uint8_t *mask /* [H,W] */, error *err);
// Contours, white on black, anti-aliased.
status picture_lines(const scene *s, int H, int W, uint8_t *lines /* [H,W] */, error *err);

// B pictures on a team (NULL: in the calling thread).
status pictures_rgb8(team *t, const scene *s /* [B] */, int B, int H, int W, uint8_t *out /* [B,H,W,3] */,
                     error *err);
status pictures_f32(team *t, const scene *s /* [B] */, int B, int H, int W, float *out /* [B,H,W,3] */,
                    error *err);
