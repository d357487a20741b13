// What InvokeAI, stable-diffusion.cpp and ComfyUI say of their pictures as JSON.
#pragma once
#include <jansson.h>

enum { METADATA_WHY = 160 };
// Of the texts of a picture, by their keywords, the same as infotext_read makes of A1111's; "model" and
// "vae" are names, and "notes" lists what is left out. NULL where there is none that can be repeated, or when
// memory is short: `why` tells of the one that was found, or is "".
json_t *metadata_read(const json_t *texts, char why[METADATA_WHY]);
