#include "core/tensors.h"

#include <string.h>

#include "core/api.h"
#include "core/base/mem.h"
#include "core/files/safetensors.h"

enum { MAX_RANK_OF_TENSOR = 8 };

struct calo_tensors {
    calo_tensor *at;
    size_t n, room;
};

static const dtype TYPES[] = {[CALO_F32] = DT_F32, [CALO_I32] = DT_I32, [CALO_I64] = DT_I64};

size_t calo_type_size(calo_type type) { return dtype_size(TYPES[type]); }

int64_t tensor_count(const calo_tensor *t) {
    int64_t n = 1, bytes;
    if (t->rank < 0 || t->rank > MAX_RANK_OF_TENSOR || t->type < CALO_F32 || t->type > CALO_I64) return -1;
    for (int i = 0; i < t->rank; i++)
        if (t->shape[i] < 0 || __builtin_mul_overflow(n, t->shape[i], &n)) return -1;
    return __builtin_mul_overflow(n, (int64_t)calo_type_size(t->type), &bytes) ? -1 : n;
}

calo_tensors *tensors_new(error *err) {
    calo_tensors *t = mem_calloc(1, sizeof *t);
    if (!t) fail(err, ERR_TEMP, "out of memory");
    return t;
}

void *tensors_add(calo_tensors *t, const char *name, calo_type type, int rank, const int64_t *dims,
                  error *err) {
    if (t->n == t->room) {
        size_t room = t->room ? 2 * t->room : 4;
        calo_tensor *more = mem_realloc(t->at, room, sizeof *more);
        if (!more) return fail(err, ERR_TEMP, "out of memory"), NULL;
        t->at = more;
        t->room = room;
    }
    calo_tensor n = {.type = type, .rank = rank};
    if (rank > 0) memcpy(n.shape, dims, (size_t)rank * sizeof *dims);
    int64_t count = tensor_count(&n);
    char *own = mem_strdup(name);
    void *data = count < 0 ? NULL : mem_alloc((size_t)count * calo_type_size(type));
    if (!own || !data) {
        mem_free(own);
        mem_free(data);
        return fail(err, ERR_TEMP, "out of memory for tensor '%s'", name), NULL;
    }
    n.name = own;
    n.data = data;
    t->at[t->n++] = n;
    return data;
}

const calo_tensor *tensors_find(const calo_tensor *list, size_t n, const char *name) {
    for (size_t i = 0; i < n; i++)
        if (!strcmp(list[i].name, name)) return &list[i];
    return NULL;
}

size_t calo_tensors_count(const calo_tensors *t) { return t ? t->n : 0; }

calo_tensor calo_tensors_at(const calo_tensors *t, size_t i) {
    return t && i < t->n ? t->at[i] : (calo_tensor){0};
}

void calo_tensors_free(calo_tensors *t) {
    if (!t) return;
    for (size_t i = 0; i < t->n; i++) {
        mem_free((void *)(uintptr_t)t->at[i].name);
        mem_free((void *)(uintptr_t)t->at[i].data);
    }
    mem_free(t->at);
    mem_free(t);
}

// ---- files

static status load_one(calo_tensors *list, const tensor_file *file, const tensor_entry *t, error *err) {
    calo_type type = t->type == DT_I32 ? CALO_I32 : t->type == DT_I64 ? CALO_I64 : CALO_F32;
    void *data = tensors_add(list, t->name, type, t->ndim, t->shape, err);
    if (!data) return err->code;
    return type == CALO_F32 ? tensor_file_read_f32(file, t, 0, t->count, data, err)
                            : tensor_file_read(file, t, 0, t->count, data, err);
}

calo_status calo_tensors_load(calo_context *ctx, const char *path, calo_tensors **out) {
    error *err = api_enter(ctx);
    *out = NULL;
    tensor_file *file = tensor_file_open(path, err);
    if (!file) return api_leave(err->code);
    calo_tensors *list = tensors_new(err);
    status s = list ? OK : err->code;
    for (size_t i = 0; i < tensor_file_count(file) && !s; i++)
        s = load_one(list, file, tensor_file_at(file, i), err);
    tensor_file_close(file);
    if (s)
        calo_tensors_free(list);
    else
        *out = list;
    return api_leave(s);
}

calo_status calo_tensors_save(calo_context *ctx, const calo_tensor *tensors, size_t n, const char *path,
                              int overwrite) {
    error *err = api_enter(ctx);
    safetensors_item *items = mem_calloc(n ? n : 1, sizeof *items);
    status s = items ? OK : fail(err, ERR_TEMP, "out of memory");
    for (size_t i = 0; i < n && !s; i++) {
        const calo_tensor *t = &tensors[i];
        if (!t->name || !t->data || tensor_count(t) < 0) {
            s = fail(err, ERR_USAGE, "%s: tensor %zu has no name, no values or an impossible shape", path, i);
            break;
        }
        items[i] =
            (safetensors_item){.name = t->name, .type = TYPES[t->type], .ndim = t->rank, .data = t->data};
        memcpy(items[i].shape, t->shape, (size_t)t->rank * sizeof *t->shape);
    }
    if (!s) s = safetensors_save(path, items, n, NULL, 0, overwrite, err);
    mem_free(items);
    return api_leave(s);
}
