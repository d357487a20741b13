// Chunk sizes that the kernels and the scratch functions of kernels.c agree on. They decide the order of
// sums: a change changes last bits.
#pragma once
#include <stdint.h>

enum {
    BLOCK = 16384,   // values in one task of an elementwise loop; a multiple of every vector width
    NORM_ROWS = 128, // rows in one partial sum of a norm
    SUM_ROWS = 256,  // rows in one partial sum over rows
    SUM_RUN = 4096   // values in one partial sum along a row
};

// Bytes that one sample of a group norm needs: 4 floats' worth of doubles, 6 rows of parameters and the
// partial sums (see group_space); a multiple of 8.
static inline int64_t norm_space(int64_t S, int64_t C) {
    int64_t chunks = (S + NORM_ROWS - 1) / NORM_ROWS;
    return C * (10 + 2 * chunks) * (int64_t)sizeof(float);
}

// A sum over dims seen as (keep0, sum0, keep1, sum1, keep2), neighbours of the same kind joined.
typedef struct {
    int64_t n[5];
} sum_shape;

static inline sum_shape sum_shape_of(const int64_t shape[4], unsigned reduced) {
    sum_shape s = {{1, 1, 1, 1, 1}};
    int k = 0;
    for (int i = 0; i < 4; i++) {
        if (shape[i] == 1) continue;
        if ((k & 1) != (int)(reduced >> i & 1)) k++;
        s.n[k] *= shape[i];
    }
    return s;
}

// Partial sums of one [outer, n, inner] reduction, in floats.
static inline int64_t sum_chunks(int64_t n, int64_t inner) {
    int64_t size = inner == 1 ? SUM_RUN : SUM_ROWS;
    return (n + size - 1) / size;
}
