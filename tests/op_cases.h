// Random cases for every op: shared by the op driver's tests and its timings.
#pragma once
#include "core/graph/op.h"

typedef struct {
    uint64_t state;
} dice;

uint64_t dice_roll(dice *d);
int64_t dice_range(dice *d, int64_t low, int64_t high); // both included
double dice_real(dice *d, double low, double high);

typedef struct {
    const char *name;
    // Builds the op on fresh inputs of random shapes (input_of) and returns its result.
    node *(*build)(graph *g, dice *d);
    double low, high; // range of the inputs' values
} op_case;

extern const op_case OP_CASES[]; // ended by a NULL name
