// The tensors of a model's component under our names, wherever its files keep them: as views of what lies
// there, so that values of any type can be read as they are.
#pragma once
#include "core/base/arena.h"
#include "core/files/names.h"
#include "core/models/model.h"

typedef struct {
    const char *name;
    tensor_entry tensor; // of ours, as a view of the file's
    const tensor_file *file;
} part_tensor;

typedef struct {
    part_tensor *tensors; // by name
    size_t n;
    uint64_t bytes;
    arena strings;
} part_tensors;

// `used`, which may be NULL: of a checkpoint's tensors, those that belong to the component become true.
// ERR_DATA when there is none, or two of one name. Free in any case.
status part_tensors_list(part_tensors *l, model *m, model_part p, bool *used, error *err);
void part_tensors_free(part_tensors *l);
const part_tensor *part_tensors_find(const part_tensors *l, const char *name); // NULL if absent
// Whether it is the weight of a layer that a LoRA may change: a matrix or a convolution of numbers.
bool part_tensor_is_layer(const part_tensor *t);
// What a tensor of the list is called in another layout; false: it has no name there.
bool part_tensors_translate(const part_tensors *l, const file_names *names, const char *ours,
                            char theirs[NAME_SIZE], tensor_view *view);
