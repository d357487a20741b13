#include "core/base/brownian.h"
#include "core/base/mem.h"
#include "core/base/rng.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { POOL = 24 }; // words of a seed sequence, as torchsde has it

// The decimal number of six places next to t. Midpoints of such numbers lie half way between two of them, so
// the digits decide, not a product with a million.
static double round_time(double t) {
    char text[330]; // of any double
    snprintf(text, sizeof text, "%.6f", t);
    return strtod(text, NULL);
}

// An interval of the tree: the root has depth 0; the left half of node k is 2k, the right one 2k + 1.
typedef struct {
    double start, end;
    uint64_t node;
    uint32_t depth;
} interval;

// Of the root's own increment, which has no place in the tree.
static uint32_t root_seed(const brownian *b) { return seed_sequence(b->seed, NULL, 0, POOL); }

static uint32_t split_seed(const brownian *b, const interval *i) {
    return seed_sequence(b->seed, (uint64_t[]){i->node, i->depth}, 2, POOL);
}

// Splits i, whose increment is in b->increment, and keeps the half that holds t. The left one's increment is
// added to y where that is left behind.
static void descend(brownian *b, interval *i, double middle, double t, double *y) {
    double length = i->end - i->start, share = (middle - i->start) / length;
    double deviation = sqrt((middle - i->start) * (i->end - middle) / length);
    bool right = t >= middle;
    b->normals(b->arg, split_seed(b, i), b->noise, b->n);
    for (size_t k = 0; k < b->n; k++) {
        double left = share * b->increment[k] + deviation * b->noise[k];
        if (right) y[k] += left;
        b->increment[k] = right ? b->increment[k] - left : left;
    }
    *i = (interval){right ? middle : i->start, right ? i->end : middle, 2 * i->node + right, i->depth + 1};
}

// y = the motion from low to t, low < t < high.
static void walk(brownian *b, double t, double *y) {
    interval i = {b->low, b->high, 0, 0};
    memset(y, 0, b->n * sizeof *y);
    memcpy(b->increment, b->whole, b->n * sizeof *y);
    while (t > i.start && t < i.end) descend(b, &i, round_time(0.5 * (i.start + i.end)), t, y);
    if (t == i.end)
        for (size_t k = 0; k < b->n; k++) y[k] += b->increment[k];
}

// The motion from low to t, low <= t <= high. The value before the latest is forgotten.
static const double *value_at(brownian *b, double t) {
    for (int k = 0; k < 2; k++)
        if (b->at[k] == t) {
            b->oldest = 1 - k;
            return b->value[k];
        }
    int k = b->oldest;
    walk(b, t, b->value[k]);
    b->at[k] = t;
    b->oldest = 1 - k;
    return b->value[k];
}

status brownian_init(brownian *b, uint64_t seed, double low, double high, size_t n, brownian_normals *normals,
                     void *arg, error *err) {
    *b = (brownian){.seed = seed,
                    .low = round_time(low),
                    .high = round_time(high),
                    .n = n,
                    .normals = normals,
                    .arg = arg,
                    .at = {NAN, NAN},
                    .whole = mem_calloc(n, 4 * sizeof *b->whole),
                    .noise = mem_calloc(n, sizeof *b->noise)};
    if (!b->whole || !b->noise) return fail(err, ERR_TEMP, "no memory for the noise of %zu values", n);
    b->increment = b->whole + n;
    b->value[0] = b->increment + n;
    b->value[1] = b->value[0] + n;
    normals(arg, root_seed(b), b->noise, n);
    for (size_t k = 0; k < n; k++) b->whole[k] = sqrt(high - low) * b->noise[k];
    return OK;
}

void brownian_free(brownian *b) {
    mem_free(b->whole);
    mem_free(b->noise);
    *b = (brownian){0};
}

void brownian_noise(brownian *b, double from, double to, float *y) {
    double first = fmin(fmax(round_time(from), b->low), b->high),
           last = fmin(fmax(round_time(to), b->low), b->high);
    if (first == last) {
        memset(y, 0, b->n * sizeof *y);
        return;
    }
    const double *start = value_at(b, first), *end = value_at(b, last);
    double scale = 1 / sqrt(fabs(to - from));
    for (size_t k = 0; k < b->n; k++) y[k] = (float)((end[k] - start[k]) * scale);
}
