// Texts that claim to be UTF-8.
#pragma once
#include <stdbool.h>

bool text_is_utf8(const char *text);
