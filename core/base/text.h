// Small questions about texts.
#pragma once
#include <stdbool.h>

bool text_is_utf8(const char *text);
bool text_ends_with(const char *text, const char *end);
