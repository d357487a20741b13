// Weights from any tensor files into safetensors files: in another number format, a part of them, in shards
// or out of shards, or moved by the difference of two other models.
#pragma once
#include "core/base/dtype.h"
#include "core/base/log.h"
#include "core/base/status.h"
#include "core/files/model_dir.h"

#include <stdbool.h>

typedef struct {
    const char *in;  // as for model_files_open: its names, shapes, types and metadata are the result's
    const char *out; // NAME.safetensors
    int type;        // dtype of all that are floats: F32, F16, BF16; -1: as stored
    // NULL, or what the matrices and convolutions of a UNet and of text encoders become (quantise.h); all
    // else stays as it is, and `type` is -1.
    const struct quantised_format *quantise;
    uint64_t max_shard; // bytes of values in a file; what is more goes into NAME-00001-of-00002.safetensors,
                        // ... and NAME.safetensors.index.json; 0: no limit
    const char *only;   // beginnings of the names to take, with commas between; NULL or "": all

    // in + weight · (plus − minus), computed in double and rounded once. minus NULL: `in` itself, so that the
    // result is between `in` and `plus`. Floats that the others lack, and all else, stay as they are in `in`.
    // So do the further input channels of a convolution that has fewer in the others (inpainting). Without
    // any tensor in common the models do not fit each other.
    const char *plus, *minus; // plus NULL: no merge
    double weight;

    bool overwrite;
    struct team *team;   // makes codes; NULL: the calling thread
    const log_sink *log; // a tensor with finite values that became infinite is a warning with its name
    // After each piece and, with the path, after each file; not OK ends the conversion. May be NULL.
    status (*progress)(void *user, const char *file, uint64_t done, uint64_t total, error *err);
    void *user;
} conversion;

// ERR_USAGE unless it is NAME.safetensors.
status convert_check_name(const char *out, error *err);

// Every file gets its name when it is whole, the index last. ERR_DATA when the models do not fit each other.
status convert_weights(const conversion *c, error *err);

// Something to be added to the values of a tensor before they are rounded.
typedef struct value_change {
    // To n values from value `first` on, in the order of the tensor. Threads may call it at once.
    void (*add)(const struct value_change *c, uint64_t first, size_t n, double *v);
} value_change;

// A tensor to be written: the parts one after another along their first dimension. Of the type of the first
// where the conversion asks for none.
enum { CONVERT_MAX_PARTS = 3 };
typedef struct {
    const char *name;
    int n_parts;
    model_tensor part[CONVERT_MAX_PARTS];
    const value_change *change[CONVERT_MAX_PARTS]; // NULL: none
} convert_item;

// The same for tensors that the caller has chosen (codes among them become numbers, F32 without another
// type), with metadata of the caller's: what decides which tensors are read (`in`, `only`, `plus`, `minus`)
// does not count.
status convert_items(const conversion *c, const convert_item *items, size_t n, const metadata_pair *metadata,
                     size_t n_metadata, error *err);
