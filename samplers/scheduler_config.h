// Reads a model's scheduler_config.json (diffusers).
#pragma once
#include "samplers/schedule.h"

#include <jansson.h>

// Absent fields take the defaults of the file's `_class_name` (DDIMScheduler when it has none). ERR_DATA
// names a field that is malformed or asks for what we do not have. Fields that only choose or tune a sampler
// are not read, because the sampler is the user's choice; nor is `clip_sample`, which means pixels and which
// pipelines for latents switch off.
status scheduler_config_read(schedule_config *config, const json_t *file, error *err);
