#include "core/graph/shape.h"

#include <stdio.h>

const char *shape_text(shape s, char *buf) {
    int n = 0;
    buf[0] = 0;
    for (int i = 0; i < s.rank; i++)
        n += snprintf(buf + n, (size_t)(128 - n), i ? "x%lld" : "%lld", (long long)s.d[i]);
    return s.rank ? buf : "scalar";
}
