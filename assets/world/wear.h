// What befalls a picture before the recogniser sees it in training: a smaller size, a soft focus, noise, an
// exposure that is a little off. Generated pictures and those that come out of an autoencoder look like that.
#pragma once
#include "assets/world/dice.h"
#include "assets/world/scene.h"
#include "core/base/status.h"

#include <stdint.h>

// The scene drawn at `drawn` pixels and brought to side × side.
status picture_at(const scene *s, int drawn, int side, uint8_t *rgb /* [side,side,3] */, error *err);
// Now and then drawn at half the side, and worn. Values from −1 to 1, cut off outside.
status picture_worn(const scene *s, dice *d, int side, float *out /* [side,side,3] */, error *err);
