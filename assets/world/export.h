// Scenes as JSON and pictures as PNG files.
#pragma once
#include "assets/world/scene.h"
#include "core/base/status.h"

#include <jansson.h>
#include <stdint.h>

// A new reference, NULL when memory is short.
json_t *scene_json(const scene *s);
// channels: 3 for RGB, 1 for gray.
status png_save(const char *path, int H, int W, int channels, const uint8_t *pixels, error *err);
