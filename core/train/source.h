// Where pictures and captions come from: a folder (folder.h), or what the caller of train_run hands in, as a
// world that draws fresh scenes.
//
// Access is random and every answer a pure function of the arguments, so that a run resumes exactly and
// several threads may ask at once.
#pragma once
#include "core/base/status.h"

#include <stddef.h>
#include <stdint.h>

// A place worth looking at, shares of width and height from the top left.
typedef struct {
    float x, y;
} source_spot;

enum { SOURCE_SPOTS_MAX = 8, SOURCE_CAPTION_MAX = 4096 };

typedef struct {
    int n;
    source_spot at[SOURCE_SPOTS_MAX];
} source_spots;

typedef struct sample_source {
    void *self;
    const char *name; // stands in cached files: another name, other samples
    // Stands beside it for the pictures' files, so that others under the same name are noticed; 0 where they
    // are generated.
    uint64_t files;
    uint64_t count; // samples; 0: as many as one likes
    int n_buckets;
    // The bucket of sample i, where n_buckets > 1.
    int (*bucket)(void *self, uint64_t i);
    // Sample i as RGB bytes [H, W, 3], the size of its bucket. `spots` may be NULL.
    status (*picture)(void *self, uint64_t i, int W, int H, uint8_t *rgb, source_spots *spots, error *err);
    // UTF-8. Where a sample can be told in several ways, `telling` chooses one.
    status (*caption)(void *self, uint64_t i, uint64_t telling, char text[SOURCE_CAPTION_MAX], error *err);
    void (*free)(void *self);
} sample_source;

typedef struct {
    int W, H;
} source_size;

static inline void source_free(sample_source *s) {
    if (s->free) s->free(s->self);
    *s = (sample_source){0};
}
