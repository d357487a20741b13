// libFuzzer: a file of torch.save. What opens must be readable to its last value. Data that is no zip archive
// is taken for the pickle of one, put between storages with the right checksum; the mutator makes such of
// archives.
#include "core/base/mem.h"
#include "core/files/tensor_file.h"
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum { MAX = 1 << 17 };

size_t LLVMFuzzerMutate(uint8_t *data, size_t n, size_t max);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t n, size_t max, unsigned seed);

static bool is_archive(const uint8_t *data, size_t n) { return n > 21 && !memcmp(data, "PK", 2); }

static void put(uint8_t **to, uint32_t value, int bytes) {
    for (; bytes--; value >>= 8) *(*to)++ = (uint8_t)value;
}

// What the headers in front of an entry and in the directory share.
static void put_fields(uint8_t **to, const char *name, const uint8_t *data, size_t n) {
    put(to, 20, 4); // version, flags
    put(to, 0, 2);  // stored
    put(to, 0, 4);
    put(to, (uint32_t)crc32(0, data, (uInt)n), 4);
    put(to, (uint32_t)n, 4);
    put(to, (uint32_t)n, 4);
    put(to, (uint32_t)strlen(name), 4); // and no extra field
}

static size_t archive_of(const uint8_t *pickle, size_t n, uint8_t *file) {
    const struct {
        const char *name;
        const void *data;
        size_t n;
    } entries[] = {{"m/data.pkl", pickle, n},
                   {"m/data/0", "0123456789abcdef", 16},
                   {"m/data/1", "01234567", 8},
                   {"m/data/2", "", 0},
                   {"m/version", "3\n", 2}};
    enum { N = sizeof entries / sizeof *entries };
    uint32_t offset[N];
    uint8_t *to = file, *directory;
    for (int i = 0; i < N; i++) {
        offset[i] = (uint32_t)(to - file);
        put(&to, 0x04034b50, 4);
        put_fields(&to, entries[i].name, entries[i].data, entries[i].n);
        to = (uint8_t *)stpcpy((char *)to, entries[i].name);
        memcpy(to, entries[i].data, entries[i].n);
        to += entries[i].n;
    }
    directory = to;
    for (int i = 0; i < N; i++) {
        put(&to, 0x02014b50, 4);
        put(&to, 20, 2);
        put_fields(&to, entries[i].name, entries[i].data, entries[i].n);
        put(&to, 0, 4);
        put(&to, 0, 4);
        put(&to, 0, 2);
        put(&to, offset[i], 4);
        to = (uint8_t *)stpcpy((char *)to, entries[i].name);
    }
    uint32_t length = (uint32_t)(to - directory);
    put(&to, 0x06054b50, 4);
    put(&to, 0, 4);
    put(&to, N, 2);
    put(&to, N, 2);
    put(&to, length, 4);
    put(&to, (uint32_t)(directory - file), 4);
    put(&to, 0, 2);
    return (size_t)(to - file);
}

static void need(bool good) {
    if (!good && !fuzz_failed()) abort();
}

static void read_all(const tensor_file *f) {
    for (size_t i = 0; i < tensor_file_count(f); i++) {
        const tensor_entry *t = tensor_file_at(f, i);
        error err;
        float *v = mem_alloc(t->count * sizeof *v);
        double *w = mem_alloc(t->count * sizeof *w);
        if (tensor_file_find(f, t->name) != t) abort();
        if (v && tensor_file_read_f32(f, t, 0, t->count, v, &err) && !t->scale) need(false);
        if (w && tensor_file_read_f64(f, t, t->count / 2, t->count - t->count / 2, w, &err) && !t->scale)
            need(false);
        mem_free(v);
        mem_free(w);
    }
}

void fuzz_start(void) {}

void fuzz_input(const uint8_t *data, size_t n) {
    static uint8_t file[MAX + 1000];
    error err = {0};
    bool bare = !is_archive(data, n);
    size_t m = bare && n <= MAX ? archive_of(data, n, file) : n;
    const char *path = fuzz_file(bare && n <= MAX ? file : data, m);
    tensor_file *f = path ? tensor_file_open(path, &err) : NULL;
    if (f)
        read_all(f);
    else if (path && (!err.code || !*err.text))
        abort();
    tensor_file_close(f);
}

// Every other mutation of an archive leaves only its first entry, the pickle.
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t n, size_t max, unsigned seed) {
    if (is_archive(data, n) && n > 30 && seed % 2) {
        size_t name = data[26] + 256u * data[27], extra = data[28] + 256u * data[29],
               from = 30 + name + extra;
        size_t size = data[22] + 256u * data[23];
        if (from < n) {
            size = size && size < n - from ? size : n - from;
            memmove(data, data + from, n = size);
        }
    }
    return LLVMFuzzerMutate(data, n, max);
}
