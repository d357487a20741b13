// libFuzzer: a safetensors file of any content. What opens must be readable to its last value.
#include "core/base/mem.h"
#include "core/files/safetensors.h"
#include "tests/fuzz/file.h"

#include <stdlib.h>

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
    error err = {0};
    const char *path = fuzz_file(data, n);
    safetensors *st = path ? safetensors_open(path, &err) : NULL;
    if (st)
        read_all(st);
    else if (path && (!err.code || !*err.text))
        abort();
    safetensors_close(st);
    return 0;
}
