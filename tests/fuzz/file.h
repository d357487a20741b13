// What targets share that parse a file by its path: the data under the name of a file in memory.
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

// NULL when the data cannot be stored. Valid until the next call.
static inline const char *fuzz_file(const uint8_t *data, size_t n) {
    static int fd = -1;
    static char path[40];
    if (fd < 0) fd = memfd_create("fuzz", 0);
    if (ftruncate(fd, 0) || pwrite(fd, data, n, 0) != (ssize_t)n) return NULL;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return path;
}
