// The safetensors file format: 8 bytes of header length, a JSON header, the tensors' bytes without a hole.
//
// The reader trusts nothing: length and nesting are limited, names are unique, and the tensors in the order
// of their offsets must tile the data part exactly. Values are read on request, straight into the caller's
// memory; a file cut short meanwhile is an error, never a signal.
#pragma once
#include "core/base/dtype.h"
#include "core/base/status.h"

enum { SAFETENSORS_MAX_DIMS = 8, SAFETENSORS_MAX_HEADER = 100000000 };

typedef struct {
    const char *name;
    const char *type_name; // as the file spells it
    int type;              // dtype, or -1: a type we do not know, an error when the tensor is used
    int ndim;
    int64_t shape[SAFETENSORS_MAX_DIMS];
    uint64_t count;  // elements
    uint64_t offset; // from the beginning of the file
    uint64_t bytes;
} safetensors_tensor;

typedef struct {
    const char *key, *value;
} safetensors_pair;

typedef struct safetensors safetensors;

// Reads and checks the header. NULL on failure: ERR_NOINPUT without a file, ERR_DATA if it is malformed.
safetensors *safetensors_open(const char *path, error *err);
void safetensors_close(safetensors *st); // NULL is fine

const char *safetensors_path(const safetensors *st);
// Tensors in the order of their offsets. All strings belong to `st`.
size_t safetensors_count(const safetensors *st);
const safetensors_tensor *safetensors_at(const safetensors *st, size_t i);
const safetensors_tensor *safetensors_find(const safetensors *st, const char *name); // NULL if absent
// The __metadata__ entries, ordered by key.
size_t safetensors_metadata_count(const safetensors *st);
safetensors_pair safetensors_metadata_at(const safetensors *st, size_t i);
const char *safetensors_metadata(const safetensors *st, const char *key); // NULL if absent

// `count` elements from element `first` on, as stored, or converted to float. May be called from several
// threads at once.
status safetensors_read(const safetensors *st, const safetensors_tensor *t, uint64_t first, uint64_t count,
                        void *dst, error *err);
status safetensors_read_f32(const safetensors *st, const safetensors_tensor *t, uint64_t first,
                            uint64_t count, float *dst, error *err);

// "(320, 4, 3, 3)" for messages; at most `size` bytes. Returns buf.
char *safetensors_shape_text(const int64_t *shape, int ndim, char *buf, size_t size);

// A tensor to be written: its values lie at `data`, or `read` delivers `bytes` of them from byte `offset` on.
typedef struct {
    const char *name;
    dtype type;
    int ndim;
    int64_t shape[SAFETENSORS_MAX_DIMS];
    const void *data;
    status (*read)(void *user, uint64_t offset, void *dst, size_t bytes, error *err);
    void *user;
} safetensors_item;

// Writes as the reference library does: tensors by falling alignment of their type, then by name; the header
// padded to 8 bytes; atomically (fs.h). Metadata is written in the order given. The same input gives the same
// bytes.
status safetensors_save(const char *path, const safetensors_item *items, size_t n,
                        const safetensors_pair *metadata, size_t n_metadata, bool overwrite, error *err);
