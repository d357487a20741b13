// What the files are called that a command makes.
#pragma once
#include <limits.h>

#include "cli/session.h"

// "{seed}" and what stands for it.
typedef struct {
    const char *word, *text;
} output_word;

// Fills in the words of a list that ends with a row without one. A pattern without any of them is numbered
// before its extension where `number` is not 0. false when the path is too long.
bool output_name(const char *pattern, const output_word *words, int number, char path[PATH_MAX]);
// Refuses before the work what would be refused after it: prints why and returns the exit code, or 0.
int output_check(session *s, const char *path, bool force);
