// The finished model: a folder in the layout of diffusers.
#pragma once
#include "core/base/dtype.h"
#include "core/train/params.h"

#include <jansson.h>

// DIR/COMPONENT: config.json and FILE with the averages of all parameters named "COMPONENT.", under the names
// that follow, in type `t` (DT_F32, DT_F16 or DT_BF16).
status export_component(const params *p, const char *component, const char *file, const json_t *config,
                        dtype t, const char *dir, error *err);

// Copies from one model folder to another what the other does not have: model_index.json and every file of
// every component's folder, except weights of components in the NULL-terminated list `trained`.
status export_rest(const char *from, const char *to, const char *const *trained, error *err);
