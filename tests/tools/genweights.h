// Random weights that are a function of a tensor's name, the same as in tests/parity/golden.py (the rule is
// in tests/parity/README.md). Nothing but arithmetic: no file, no allocation, no state.
#pragma once
#include <stdint.h>

// Output i of splitmix64 seeded with the FNV-1a 64 hash of `name`.
uint64_t gen_word(const char *name, uint64_t i);

// u: n values in [-1, 1), multiples of 2^-23. For inputs ("input:sample"), losses ("dout:sample") and dot
// products ("dot:conv_in.weight").
void gen_uniform(const char *name, int64_t n, float *out);

// The weight of that name: uniform with variance 1/fan_in, near 1 for the weights of norms, small for biases.
// shape[rank] in PyTorch's order, row-major.
void gen_weight(const char *name, int rank, const int64_t *shape, float *out);

// Element number of kept entry j of a tensor of n elements, of which k are kept. `name` is the tensor's.
int64_t gen_index(const char *name, int64_t j, int64_t k, int64_t n);
