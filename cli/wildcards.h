// {a|b} and __name__ in prompts: one of the alternatives, or one line of name.txt in a folder, chosen by the
// job's seed. The same seed gives the same text.
//
// A backslash keeps the next brace or bar as it is. Braces without a bar stay, and so does __name__ where no
// folder was given; alternatives without an end are an error. What is chosen is expanded too.
#pragma once
#include <stddef.h>
#include <stdint.h>

// *out is a new string (free). `dir` NULL: no folder. Returns 0, or an exit code with `message` filled.
int wildcards_expand(const char *text, const char *dir, uint64_t seed, char **out, char *message,
                     size_t size);
