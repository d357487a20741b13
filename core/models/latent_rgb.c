#include "core/models/latent_rgb.h"

#include <math.h>
#include <string.h>

#include "core/base/mem.h"

// Of the diagonal's mean: only where pairs leave a direction open does it decide anything.
#define RIDGE 1e-9

// A = LLᵀ in place, then A·y = b for the three columns of b [n,3] in place. false where A is not positive.
static bool solve(double *A, double *b, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j <= i; j++) {
            double sum = A[i * n + j];
            for (int64_t k = 0; k < j; k++) sum -= A[i * n + k] * A[j * n + k];
            if (i == j && !(sum > 0)) return false;
            A[i * n + j] = i == j ? sqrt(sum) : sum / A[j * n + j];
        }
    for (int c = 0; c < 3; c++) {
        for (int64_t i = 0; i < n; i++) {
            for (int64_t k = 0; k < i; k++) b[i * 3 + c] -= A[i * n + k] * b[k * 3 + c];
            b[i * 3 + c] /= A[i * n + i];
        }
        for (int64_t i = n - 1; i >= 0; i--) {
            for (int64_t k = i + 1; k < n; k++) b[i * 3 + c] -= A[k * n + i] * b[k * 3 + c];
            b[i * 3 + c] /= A[i * n + i];
        }
    }
    return true;
}

// Normal equations in double: (XᵀX)·map = Xᵀ·rgb with X = (x, 1).
status latent_rgb_fit(const float *x, const float *rgb, int64_t n, int64_t C, double *map, error *err) {
    int64_t m = C + 1;
    double *A = mem_calloc((size_t)(m * m), sizeof *A), *row = mem_alloc((size_t)m * sizeof *row),
           diagonal = 0;
    if (!A || !row) return mem_free(A), mem_free(row), fail(err, ERR_TEMP, "out of memory");
    memset(map, 0, (size_t)m * 3 * sizeof *map);
    for (int64_t s = 0; s < n; s++) {
        for (int64_t i = 0; i < C; i++) row[i] = x[s * C + i];
        row[C] = 1;
        for (int64_t i = 0; i < m; i++) {
            for (int64_t j = 0; j <= i; j++) A[i * m + j] += row[i] * row[j];
            for (int64_t c = 0; c < 3; c++) map[i * 3 + c] += row[i] * rgb[s * 3 + c];
        }
    }
    for (int64_t i = 0; i < m; i++) diagonal += A[i * m + i] / (double)m;
    for (int64_t i = 0; i < m; i++) A[i * m + i] += RIDGE * diagonal;
    bool solved = solve(A, map, m);
    mem_free(A);
    mem_free(row);
    return solved ? OK : fail(err, ERR_DATA, "nan: latents have no colours");
}

static uint8_t to_byte(double v) { return (uint8_t)lrint(fmin(fmax(v, 0), 1) * 255); }

void latent_rgb_draw(const double *map, const float *x, int64_t h, int64_t w, int64_t C, int64_t f,
                     uint8_t *out) {
    for (int64_t i = 0; i < h * w; i++) {
        uint8_t *square = out + (i / w * f * w * f + i % w * f) * 3;
        for (int64_t c = 0; c < 3; c++) {
            double v = map[C * 3 + c];
            for (int64_t k = 0; k < C; k++) v += x[i * C + k] * map[k * 3 + c];
            square[c] = to_byte(v);
        }
        for (int64_t k = 1; k < f; k++) memcpy(square + k * 3, square, 3);
        for (int64_t k = 1; k < f; k++) memcpy(square + k * w * f * 3, square, (size_t)f * 3);
    }
}
