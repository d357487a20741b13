// Shapes: up to six dimensions, outermost first, always contiguous.
#pragma once
#include <stdbool.h>
#include <stdint.h>

enum { MAX_RANK = 6 };

typedef struct {
    int rank;
    int64_t d[MAX_RANK];
} shape;

#define SHAPE(...)                                                                                           \
    ((shape){.rank = (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), .d = {__VA_ARGS__}})

static inline int64_t shape_count(shape s) {
    int64_t n = 1;
    for (int i = 0; i < s.rank; i++) n *= s.d[i];
    return n;
}

static inline bool shape_equal(shape a, shape b) {
    if (a.rank != b.rank) return false;
    for (int i = 0; i < a.rank; i++)
        if (a.d[i] != b.d[i]) return false;
    return true;
}

// The innermost dimension: channels of an image, features of a token.
static inline int64_t shape_last(shape s) { return s.rank ? s.d[s.rank - 1] : 1; }
// Everything but the innermost dimension, as one.
static inline int64_t shape_rows(shape s) { return shape_last(s) ? shape_count(s) / shape_last(s) : 0; }

static inline shape shape_with_last(shape s, int64_t last) {
    s.d[s.rank - 1] = last;
    return s;
}

// Whether `small` can be broadcast to `big`: aligned at the innermost, each dimension is 1 or equal.
bool shape_broadcasts(shape small, shape big);
// The index in `small` of element i of `big`.
int64_t shape_index(shape small, shape big, int64_t i);

// Writes "2x64x64x320" into a buffer of at least 128 bytes and returns it.
const char *shape_text(shape s, char *buf);
