#include "core/files/tensor_file.h"

#include "core/base/fs.h"
#include "core/base/mem.h"
#include "core/files/quantised.h"
#include "core/files/tensor_formats.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// ---------------------------------------------------------------- opening

static int by_offset(const void *a, const void *b) {
    const tensor_entry *x = a, *y = b;
    if (x->offset != y->offset) return x->offset < y->offset ? -1 : 1;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? -1 : 1; // empty ones first
    return strcmp(x->name, y->name);
}

static int by_name(const void *a, const void *b) {
    return strcmp((*(const tensor_entry *const *)a)->name, (*(const tensor_entry *const *)b)->name);
}

static int by_key(const void *a, const void *b) {
    return strcmp(((const metadata_pair *)a)->key, ((const metadata_pair *)b)->key);
}

// Where "X.weight" holds 8-bit floats, "X.scale_weight" or "X.weight_scale" says what they are to be
// multiplied by: "scaled fp8".
static const tensor_entry *scale_of(const tensor_file *f, const tensor_entry *t) {
    static const char *const ENDINGS[] = {".scale_weight", ".weight_scale"};
    const char *end = strrchr(t->name, '.');
    char name[1024];
    const tensor_entry *scale = NULL;
    if ((t->type != DT_F8_E4M3 && t->type != DT_F8_E5M2) || !end || strcmp(end, ".weight")) return NULL;
    for (size_t i = 0; i < sizeof ENDINGS / sizeof *ENDINGS && !scale; i++) {
        snprintf(name, sizeof name, "%.*s%s", (int)(end - t->name), t->name, ENDINGS[i]);
        scale = tensor_file_find(f, name);
    }
    return scale;
}

status tensor_file_sort(tensor_file *f, error *err) {
    if (!(f->by_name = mem_calloc(f->n, sizeof *f->by_name)))
        return fail(err, ERR_TEMP, "%s: out of memory", f->path);
    if (f->n) qsort(f->tensors, f->n, sizeof *f->tensors, by_offset);
    for (size_t i = 0; i < f->n; i++) f->by_name[i] = &f->tensors[i];
    if (f->n) qsort(f->by_name, f->n, sizeof *f->by_name, by_name);
    for (size_t i = 0; i < f->n; i++) f->tensors[i].scale = scale_of(f, &f->tensors[i]);
    if (f->n_metadata) qsort(f->metadata, f->n_metadata, sizeof *f->metadata, by_key);
    return quantised_link(f, err);
}

status tensor_entry_count(const tensor_file *f, tensor_entry *t, error *err) {
    t->count = 1;
    for (int i = 0; i < t->ndim; i++) {
        if (t->shape[i] < 0)
            return fail(err, ERR_DATA, "%s: tensor '%.200s': a negative size", f->path, t->name);
        if (__builtin_mul_overflow(t->count, (uint64_t)t->shape[i], &t->count))
            return fail(err, ERR_DATA, "%s: tensor '%.200s': more elements than 64 bits can count", f->path,
                        t->name);
    }
    return OK;
}

// Files that are met under the name of weights. `at`: where the mark stands.
static const struct {
    const char *mark;
    size_t length, at;
    const char *what;
} FOREIGN[] = {
    {"\x80\x02\x8a\x0al\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.", 15, 0,
     "a torch file of the format before 1.6, a bare pickle; load it with torch and save it again, or take "
     "the safetensors file"},
    {"\x80", 1, 0, "a bare pickle, not weights that torch.save wrote"},
    {"ustar", 5, 257,
     "a tar archive; as weights, torch's oldest format: load it with torch and save it again"},
    {"7z\xbc\xaf\x27\x1c", 6, 0, "a 7z archive; unpack it first"},
    {"Rar!\x1a\x07", 6, 0, "a rar archive; unpack it first"},
    {"\x1f\x8b", 2, 0, "compressed by gzip; unpack it first"},
    {"\x28\xb5\x2f\xfd", 4, 0, "compressed by zstd; unpack it first"},
    {"\xfd"
     "7zXZ",
     5, 0, "compressed by xz; unpack it first"},
    {"GGUF", 4, 0, "a GGUF file, which calotype does not read"},
    {"\x89HDF", 4, 0, "an HDF5 file, which calotype does not read"},
    {"\x93NUMPY", 6, 0, "a numpy file, which calotype does not read"},
    {"version https://git-lfs", 23, 0, "a note of Git LFS, not the file itself; git lfs pull fetches it"},
    {"<!", 2, 0, "a web page; the download went wrong, or asked for a login"},
    {"<htm", 4, 0, "a web page; the download went wrong, or asked for a login"},
};

// The first bytes decide. A safetensors file may begin with any mark of FOREIGN but a long one: the length of
// its header, and then '{'.
static status read_directory(tensor_file *f, error *err) {
    char head[262] = "";
    TRY(fs_read_at(f->fd, f->path, 0, head, f->file_size < sizeof head ? f->file_size : sizeof head, err));
    if (!memcmp(head, "PK\3\4", 4) || !memcmp(head, "PK\5\6", 4)) return ckpt_read_directory(f, err);
    for (size_t i = 0; i < sizeof FOREIGN / sizeof *FOREIGN && head[8] != '{'; i++)
        if (!memcmp(head + FOREIGN[i].at, FOREIGN[i].mark, FOREIGN[i].length))
            return fail(err, ERR_DATA, "%s: %s", f->path, FOREIGN[i].what);
    return safetensors_read_header(f, err);
}

tensor_file *tensor_file_open(const char *path, error *err) {
    error unseen;
    if (!err) err = &unseen;
    tensor_file *f = mem_calloc(1, sizeof *f);
    if (!f || !(f->path = mem_strdup(path))) {
        fail(err, ERR_TEMP, "%s: out of memory", path);
        mem_free(f);
        return NULL;
    }
    f->fd = fs_open_read(path, &f->file_size, err);
    if (f->fd >= 0 && !fs_written(f->fd, path, &f->written, err) && !read_directory(f, err)) return f;
    tensor_file_close(f);
    return NULL;
}

bool tensor_file_is_named(const char *path) {
    static const char *const ENDINGS[] = {"safetensors", "ckpt", "pt", "pth", "bin"};
    for (size_t i = 0; i < sizeof ENDINGS / sizeof *ENDINGS; i++)
        if (!strcmp(fs_extension(path), ENDINGS[i])) return true;
    return false;
}

void tensor_file_close(tensor_file *f) {
    if (!f) return;
    if (f->fd >= 0) close(f->fd);
    mem_free(f->path);
    mem_free(f->tensors);
    mem_free(f->by_name);
    mem_free(f->metadata);
    arena_free(&f->strings);
    mem_free(f);
}

// ---------------------------------------------------------------- access

const char *tensor_file_path(const tensor_file *f) { return f->path; }
size_t tensor_file_count(const tensor_file *f) { return f->n; }
const tensor_entry *tensor_file_at(const tensor_file *f, size_t i) { return &f->tensors[i]; }
size_t tensor_file_metadata_count(const tensor_file *f) { return f->n_metadata; }
metadata_pair tensor_file_metadata_at(const tensor_file *f, size_t i) { return f->metadata[i]; }

const tensor_entry *tensor_file_find(const tensor_file *f, const char *name) {
    if (!f->n) return NULL;
    const tensor_entry probe = {.name = name}, *key = &probe;
    const tensor_entry **hit = bsearch(&key, f->by_name, f->n, sizeof *f->by_name, by_name);
    return hit ? *hit : NULL;
}

const char *tensor_file_metadata(const tensor_file *f, const char *key) {
    if (!f->n_metadata) return NULL;
    const metadata_pair probe = {key, NULL};
    const metadata_pair *hit = bsearch(&probe, f->metadata, f->n_metadata, sizeof probe, by_key);
    return hit ? hit->value : NULL;
}

static status check_range(const tensor_file *f, const tensor_entry *t, uint64_t have, uint64_t first,
                          uint64_t count, error *err) {
    if (t->type < 0)
        return fail(err, ERR_DATA, "%s: tensor '%.200s' has the unknown type '%.50s'", f->path, t->name,
                    t->type_name);
    if (first > have || count > have - first)
        return fail(err, ERR_INTERNAL, "%s: elements %llu + %llu of tensor '%.200s', which has %llu", f->path,
                    (unsigned long long)first, (unsigned long long)count, t->name, (unsigned long long)have);
    return OK;
}

// Where element i lies, in elements from the tensor's beginning.
static uint64_t place_of(const tensor_entry *t, uint64_t i) {
    uint64_t at = 0;
    for (int d = t->ndim - 1; d >= 0; d--) {
        at += i % (uint64_t)t->shape[d] * (uint64_t)t->stride[d];
        i /= (uint64_t)t->shape[d];
    }
    return at;
}

// Between which places these elements lie, both included.
static void span_of(const tensor_entry *t, uint64_t first, uint64_t count, uint64_t *low, uint64_t *high) {
    *low = UINT64_MAX;
    *high = 0;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t at = place_of(t, first + i);
        if (at < *low) *low = at;
        if (at > *high) *high = at;
    }
}

// Reads all between the first and the last of these elements, and picks them out of it.
static status read_strided(const tensor_file *f, const tensor_entry *t, uint64_t first, uint64_t count,
                           char *dst, error *err) {
    size_t size = dtype_size((dtype)t->type);
    uint64_t low, high;
    if (!count) return OK;
    span_of(t, first, count, &low, &high);
    char *all = mem_alloc((high - low + 1) * size);
    if (!all) return fail(err, ERR_TEMP, "%s: out of memory", f->path);
    status s = fs_read_at(f->fd, f->path, t->offset + low * size, all, (high - low + 1) * size, err);
    for (uint64_t i = 0; i < count && !s; i++)
        memcpy(dst + i * size, all + (place_of(t, first + i) - low) * size, size);
    mem_free(all);
    return s;
}

// Weights may be read again and again while a picture is drawn: all of them from the same file.
static status check_unchanged(const tensor_file *f, error *err) {
    int64_t written;
    TRY(fs_written(f->fd, f->path, &written, err));
    if (written == f->written) return OK;
    return fail(err, ERR_DATA, "%s: the file was changed while it is in use", f->path);
}

status tensor_file_read(const tensor_file *f, const tensor_entry *t, uint64_t first, uint64_t count,
                        void *dst, error *err) {
    status s = check_range(f, t, t->codes ? t->bytes : t->count, first, count, err);
    if (s) return s;
    size_t size = dtype_size((dtype)t->type);
    s = t->strided ? read_strided(f, t, first, count, dst, err)
                   : fs_read_at(f->fd, f->path, t->offset + first * size, dst, count * size, err);
    if (!s) s = check_unchanged(f, err);
    return s ? fail_in(err, "tensor '%.200s'", t->name) : OK;
}

void tensor_file_expect(const tensor_file *f, const tensor_entry *t) {
    posix_fadvise(f->fd, (off_t)t->offset, (off_t)t->bytes, POSIX_FADV_WILLNEED); // advice may be ignored
}

// Values as float or as double; one of them is NULL.
typedef struct {
    float *f32;
    double *f64;
} numbers;

static void convert(dtype t, const void *src, numbers dst, uint64_t at, uint64_t n) {
    if (dst.f32)
        dtype_to_f32(t, src, dst.f32 + at, n);
    else
        dtype_to_f64(t, src, dst.f64 + at, n);
}

// A strided tensor is read in one piece, as pieces may lie across each other.
static status read_numbers(const tensor_file *f, const tensor_entry *t, uint64_t first, uint64_t count,
                           numbers dst, error *err) {
    TRY(check_range(f, t, t->count, first, count, err));
    _Alignas(8) unsigned char piece[1 << 16];
    size_t size = dtype_size((dtype)t->type);
    uint64_t most = t->strided ? count : sizeof piece / size;
    void *all = t->strided ? mem_alloc(count * size) : NULL;
    status s = t->strided && !all ? fail(err, ERR_TEMP, "%s: out of memory", f->path) : OK;
    for (uint64_t at = 0; at < count && !s; at += most) {
        uint64_t n = count - at < most ? count - at : most;
        s = tensor_file_read(f, t, first + at, n, all ? all : piece, err);
        if (!s) convert((dtype)t->type, all ? all : piece, dst, at, n);
    }
    mem_free(all);
    return s;
}

static status read_scale(const tensor_file *f, const tensor_entry *t, double *scale, error *err) {
    const tensor_entry *by = t->scale;
    *scale = 1;
    if (!by) return OK;
    if (by->count != 1)
        return fail(err, ERR_DATA, "%s: tensor '%.200s' is scaled fp8 with %llu scales; one is supported",
                    f->path, t->name, (unsigned long long)by->count);
    return read_numbers(f, by, 0, 1, (numbers){.f64 = scale}, err);
}

static status read_codes(const tensor_file *f, const tensor_entry *t, uint64_t first, uint64_t count,
                         float *dst, error *err) {
    const tensor_entry *all = t->codes->stored;
    uint64_t low, high;
    TRY(check_range(f, t, t->count, first, count, err));
    if (!t->strided || !count) return quantised_read(f, all, t->first_code + first, count, dst, err);
    span_of(t, first, count, &low, &high);
    float *values = mem_calloc(high - low + 1, sizeof *values);
    status s = values ? quantised_read(f, all, t->first_code + low, high - low + 1, values, err)
                      : fail(err, ERR_TEMP, "%s: out of memory", f->path);
    for (uint64_t i = 0; i < count && !s; i++) dst[i] = values[place_of(t, first + i) - low];
    mem_free(values);
    return s;
}

static status read_codes_f64(const tensor_file *f, const tensor_entry *t, uint64_t first, uint64_t count,
                             double *dst, error *err) {
    float piece[2048];
    uint64_t most = sizeof piece / sizeof *piece;
    for (uint64_t at = 0; at < count; at += most) {
        uint64_t n = count - at < most ? count - at : most;
        TRY(read_codes(f, t, first + at, n, piece, err));
        for (uint64_t i = 0; i < n; i++) dst[at + i] = piece[i];
    }
    return OK;
}

status tensor_file_read_f32(const tensor_file *f, const tensor_entry *t, uint64_t first, uint64_t count,
                            float *dst, error *err) {
    double scale;
    if (t->type == DT_F32) return tensor_file_read(f, t, first, count, dst, err);
    if (t->codes) return read_codes(f, t, first, count, dst, err);
    TRY(read_scale(f, t, &scale, err));
    TRY(read_numbers(f, t, first, count, (numbers){.f32 = dst}, err));
    for (uint64_t i = 0; i < count && t->scale; i++) dst[i] = (float)(dst[i] * scale);
    return OK;
}

status tensor_file_read_f64(const tensor_file *f, const tensor_entry *t, uint64_t first, uint64_t count,
                            double *dst, error *err) {
    double scale;
    if (t->codes) return read_codes_f64(f, t, first, count, dst, err);
    TRY(read_scale(f, t, &scale, err));
    TRY(read_numbers(f, t, first, count, (numbers){.f64 = dst}, err));
    for (uint64_t i = 0; i < count && t->scale; i++) dst[i] *= scale;
    return OK;
}

char *tensor_shape_text(const int64_t *shape, int ndim, char *buf, size_t size) {
    size_t at = (size_t)snprintf(buf, size, "(");
    for (int i = 0; i < ndim && at < size; i++)
        at += (size_t)snprintf(buf + at, size - at, i ? ", %lld" : "%lld", (long long)shape[i]);
    if (at < size) snprintf(buf + at, size - at, ")");
    return buf;
}
