// The tensors of a network's files as weights of a graph: nothing is read before a plan packs it.
#pragma once
#include "core/files/model_dir.h"
#include "core/files/names.h"
#include "core/graph/weights.h"

typedef struct weights_file weights_file;

// `path` and `variant` as for model_files_open. Tensors are found by the names our networks use, also where
// an older or newer library stored another name. NULL on failure. Must outlive the plans built from it.
weights_file *weights_file_open(const char *path, const char *variant, error *err);
// A part of files of another layout, which must outlive it; they and the table of `names` are borrowed.
weights_file *weights_file_of(const model_files *files, const file_names *names, error *err);
void weights_file_close(weights_file *f); // NULL is fine

// Not trainable.
const weights *weights_file_weights(const weights_file *f);
// The files behind it.
const model_files *weights_file_files(const weights_file *f);

// Our name of a tensor that an older or newer library stored under another, as `find` knows them.
bool weights_usual_name(const char *stored, char ours[NAME_SIZE]); // false: it is longer than NAME_SIZE
