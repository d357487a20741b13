#include "core/base/nearest.h"

#include <string.h>

static int least(int a, int b) { return a < b ? a : b; }

// Number of letters to insert, drop, change or swap (Damerau-Levenshtein, adjacent swaps).
static int distance(const char *a, const char *b) {
    enum { MAX = 32 };
    size_t n = strlen(a), m = strlen(b);
    int d[MAX + 1][MAX + 1];
    if (n > MAX || m > MAX) return MAX;
    for (size_t i = 0; i <= n; i++)
        for (size_t j = 0; j <= m; j++) {
            d[i][j] = i && j ? d[i - 1][j - 1] + (a[i - 1] != b[j - 1]) : (int)(i + j);
            if (i && j) d[i][j] = least(d[i][j], least(d[i - 1][j], d[i][j - 1]) + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                d[i][j] = least(d[i][j], d[i - 2][j - 2] + 1);
        }
    return d[n][m];
}

const char *nearest_name(const char *name, const char *const *names, size_t n) {
    const char *best = NULL;
    size_t letters = strlen(name);
    int nearest = (int)(letters < 96 ? letters : 96) / 3 + 1; // farther is no slip of the finger
    for (size_t i = 0; i < n; i++) {
        int d = distance(name, names[i]);
        if (d > nearest || (best && d == nearest)) continue;
        nearest = d;
        best = names[i];
    }
    return best;
}
