// A file of named tensors, whatever its format: a list of what is there and where its bytes lie. A format is
// a row of the table in tensor_file.c; the first bytes of the file decide, not its name.
//
// Values are read on request, straight into the caller's memory; the file is never mapped, so one that is cut
// short meanwhile is an error and not a signal.
#pragma once
#include "core/base/dtype.h"
#include "core/base/status.h"

#include <stdbool.h>

enum { TENSOR_MAX_DIMS = 8 };

typedef struct tensor_entry tensor_entry;
struct tensor_entry {
    const char *name;
    const char *type_name; // as the file spells it; of codes the name of their format
    int type;              // dtype, or -1: a type we do not know, an error when the tensor is used
    int ndim;
    int64_t shape[TENSOR_MAX_DIMS];
    uint64_t count;  // elements
    uint64_t offset; // from the beginning of the file
    uint64_t bytes;  // of its elements

    bool strided;                    // the elements do not lie one after another, but
    int64_t stride[TENSOR_MAX_DIMS]; // so many elements apart, not negative; reading puts them in order

    // Of 8-bit floats, where the file scales them: the tensor whose one value theirs are to be multiplied by.
    const tensor_entry *scale;

    // Of codes (quantised.h): how they are read. Shape and count are those of the values, the type is the
    // codes'.
    const struct quantised *codes;
    uint64_t first_code; // of a view: which of the tensor's values is the first
    bool auxiliary;      // beside codes, no tensor of a network
};

typedef struct {
    const char *key, *value;
} metadata_pair;

typedef struct tensor_file tensor_file;

// Reads and checks the directory. NULL on failure: ERR_NOINPUT without a file, ERR_DATA if it is malformed.
tensor_file *tensor_file_open(const char *path, error *err);
void tensor_file_close(tensor_file *f); // NULL is fine
// Whether a path ends as those of such files do: .safetensors, .ckpt, ...
bool tensor_file_is_named(const char *path);

const char *tensor_file_path(const tensor_file *f);
// Tensors in the order of their offsets. All strings belong to `f`.
size_t tensor_file_count(const tensor_file *f);
const tensor_entry *tensor_file_at(const tensor_file *f, size_t i);
const tensor_entry *tensor_file_find(const tensor_file *f, const char *name); // NULL if absent
// What the file says about itself, ordered by key.
size_t tensor_file_metadata_count(const tensor_file *f);
metadata_pair tensor_file_metadata_at(const tensor_file *f, size_t i);
const char *tensor_file_metadata(const tensor_file *f, const char *key); // NULL if absent

// `count` elements from element `first` on: as stored (of codes: bytes), or as numbers, 8-bit floats
// multiplied by their scale and codes decoded. May be called from several threads at once.
status tensor_file_read(const tensor_file *f, const tensor_entry *t, uint64_t first, uint64_t count,
                        void *dst, error *err);
status tensor_file_read_f32(const tensor_file *f, const tensor_entry *t, uint64_t first, uint64_t count,
                            float *dst, error *err);
status tensor_file_read_f64(const tensor_file *f, const tensor_entry *t, uint64_t first, uint64_t count,
                            double *dst, error *err);

// All of it will be read soon: the operating system may fetch it meanwhile.
void tensor_file_expect(const tensor_file *f, const tensor_entry *t);

// "(320, 4, 3, 3)" for messages; at most `size` bytes. Returns buf.
char *tensor_shape_text(const int64_t *shape, int ndim, char *buf, size_t size);
