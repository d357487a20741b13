#include "core/files/safetensors.h"
#include "core/base/arena.h"
#include "core/base/fs.h"
#include "core/base/json.h"
#include "core/base/mem.h"

#include <endian.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct safetensors {
    int fd;
    uint64_t file_size, data_at; // data_at: where the data part begins
    char *path;
    safetensors_tensor *tensors; // by offset
    const safetensors_tensor **by_name;
    size_t n;
    safetensors_pair *metadata; // by key
    size_t n_metadata;
    arena strings;
};

// ---------------------------------------------------------------- header

static status short_of_memory(error *err, const char *path) {
    return fail(err, ERR_TEMP, "%s: out of memory", path);
}

// A reader that stops at the first wrong key; the values are checked by their users.
static status only_keys(const safetensors *st, const char *name, const json_t *info, error *err) {
    static const char *const known[] = {"dtype", "shape", "data_offsets", NULL};
    js_reader r = {info, st->path, err, OK};
    return js_only(&r, known) ? fail_in(err, "tensor '%.200s'", name) : OK;
}

static status parse_shape(const safetensors *st, const json_t *shape, safetensors_tensor *t, error *err) {
    if (!json_is_array(shape) || json_array_size(shape) > SAFETENSORS_MAX_DIMS)
        return fail(err, ERR_DATA, "%s: tensor '%.200s': shape is not a list of at most %d sizes", st->path,
                    t->name, SAFETENSORS_MAX_DIMS);
    t->ndim = (int)json_array_size(shape);
    t->count = 1;
    for (int i = 0; i < t->ndim; i++) {
        const json_t *d = json_array_get(shape, (size_t)i);
        t->shape[i] = json_integer_value(d);
        if (!json_is_integer(d) || t->shape[i] < 0)
            return fail(err, ERR_DATA, "%s: tensor '%.200s': shape holds something that is not a size",
                        st->path, t->name);
        if (__builtin_mul_overflow(t->count, (uint64_t)t->shape[i], &t->count))
            return fail(err, ERR_DATA, "%s: tensor '%.200s': more elements than 64 bits can count", st->path,
                        t->name);
    }
    return OK;
}

static status parse_offsets(const safetensors *st, const json_t *range, safetensors_tensor *t, error *err) {
    const json_t *b = json_array_get(range, 0), *e = json_array_get(range, 1);
    json_int_t begin = json_integer_value(b), end = json_integer_value(e);
    if (!json_is_array(range) || json_array_size(range) != 2 || !json_is_integer(b) || !json_is_integer(e))
        return fail(err, ERR_DATA, "%s: tensor '%.200s': data_offsets are not two integers", st->path,
                    t->name);
    if (begin < 0 || end < begin || (uint64_t)end > st->file_size - st->data_at)
        return fail(err, ERR_DATA, "%s: tensor '%.200s': data_offsets [%lld, %lld] leave the file", st->path,
                    t->name, (long long)begin, (long long)end);
    t->offset = st->data_at + (uint64_t)begin;
    t->bytes = (uint64_t)(end - begin);
    return OK;
}

static status parse_tensor(safetensors *st, const char *name, const json_t *info, safetensors_tensor *t,
                           error *err) {
    t->name = arena_printf(&st->strings, "%s", name);
    if (!t->name) return short_of_memory(err, st->path);
    if (!json_is_object(info))
        return fail(err, ERR_DATA, "%s: tensor '%.200s' is not described by an object", st->path, name);
    status s = only_keys(st, name, info, err);
    if (!s) s = parse_shape(st, json_object_get(info, "shape"), t, err);
    if (!s) s = parse_offsets(st, json_object_get(info, "data_offsets"), t, err);
    if (s) return s;

    const char *type = json_string_value(json_object_get(info, "dtype"));
    if (!type) return fail(err, ERR_DATA, "%s: tensor '%.200s' has no dtype", st->path, name);
    t->type_name = arena_printf(&st->strings, "%s", type);
    if (!t->type_name) return short_of_memory(err, st->path);
    t->type = dtype_from_name(type);
    uint64_t bytes;
    if (t->type >= 0 &&
        (__builtin_mul_overflow(t->count, dtype_size((dtype)t->type), &bytes) || bytes != t->bytes))
        return fail(err, ERR_DATA, "%s: tensor '%.200s': %llu %s values do not fill %llu bytes", st->path,
                    name, (unsigned long long)t->count, type, (unsigned long long)t->bytes);
    return OK;
}

static status parse_metadata(safetensors *st, const json_t *map, error *err) {
    if (!json_is_object(map)) return fail(err, ERR_DATA, "%s: __metadata__ is not an object", st->path);
    st->metadata = mem_calloc(json_object_size(map), sizeof *st->metadata);
    if (!st->metadata) return short_of_memory(err, st->path);
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)map, key, value) {
        if (!json_is_string(value))
            return fail(err, ERR_DATA, "%s: __metadata__ '%.200s' is not a string", st->path, key);
        safetensors_pair *p = &st->metadata[st->n_metadata++];
        p->key = arena_printf(&st->strings, "%s", key);
        p->value = arena_printf(&st->strings, "%s", json_string_value(value));
        if (!p->key || !p->value) return short_of_memory(err, st->path);
    }
    return OK;
}

static int by_offset(const void *a, const void *b) {
    const safetensors_tensor *x = a, *y = b;
    if (x->offset != y->offset) return x->offset < y->offset ? -1 : 1;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? -1 : 1; // empty ones first
    return strcmp(x->name, y->name);
}

static int by_name(const void *a, const void *b) {
    return strcmp((*(const safetensors_tensor *const *)a)->name,
                  (*(const safetensors_tensor *const *)b)->name);
}

static int by_key(const void *a, const void *b) {
    return strcmp(((const safetensors_pair *)a)->key, ((const safetensors_pair *)b)->key);
}

// Tensors must follow each other without hole or overlap and end with the file.
static status check_tiling(const safetensors *st, error *err) {
    uint64_t at = st->data_at;
    for (size_t i = 0; i < st->n; i++) {
        const safetensors_tensor *t = &st->tensors[i];
        if (t->offset != at)
            return fail(err, ERR_DATA, "%s: tensor '%.200s' %s", st->path, t->name,
                        t->offset > at ? "has a hole before it" : "overlaps the one before it");
        at += t->bytes;
    }
    if (at != st->file_size)
        return fail(err, ERR_DATA, "%s: %llu bytes belong to no tensor", st->path,
                    (unsigned long long)(st->file_size - at));
    return OK;
}

static status parse_header(safetensors *st, const json_t *header, error *err) {
    st->tensors = mem_calloc(json_object_size(header), sizeof *st->tensors);
    st->by_name = mem_calloc(json_object_size(header), sizeof *st->by_name);
    if (!st->tensors || !st->by_name) return short_of_memory(err, st->path);
    const char *name;
    json_t *info;
    json_object_foreach((json_t *)header, name, info) {
        status s = strcmp(name, "__metadata__") ? parse_tensor(st, name, info, &st->tensors[st->n++], err)
                                                : parse_metadata(st, info, err);
        if (s) return s;
    }
    qsort(st->tensors, st->n, sizeof *st->tensors, by_offset);
    for (size_t i = 0; i < st->n; i++) st->by_name[i] = &st->tensors[i];
    qsort(st->by_name, st->n, sizeof *st->by_name, by_name);
    if (st->n_metadata) qsort(st->metadata, st->n_metadata, sizeof *st->metadata, by_key);
    return check_tiling(st, err);
}

static status read_header(safetensors *st, error *err) {
    uint64_t length;
    if (st->file_size < 8) return fail(err, ERR_DATA, "%s: too short for a safetensors file", st->path);
    status s = fs_read_at(st->fd, st->path, 0, &length, 8, err);
    if (s) return s;
    length = le64toh(length);
    if (length > SAFETENSORS_MAX_HEADER || length > st->file_size - 8)
        return fail(err, ERR_DATA,
                    "%s: not a safetensors file, or cut short (a header of %llu bytes in %llu)", st->path,
                    (unsigned long long)length, (unsigned long long)st->file_size);
    st->data_at = 8 + length;
    char *text = mem_alloc(length);
    if (!text) return short_of_memory(err, st->path);
    if (!(s = fs_read_at(st->fd, st->path, 8, text, length, err))) {
        json_t *header = NULL;
        if (length == 0 || text[0] != '{')
            s = fail(err, ERR_DATA, "%s: not a safetensors file (the header does not begin with '{')",
                     st->path);
        else if (!(header = js_parse(st->path, text, length, err)))
            s = err->code;
        else
            s = parse_header(st, header, err);
        json_decref(header);
    }
    mem_free(text);
    return s;
}

safetensors *safetensors_open(const char *path, error *err) {
    error unseen;
    if (!err) err = &unseen;
    safetensors *st = mem_calloc(1, sizeof *st);
    if (!st || !(st->path = mem_strdup(path))) {
        short_of_memory(err, path);
        mem_free(st);
        return NULL;
    }
    st->fd = fs_open_read(path, &st->file_size, err);
    if (st->fd >= 0 && !read_header(st, err)) return st;
    safetensors_close(st);
    return NULL;
}

void safetensors_close(safetensors *st) {
    if (!st) return;
    if (st->fd >= 0) close(st->fd);
    mem_free(st->path);
    mem_free(st->tensors);
    mem_free(st->by_name);
    mem_free(st->metadata);
    arena_free(&st->strings);
    mem_free(st);
}

// ---------------------------------------------------------------- access

const char *safetensors_path(const safetensors *st) { return st->path; }
size_t safetensors_count(const safetensors *st) { return st->n; }
const safetensors_tensor *safetensors_at(const safetensors *st, size_t i) { return &st->tensors[i]; }
size_t safetensors_metadata_count(const safetensors *st) { return st->n_metadata; }
safetensors_pair safetensors_metadata_at(const safetensors *st, size_t i) { return st->metadata[i]; }

const safetensors_tensor *safetensors_find(const safetensors *st, const char *name) {
    if (!st->n) return NULL;
    const safetensors_tensor probe = {.name = name}, *key = &probe;
    const safetensors_tensor **hit = bsearch(&key, st->by_name, st->n, sizeof *st->by_name, by_name);
    return hit ? *hit : NULL;
}

const char *safetensors_metadata(const safetensors *st, const char *key) {
    if (!st->n_metadata) return NULL;
    const safetensors_pair probe = {key, NULL};
    const safetensors_pair *hit = bsearch(&probe, st->metadata, st->n_metadata, sizeof probe, by_key);
    return hit ? hit->value : NULL;
}

static status check_range(const safetensors *st, const safetensors_tensor *t, uint64_t first, uint64_t count,
                          error *err) {
    if (t->type < 0)
        return fail(err, ERR_DATA, "%s: tensor '%.200s' has the unknown type '%.50s'", st->path, t->name,
                    t->type_name);
    if (first > t->count || count > t->count - first)
        return fail(err, ERR_INTERNAL, "%s: elements %llu + %llu of tensor '%.200s', which has %llu",
                    st->path, (unsigned long long)first, (unsigned long long)count, t->name,
                    (unsigned long long)t->count);
    return OK;
}

status safetensors_read(const safetensors *st, const safetensors_tensor *t, uint64_t first, uint64_t count,
                        void *dst, error *err) {
    status s = check_range(st, t, first, count, err);
    if (s) return s;
    size_t size = dtype_size((dtype)t->type);
    s = fs_read_at(st->fd, st->path, t->offset + first * size, dst, count * size, err);
    return s ? fail_in(err, "tensor '%.200s'", t->name) : OK;
}

status safetensors_read_f32(const safetensors *st, const safetensors_tensor *t, uint64_t first,
                            uint64_t count, float *dst, error *err) {
    if (t->type == DT_F32) return safetensors_read(st, t, first, count, dst, err);
    status s = check_range(st, t, first, count, err);
    _Alignas(8) unsigned char piece[1 << 16];
    uint64_t most = s ? 1 : sizeof piece / dtype_size((dtype)t->type);
    while (count > 0 && !s) {
        uint64_t n = count < most ? count : most;
        s = safetensors_read(st, t, first, n, piece, err);
        if (!s) dtype_to_f32((dtype)t->type, piece, dst, n);
        first += n;
        dst += n;
        count -= n;
    }
    return s;
}

char *safetensors_shape_text(const int64_t *shape, int ndim, char *buf, size_t size) {
    size_t at = (size_t)snprintf(buf, size, "(");
    for (int i = 0; i < ndim && at < size; i++)
        at += (size_t)snprintf(buf + at, size - at, i ? ", %lld" : "%lld", (long long)shape[i]);
    if (at < size) snprintf(buf + at, size - at, ")");
    return buf;
}

// ---------------------------------------------------------------- writing

// The reference library's order of types, first to last.
static int type_rank(dtype t) {
    static const int RANK[DT_COUNT] = {
        [DT_U64] = 0, [DT_I64] = 1,  [DT_F64] = 2,      [DT_F32] = 3,      [DT_U32] = 4,
        [DT_I32] = 5, [DT_BF16] = 6, [DT_F16] = 7,      [DT_U16] = 8,      [DT_I16] = 9,
        [DT_I8] = 12, [DT_U8] = 13,  [DT_F8_E4M3] = 10, [DT_F8_E5M2] = 11, [DT_BOOL] = 14,
    };
    return RANK[t];
}

static int by_rank(const void *a, const void *b) {
    const safetensors_item *x = *(const safetensors_item *const *)a, *y = *(const safetensors_item *const *)b;
    int r = type_rank(x->type) - type_rank(y->type);
    return r ? r : strcmp(x->name, y->name);
}

static status item_bytes(const safetensors_item *it, uint64_t *bytes, error *err) {
    *bytes = dtype_size(it->type);
    for (int i = 0; i < it->ndim; i++)
        if (it->shape[i] < 0 || __builtin_mul_overflow(*bytes, (uint64_t)it->shape[i], bytes))
            return fail(err, ERR_INTERNAL, "tensor '%.200s' has a shape without a size", it->name);
    return OK;
}

// NULL on failure, with `err` set.
static json_t *build_header(const safetensors_item **order, size_t n, const safetensors_pair *metadata,
                            size_t n_metadata, error *err) {
    json_t *header = json_object(), *map = n_metadata ? json_object() : NULL;
    bool ok = header != NULL;
    for (size_t i = 0; i < n_metadata; i++)
        ok = ok && !json_object_set_new(map, metadata[i].key, json_string(metadata[i].value));
    if (map) ok = !json_object_set_new(header, "__metadata__", map) && ok; // takes map whatever happens
    uint64_t at = 0, bytes;
    for (size_t i = 0; i < n && ok; i++) {
        const safetensors_item *it = order[i];
        if (item_bytes(it, &bytes, err)) goto failed;
        if (json_object_get(header, it->name) || !strcmp(it->name, "__metadata__")) {
            fail(err, ERR_INTERNAL, "tensor name '%.200s' is used twice or reserved", it->name);
            goto failed;
        }
        json_t *shape = json_array();
        for (int d = 0; d < it->ndim; d++)
            ok = ok && !json_array_append_new(shape, json_integer(it->shape[d]));
        json_t *info = json_pack("{s:s, s:o, s:[I, I]}", "dtype", dtype_name(it->type), "shape", shape,
                                 "data_offsets", (json_int_t)at, (json_int_t)(at + bytes));
        ok = !json_object_set_new(header, it->name, info) && ok;
        at += bytes;
    }
    if (ok) return header;
    fail(err, ERR_TEMP, "out of memory, or text that is not UTF-8, in a safetensors header");
failed:
    json_decref(header);
    return NULL;
}

static status put_header(fs_writer *w, json_t *header, error *err) {
    char *text = json_dumps(header, JSON_COMPACT);
    if (!text) return fail(err, ERR_TEMP, "out of memory");
    size_t n = strlen(text);
    uint64_t padded = (n + 7) / 8 * 8, length = htole64(padded);
    status s =
        padded > SAFETENSORS_MAX_HEADER ? fail(err, ERR_DATA, "safetensors header over the limit") : OK;
    if (!s) s = fs_writer_put(w, &length, 8, err);
    if (!s) s = fs_writer_put(w, text, n, err);
    if (!s) s = fs_writer_put(w, "       ", padded - n, err);
    free(text); // jansson's default allocator
    return s;
}

static status put_item(fs_writer *w, const safetensors_item *it, error *err) {
    uint64_t bytes;
    status s = item_bytes(it, &bytes, err);
    if (s || it->data) return s ? s : fs_writer_put(w, it->data, bytes, err);
    unsigned char piece[1 << 16];
    for (uint64_t at = 0; at < bytes && !s;) {
        size_t n = bytes - at < sizeof piece ? bytes - at : sizeof piece;
        s = it->read(it->user, at, piece, n, err);
        if (!s) s = fs_writer_put(w, piece, n, err);
        at += n;
    }
    return s;
}

static status save_ordered(const char *path, const safetensors_item **order, size_t n, json_t *header,
                           bool overwrite, error *err) {
    fs_writer *w = fs_writer_open(path, overwrite, err);
    if (!w) return err->code;
    status s = put_header(w, header, err);
    for (size_t i = 0; i < n && !s; i++) s = put_item(w, order[i], err);
    if (!s) return fs_writer_commit(w, err);
    fs_writer_abort(w);
    return s;
}

status safetensors_save(const char *path, const safetensors_item *items, size_t n,
                        const safetensors_pair *metadata, size_t n_metadata, bool overwrite, error *err) {
    error unseen;
    if (!err) err = &unseen;
    const safetensors_item **order = mem_calloc(n, sizeof *order);
    if (!order) return short_of_memory(err, path);
    for (size_t i = 0; i < n; i++) order[i] = &items[i];
    if (n) qsort(order, n, sizeof *order, by_rank);
    json_t *header = build_header(order, n, metadata, n_metadata, err);
    status s = header ? save_ordered(path, order, n, header, overwrite, err) : fail_in(err, "%s", path);
    json_decref(header);
    mem_free(order);
    return s;
}
