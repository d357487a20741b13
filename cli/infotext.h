// What A1111 writes into its pictures: the prompt, "Negative prompt: ...", and a line of "key: value, ".
#pragma once
#include <jansson.h>

// The same as options under their names, with "format": 1, "model", "vae", "init_image" and "mask_image" as
// in what calotype writes of itself ("vae_sha256" has fewer digits). What has no option is left out; "notes"
// lists what of that changes the picture. NULL where no line begins with "Steps: ", or when memory is short.
json_t *infotext_read(const char *text);
