#include "samplers/weights.h"

#include <math.h>
#include <string.h>

// The series where the recursion would cancel: I_m is about h^(m+1), its terms are of size 1.
static double moment_series(double h, int m) {
    double term = pow(h, m + 1), sum = 0;
    for (int k = 0; k < 24; k++) {
        sum += term / (m + 1 + k);
        term *= h / (k + 1);
    }
    return sum;
}

void exponential_moments(double h, int n, double *I) {
    for (int m = 0; m < n; m++) {
        if (fabs(h) < 1.5)
            I[m] = moment_series(h, m);
        else
            I[m] = m ? pow(h, m) * exp(h) - m * I[m - 1] : expm1(h);
    }
}

// A Vandermonde system (Björck and Pereyra 1970).
void moment_weights(int n, const double *v, const double *moment, double *w) {
    memcpy(w, moment, (size_t)n * sizeof *w);
    for (int k = 0; k < n - 1; k++)
        for (int i = n - 1; i > k; i--) w[i] -= v[k] * w[i - 1];
    for (int k = n - 2; k >= 0; k--) {
        for (int i = k + 1; i < n; i++) w[i] /= v[i] - v[i - k - 1];
        for (int i = k; i < n - 1; i++) w[i] -= w[i + 1];
    }
}
