// Weights of multistep methods: a polynomial through what is known is integrated over the step.
#pragma once

enum { MAX_NODES = 4 };

// I[m] = ∫_0^h v^m e^v dv, m < n; h may be negative.
void exponential_moments(double h, int n, double *I);
// w with Σ_j w[j] v[j]^m = moment[m] for all m < n <= MAX_NODES: the integral of the polynomial that takes
// given values at v is their sum weighted with w. The v differ.
void moment_weights(int n, const double *v, const double *moment, double *w);
