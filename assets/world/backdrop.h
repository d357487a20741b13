// The eleven backgrounds in their lights. Plain black and white are exactly 0 and 1 everywhere.
#pragma once
#include "assets/world/brush.h"

void backdrop_draw(const brush *b, const scene *s);
