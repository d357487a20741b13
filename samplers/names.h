// Names that people and other programs spell in many ways.
#pragma once
#include <stdbool.h>

enum { MAX_NAME = 64 };

// Lower case without spaces, "_" and "-", up to a comma or the end; "+" as "p". The length, or -1 when it is
// too long.
int name_plain(const char *s, char out[MAX_NAME]);
// Whether a comma separated list (or NULL) has an entry that reads as `plain`.
bool name_listed(const char *names, const char *plain);
