// Lists of named tensors that own their values.
#pragma once
#include "core/base/status.h"
#include "core/calotype.h"

calo_tensors *tensors_new(error *err);
// Adds a tensor with room for its values, not cleared; NULL when memory is short. The name is copied.
void *tensors_add(calo_tensors *t, const char *name, calo_type type, int rank, const int64_t *dims,
                  error *err);
const calo_tensor *tensors_find(const calo_tensor *list, size_t n, const char *name); // NULL if absent

// Number of values; -1 if the shape is malformed or beyond what memory can hold.
int64_t tensor_count(const calo_tensor *t);
size_t calo_type_size(calo_type type);
