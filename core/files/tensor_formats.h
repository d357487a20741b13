// What the readers of single formats fill in for tensor_file.c.
#pragma once
#include "core/base/arena.h"
#include "core/files/tensor_file.h"

struct tensor_file {
    int fd;
    uint64_t file_size;
    int64_t written; // when, fs_written
    char *path;
    tensor_entry *tensors; // by offset
    size_t n;
    metadata_pair *metadata; // by key
    size_t n_metadata;
    const tensor_entry **by_name;
    arena strings;
    uint64_t data_at; // safetensors: where the data part begins
};

status safetensors_read_header(tensor_file *f, error *err);
status ckpt_read_directory(tensor_file *f, error *err);

// Orders the tensors by offset and the metadata by key, and makes by_name.
status tensor_file_sort(tensor_file *f, error *err);
// shape[0 .. ndim) is set: fills in the number of elements. ERR_DATA for a negative size, or more than 64
// bits can count.
status tensor_entry_count(const tensor_file *f, tensor_entry *t, error *err);
