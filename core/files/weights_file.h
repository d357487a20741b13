// The tensors of a network's files as weights of a graph: nothing is read before a plan packs it.
#pragma once
#include "core/graph/weights.h"

typedef struct weights_file weights_file;

// `path` and `variant` as for model_files_open. NULL on failure. Must outlive the plans built from it.
weights_file *weights_file_open(const char *path, const char *variant, error *err);
void weights_file_close(weights_file *f); // NULL is fine

// Finds tensors by the names our networks use, also where an older or newer library stored another name. Not
// trainable.
const weights *weights_file_weights(const weights_file *f);
