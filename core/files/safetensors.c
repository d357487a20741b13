#include "core/files/safetensors.h"
#include "core/base/fs.h"
#include "core/base/json.h"
#include "core/base/mem.h"
#include "core/files/tensor_formats.h"

#include <endian.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// ---------------------------------------------------------------- header

static status short_of_memory(error *err, const char *path) {
    return fail(err, ERR_TEMP, "%s: out of memory", path);
}

// A reader that stops at the first wrong key; the values are checked by their users.
static status only_keys(const tensor_file *f, const char *name, const json_t *info, error *err) {
    static const char *const known[] = {"dtype", "shape", "data_offsets", NULL};
    js_reader r = {info, f->path, err, OK};
    return js_only(&r, known) ? fail_in(err, "tensor '%.200s'", name) : OK;
}

static status parse_shape(const tensor_file *f, const json_t *shape, tensor_entry *t, error *err) {
    if (!json_is_array(shape) || json_array_size(shape) > TENSOR_MAX_DIMS)
        return fail(err, ERR_DATA, "%s: tensor '%.200s': shape is not a list of at most %d sizes", f->path,
                    t->name, TENSOR_MAX_DIMS);
    t->ndim = (int)json_array_size(shape);
    for (int i = 0; i < t->ndim; i++) {
        const json_t *d = json_array_get(shape, (size_t)i);
        t->shape[i] = json_integer_value(d);
        if (!json_is_integer(d))
            return fail(err, ERR_DATA, "%s: tensor '%.200s': shape holds something that is not a size",
                        f->path, t->name);
    }
    return tensor_entry_count(f, t, err);
}

static status parse_offsets(const tensor_file *f, const json_t *range, tensor_entry *t, error *err) {
    const json_t *b = json_array_get(range, 0), *e = json_array_get(range, 1);
    json_int_t begin = json_integer_value(b), end = json_integer_value(e);
    if (!json_is_array(range) || json_array_size(range) != 2 || !json_is_integer(b) || !json_is_integer(e))
        return fail(err, ERR_DATA, "%s: tensor '%.200s': data_offsets are not two integers", f->path,
                    t->name);
    if (begin < 0 || end < begin || (uint64_t)end > f->file_size - f->data_at)
        return fail(err, ERR_DATA, "%s: tensor '%.200s': data_offsets [%lld, %lld] leave the file", f->path,
                    t->name, (long long)begin, (long long)end);
    t->offset = f->data_at + (uint64_t)begin;
    t->bytes = (uint64_t)(end - begin);
    return OK;
}

static status parse_tensor(tensor_file *f, const char *name, const json_t *info, tensor_entry *t,
                           error *err) {
    t->name = arena_printf(&f->strings, "%s", name);
    if (!t->name) return short_of_memory(err, f->path);
    if (!json_is_object(info))
        return fail(err, ERR_DATA, "%s: tensor '%.200s' is not described by an object", f->path, name);
    status s = only_keys(f, name, info, err);
    if (!s) s = parse_shape(f, json_object_get(info, "shape"), t, err);
    if (!s) s = parse_offsets(f, json_object_get(info, "data_offsets"), t, err);
    if (s) return s;

    const char *type = json_string_value(json_object_get(info, "dtype"));
    if (!type) return fail(err, ERR_DATA, "%s: tensor '%.200s' has no dtype", f->path, name);
    t->type_name = arena_printf(&f->strings, "%s", type);
    if (!t->type_name) return short_of_memory(err, f->path);
    t->type = dtype_from_name(type);
    uint64_t bytes;
    if (t->type >= 0 &&
        (__builtin_mul_overflow(t->count, dtype_size((dtype)t->type), &bytes) || bytes != t->bytes))
        return fail(err, ERR_DATA, "%s: tensor '%.200s': %llu %s values do not fill %llu bytes", f->path,
                    name, (unsigned long long)t->count, type, (unsigned long long)t->bytes);
    return OK;
}

static status parse_metadata(tensor_file *f, const json_t *map, error *err) {
    if (!json_is_object(map)) return fail(err, ERR_DATA, "%s: __metadata__ is not an object", f->path);
    f->metadata = mem_calloc(json_object_size(map), sizeof *f->metadata);
    if (!f->metadata) return short_of_memory(err, f->path);
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)map, key, value) {
        if (!json_is_string(value))
            return fail(err, ERR_DATA, "%s: __metadata__ '%.200s' is not a string", f->path, key);
        metadata_pair *p = &f->metadata[f->n_metadata++];
        p->key = arena_printf(&f->strings, "%s", key);
        p->value = arena_printf(&f->strings, "%s", json_string_value(value));
        if (!p->key || !p->value) return short_of_memory(err, f->path);
    }
    return OK;
}

// Tensors must follow each other without hole or overlap and end with the file.
static status check_tiling(const tensor_file *f, error *err) {
    uint64_t at = f->data_at;
    for (size_t i = 0; i < f->n; i++) {
        const tensor_entry *t = &f->tensors[i];
        if (t->offset != at)
            return fail(err, ERR_DATA, "%s: tensor '%.200s' %s", f->path, t->name,
                        t->offset > at ? "has a hole before it" : "overlaps the one before it");
        at += t->bytes;
    }
    if (at != f->file_size)
        return fail(err, ERR_DATA, "%s: %llu bytes belong to no tensor", f->path,
                    (unsigned long long)(f->file_size - at));
    return OK;
}

static status parse_header(tensor_file *f, const json_t *header, error *err) {
    f->tensors = mem_calloc(json_object_size(header), sizeof *f->tensors);
    if (!f->tensors) return short_of_memory(err, f->path);
    const char *name;
    json_t *info;
    json_object_foreach((json_t *)header, name, info) {
        status s = strcmp(name, "__metadata__") ? parse_tensor(f, name, info, &f->tensors[f->n++], err)
                                                : parse_metadata(f, info, err);
        if (s) return s;
    }
    status sorted = tensor_file_sort(f, err);
    return sorted ? sorted : check_tiling(f, err);
}

status safetensors_read_header(tensor_file *f, error *err) {
    uint64_t length;
    if (f->file_size < 8) return fail(err, ERR_DATA, "%s: too short for a safetensors file", f->path);
    status s = fs_read_at(f->fd, f->path, 0, &length, 8, err);
    if (s) return s;
    length = le64toh(length);
    if (length > SAFETENSORS_MAX_HEADER || length > f->file_size - 8)
        return fail(err, ERR_DATA,
                    "%s: not a safetensors file, or cut short (a header of %llu bytes in %llu)", f->path,
                    (unsigned long long)length, (unsigned long long)f->file_size);
    f->data_at = 8 + length;
    char *text = mem_alloc(length);
    if (!text) return short_of_memory(err, f->path);
    if (!(s = fs_read_at(f->fd, f->path, 8, text, length, err))) {
        json_t *header = NULL;
        if (length == 0 || text[0] != '{')
            s = fail(err, ERR_DATA, "%s: not a safetensors file (the header does not begin with '{')",
                     f->path);
        else if (!(header = js_parse(f->path, text, length, err)))
            s = err->code;
        else
            s = parse_header(f, header, err);
        json_decref(header);
    }
    mem_free(text);
    return s;
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
static json_t *build_header(const safetensors_item **order, size_t n, const metadata_pair *metadata,
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
                        const metadata_pair *metadata, size_t n_metadata, bool overwrite, error *err) {
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
