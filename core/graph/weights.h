// Where a graph gets its named tensors from: a file, a set of trainable parameters, a generator in a test.
#pragma once
#include "core/base/status.h"
#include "core/graph/shape.h"

#include <stddef.h>

// One named tensor, in torch's layout (linear [out, in], convolution [out, in, kh, kw]). Owned by its
// provider and unchanged while any graph or plan built from it lives.
typedef struct weight {
    const char *name; // diffusers path, "down_blocks.0.resnets.0.conv1.weight"
    shape shape;
    // f32 values that stay in memory, or NULL when they are read from a file each time they are packed.
    float *value;
    // Reads all values as f32; called only when value is NULL.
    status (*read)(const struct weight *w, float *dst, error *err);
    const void *source; // the provider's, for read
    // (optional) The values will be read soon: the file's part may be fetched meanwhile.
    void (*expect)(const struct weight *w);
    bool trainable; // becomes a leaf that gradients reach
    bool int8;   // each row (index of the first dimension) is whole numbers to 127 times a scale of its own
    uint64_t id; // equal ids hold equal values: the key under which packed forms are shared
} weight;

typedef struct weights {
    // NULL when there is no such tensor.
    const weight *(*find)(const struct weights *self, const char *name);
    const char *origin; // what a message calls it: a file or folder name
    // (optional) Asked instead of find: makes the tensor when there is none yet, as a set of parameters to be
    // trained from scratch does. NULL when memory is short.
    const weight *(*create)(const struct weights *self, const char *name, shape s);
    // (optional) What the tensor is called where it comes from, for messages, into `buf` of `size` bytes.
    void (*spell)(const struct weights *self, const char *name, char *buf, size_t size);
} weights;

// An id that no other weight of this process has.
uint64_t weight_new_id(void);
// Whether a tensor of one shape may stand where another is asked for: equal, or a linear [O,I] for a
// convolution [O,I,1,1], or the reverse.
bool weight_fits(shape have, shape want);
