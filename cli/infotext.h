// What A1111 writes into its pictures: the prompt, "Negative prompt: ...", and a line of "key: value, ".
#pragma once
#include <jansson.h>

// The same as options under their names, with "format": 1, "model" and "init_image" as in what calotype
// writes of itself. What has no option is left out. NULL where no line begins with "Steps: ", or when memory
// is short.
json_t *infotext_read(const char *text);
