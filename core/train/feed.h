// A stage's samples in the order in which its passes see them.
#pragma once
#include "core/train/order.h"
#include "core/train/recipe.h"

typedef struct {
    const train_context *context;
    sample_source source;
    const train_stage *stage;
    uint64_t *count; // samples of each bucket, NULL if there is no end of them
    uint64_t **of;   // their indices in the source, NULL where these are 0, 1, …
    order order;
} feed;

// Opens context->stage's data. `limit` > 0: only the first so many samples of an endless source are seen.
status feed_open(feed *f, const train_context *context, bool captions, uint64_t limit, error *err);
void feed_close(feed *f); // a zeroed feed is fine

// All samples of a pass have the size of one bucket.
int feed_bucket(const feed *f, int64_t pass);
source_size feed_size(const feed *f, int bucket);
// Sample k of a pass, from 0 to batch − 1: its place in the pass's bucket. Of an endless feed, its index.
uint64_t feed_place(const feed *f, int64_t pass, int k);
// The index in the source of a bucket's sample.
uint64_t feed_at(const feed *f, int bucket, uint64_t place);

// B pictures of one size, drawn by all threads: [B,H,W,3], and the spots of each unless NULL.
status feed_pictures(const feed *f, const uint64_t *sample, int B, source_size size, uint8_t *rgb,
                     source_spots *spots, error *err);
