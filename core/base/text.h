// Small questions about texts.
#pragma once
#include <stdbool.h>

bool text_is_utf8(const char *text);
