// The safetensors file format: 8 bytes of header length, a JSON header, the tensors' bytes without a hole.
//
// The reader (tensor_file.h) trusts nothing: length and nesting are limited, names are unique, and the
// tensors in the order of their offsets must tile the data part exactly.
#pragma once
#include "core/files/tensor_file.h"

enum { SAFETENSORS_MAX_HEADER = 100000000 };

// A tensor to be written: its values lie at `data`, or `read` delivers `bytes` of them from byte `offset` on.
typedef struct {
    const char *name;
    dtype type;
    int ndim;
    int64_t shape[TENSOR_MAX_DIMS];
    const void *data;
    status (*read)(void *user, uint64_t offset, void *dst, size_t bytes, error *err);
    void *user;
} safetensors_item;

// Writes as the reference library does: tensors by falling alignment of their type, then by name; the header
// padded to 8 bytes; atomically (fs.h). Metadata is written in the order given. The same input gives the same
// bytes.
status safetensors_save(const char *path, const safetensors_item *items, size_t n,
                        const metadata_pair *metadata, size_t n_metadata, bool overwrite, error *err);
