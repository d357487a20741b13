// A network's tensors, wherever its files keep them: one file, shards under an index, or a folder in the
// layout of diffusers; and the list of components of such a model.
//
// Names of shards come from the index file and must be plain names: nothing outside the folder is opened.
// Symbolic links are followed (a hub cache links into its blobs); nothing is ever written.
#pragma once
#include "core/files/tensor_file.h"

#include <stdbool.h>

// The one checkpoint of a folder that is not in diffusers' layout, as repositories have it; else the folder.
// mem_free; NULL on failure.
char *model_dir_resolve(const char *folder, error *err);

typedef struct model_files model_files;

// Where one tensor lies; both belong to the model_files.
typedef struct {
    const tensor_file *file;
    const tensor_entry *tensor;
} model_tensor;

// `path` is a tensor file, an index of shards (*.json), or the folder of one component. `variant`
// selects among a folder's files ("fp16": model.fp16.safetensors); NULL or "" takes the plain one, and where
// there is none the first of fp16, bf16 and fp32. A tensor that the index promises and its shard lacks is
// ERR_DATA. NULL on failure.
model_files *model_files_open(const char *path, const char *variant, error *err);
void model_files_close(model_files *m); // NULL is fine

const char *model_files_path(const model_files *m); // as it was found: the file or the index
size_t model_files_count(const model_files *m);
model_tensor model_files_at(const model_files *m, size_t i); // bytewise by name
bool model_files_begins(const model_files *m, size_t i);     // whether that is the first one of its file
bool model_files_find(const model_files *m, const char *name, model_tensor *found); // found may be NULL

// The tensor with this name and exactly this shape, or ERR_DATA naming file, tensor and both shapes.
status model_files_need(const model_files *m, const char *name, int ndim, const int64_t *shape,
                        model_tensor *found, error *err);
// All its values, as model_files_need finds it.
status model_files_read_f32(const model_files *m, const char *name, int ndim, const int64_t *shape,
                            float *dst, error *err);

// model_index.json: the pipeline's class and its components. A component that is not installed ([null, null])
// is left out.
typedef struct {
    const char *name, *library, *class_name; // "unet", "diffusers", "UNet2DConditionModel"
} model_component;

typedef struct model_index model_index;

model_index *model_index_open(const char *dir, error *err); // NULL on failure
void model_index_close(model_index *x);                     // NULL is fine
const char *model_index_class(const model_index *x);        // "StableDiffusionPipeline"
size_t model_index_count(const model_index *x);
model_component model_index_at(const model_index *x, size_t i);                  // in the file's order
const model_component *model_index_find(const model_index *x, const char *name); // NULL if absent
