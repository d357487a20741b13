// Model files of fuzz targets: the input is a list of tensors, so that large ones cost nothing:
//
//   the file's name
//   NAME SIZE SIZE ...     a tensor of zeros; with ! in front of the name its last value is 1
//   @KEY VALUE             metadata
#pragma once
#include <stddef.h>
#include <stdint.h>

// Writes the listed file into the folder. Its path, valid until the next call; NULL: the list is too long.
const char *listing_write(const char *folder, const uint8_t *data, size_t n);
