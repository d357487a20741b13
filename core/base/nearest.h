// Names that are nearly another.
#pragma once
#include <stddef.h>

// The first of those of n names that are fewest slips of the finger (a letter more, less, changed, or two
// swapped) from `name`, or NULL where all need more than a third of its letters and one.
const char *nearest_name(const char *name, const char *const *names, size_t n);
