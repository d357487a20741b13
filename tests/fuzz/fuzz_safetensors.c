// libFuzzer: a safetensors file of any content. What opens must be readable to its last value.
#include "core/base/mem.h"
#include "core/files/safetensors.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void read_all(const safetensors *st) {
    for (size_t i = 0; i < safetensors_count(st); i++) {
        const safetensors_tensor *t = safetensors_at(st, i);
        error err;
        float *f = mem_alloc(t->bytes * 8); // at most 8 floats from a byte of any type
        if (safetensors_find(st, t->name) != t) abort();
        if (f && t->type >= 0 && safetensors_read_f32(st, t, 0, t->count, f, &err)) abort();
        mem_free(f);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    static int fd = -1;
    char path[40];
    error err = {0};
    if (fd < 0) fd = memfd_create("fuzz", 0);
    if (ftruncate(fd, 0) || pwrite(fd, data, n, 0) != (ssize_t)n) return 0;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    safetensors *st = safetensors_open(path, &err);
    if (st)
        read_all(st);
    else if (!err.code || !*err.text)
        abort();
    safetensors_close(st);
    return 0;
}
