// libFuzzer: a safetensors file of any content. What opens must be readable to its last value.
#include "core/base/mem.h"
#include "core/files/tensor_file.h"
#include "tests/fuzz/file.h"

#include <stdlib.h>

static void read_all(const tensor_file *st) {
    for (size_t i = 0; i < tensor_file_count(st); i++) {
        const tensor_entry *t = tensor_file_at(st, i);
        error err;
        float *f = mem_alloc(t->bytes * 8); // at most 8 floats from a byte of any type
        if (tensor_file_find(st, t->name) != t) abort();
        if (f && t->type >= 0 && tensor_file_read_f32(st, t, 0, t->count, f, &err) && !t->scale) abort();
        mem_free(f);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    error err = {0};
    const char *path = fuzz_file(data, n);
    tensor_file *st = path ? tensor_file_open(path, &err) : NULL;
    if (st)
        read_all(st);
    else if (path && (!err.code || !*err.text))
        abort();
    tensor_file_close(st);
    return 0;
}
