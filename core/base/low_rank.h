// The best approximation of a matrix by a product of two thin ones: its largest singular values (Eckart and
// Young, Psychometrika 1, 1936), found by subspace iteration (Halko, Martinsson and Tropp, arXiv 0909.4061,
// algorithm 4.4) over LAPACK's QR and SVD.
#pragma once
#include "core/base/status.h"
#include "core/base/threads.h"

#include <stdbool.h>

bool low_rank_available(void); // false in a build without LAPACK

// D [O,I] ≈ up [O,R]·down [R,I], all row by row. Each takes the root of the R singular values, the largest
// first; `sigma` gets them. R is at most O and I. Deterministic for any number of threads. ERR_TEMP when
// memory is short, ERR_USAGE where it is not available.
status low_rank(const double *D, int64_t O, int64_t I, int R, double *up, double *down, double *sigma,
                team *t, error *err);
