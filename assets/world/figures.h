// The ten figures. Each is drawn around the origin inside [−1, 1]², lit from the upper left.
#pragma once
#include "assets/world/brush.h"

void figure_draw(const brush *b, const scene_object *o);
