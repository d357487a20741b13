#include "core/train/order.h"

#include "core/base/rng.h"

// A Feistel network over the next power of four, walked until it lands inside (Black and Rogaway 2002).
uint64_t order_permute(uint64_t key, uint64_t n, uint64_t i) {
    if (n < 2) return 0;
    int half = 1;
    while (half < 32 && (1ull << 2 * half) < n) half++;
    uint64_t mask = (1ull << half) - 1;
    do {
        uint64_t left = i >> half, right = i & mask;
        for (uint64_t round = 0; round < 4; round++) {
            uint64_t mixed = left ^ (philox(key, right, round).w[0] & mask);
            left = right;
            right = mixed;
        }
        i = left << half | right;
    } while (i >= n);
    return i;
}

static uint64_t batches_of(const order *o, int bucket) {
    return (o->count[bucket] + (uint64_t)o->batch - 1) / (uint64_t)o->batch;
}

static uint64_t epoch_key(const order *o, uint64_t epoch, uint64_t what) {
    philox_block b = philox(o->seed, epoch, what);
    return (uint64_t)b.w[0] << 32 | b.w[1];
}

order_batch order_batch_at(const order *o, uint64_t step) {
    uint64_t batches = 0;
    for (int b = 0; b < o->n_buckets; b++) batches += batches_of(o, b);
    if (!batches) return (order_batch){0};
    order_batch at = {.epoch = step / batches};
    uint64_t i = order_permute(epoch_key(o, at.epoch, 0), batches, step % batches);
    while (i >= batches_of(o, at.bucket)) i -= batches_of(o, at.bucket++);
    at.first = i * (uint64_t)o->batch;
    return at;
}

uint64_t order_sample(const order *o, const order_batch *b, int k) {
    uint64_t n = o->count[b->bucket];
    return order_permute(epoch_key(o, b->epoch, 1 + (uint64_t)b->bucket), n, (b->first + (uint64_t)k) % n);
}
