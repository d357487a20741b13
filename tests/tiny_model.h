// A small model folder with generated weights, and what diffusers drew with it (tests/golden/pipeline).
#pragma once
#include <stddef.h>
#include <stdint.h>

#include "core/calotype.h"

// Writes the model `name` ("sd", "sdxl") with its scheduler ("eps", "v") as a folder of that name in a new
// temporary folder; the path goes to `dir`.
void tiny_model_write(const char *name, const char *scheduler, char *dir, size_t size);
// Writes the model "sd" with the scheduler "v"; `folder` gets the path of the temporary folder, which is the
// user's cache too. Both paths have room for `size` bytes.
void tiny_model_settle(char *model, char *folder, size_t size);
// Writes a model folder that is an autoencoder of almost no size, without weights: the beginning of a
// training.
void tiny_autoencoder_write(const char *dir);
// calo_convert in a context of its own, whose message is kept.
calo_status convert_once(const calo_convert_request *r, char *message, size_t size);
// Removes the temporary folder with everything in it.
void tiny_model_remove(const char *dir);
void remove_tree(const char *path);
// The smallest max_memory, up to a few KB, with which the model draws so many pictures of 32x32 pixels by one
// thread.
uint64_t tiny_model_least_memory(const char *dir, int count);
// Fills every value of one of its tensors: what a broken file may hold.
void tiny_model_spoil(const char *dir, const char *component, const char *tensor, float value);
