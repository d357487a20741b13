// What befalls a picture before the recogniser sees it in training: a smaller size, a soft focus, noise, an
// exposure that is a little off. Generated pictures and those that come out of an autoencoder look like that.
#pragma once
#include "assets/world/dice.h"
#include "core/base/status.h"

#include <stdint.h>

// The side at which the next picture is drawn: `side`, now and then the half of it.
int wear_side(dice *d, int side);
// A picture of `drawn` pixels as it arrives: brought to side × side, worn. Values from −1 to 1, cut off
// outside.
status picture_wear(const uint8_t *rgb /* [drawn,drawn,3] */, int drawn, dice *d, int side,
                    float *out /* [side,side,3] */, error *err);
