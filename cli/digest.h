// SHA-256, as the command line shows and uses it.
#pragma once
#include <stdint.h>

typedef struct {
    char hex[65];
    uint64_t number; // its first eight bytes
} digest;

digest digest_text(const char *text);
// Of the bytes that follow in a file. Returns 0 or an errno.
int digest_file(int fd, digest *d);
