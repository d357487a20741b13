// Which sample is seen when: a pure function of (seed, step), so that a run resumes by its step alone.
//
// Samples lie in buckets, all of one size each. An epoch goes through the batches of every bucket in random
// order and through each bucket in random order; a bucket's last batch is filled up from its beginning.
#pragma once
#include <stdint.h>

// The image of i under a random permutation of 0 … n−1; another `key`, another permutation.
uint64_t order_permute(uint64_t key, uint64_t n, uint64_t i);

typedef struct {
    uint64_t seed;
    int batch;
    int n_buckets;
    const uint64_t *count; // samples of each bucket; all 0 is not allowed
} order;

typedef struct {
    int bucket;
    uint64_t epoch, first; // the batch's first place in the epoch's order of the bucket
} order_batch;

order_batch order_batch_at(const order *o, uint64_t step);
// The index within its bucket of the batch's sample k.
uint64_t order_sample(const order *o, const order_batch *b, int k);
