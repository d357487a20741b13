#include "core/graph/shape.h"

#include <stdio.h>

const char *shape_text(shape s, char *buf) {
    int n = 0;
    buf[0] = 0;
    for (int i = 0; i < s.rank; i++)
        n += snprintf(buf + n, (size_t)(128 - n), i ? "x%lld" : "%lld", (long long)s.d[i]);
    return s.rank ? buf : "scalar";
}

bool shape_broadcasts(shape small, shape big) {
    bool fits = small.rank <= big.rank;
    for (int k = 1; fits && k <= small.rank; k++) {
        int64_t d = small.d[small.rank - k];
        fits = d == 1 || d == big.d[big.rank - k];
    }
    return fits;
}

int64_t shape_index(shape small, shape big, int64_t i) {
    int64_t at = 0, step = 1;
    for (int k = 1; k <= small.rank; k++) {
        int64_t db = big.d[big.rank - k], ds = small.d[small.rank - k];
        if (ds > 1) at += i % db * step;
        i /= db;
        step *= ds;
    }
    return at;
}
