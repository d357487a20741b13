// Random cases for every op: shared by the op driver's tests and its timings.
#pragma once
#include "core/graph/op.h"

typedef struct {
    uint64_t state;
} dice;

uint64_t dice_roll(dice *d);
int64_t dice_range(dice *d, int64_t low, int64_t high); // both included
double dice_real(dice *d, double low, double high);

// The parameters of one case: trainable weights, as a layer's are.
typedef struct {
    weights w;
    weight made[8];
    char names[8][8];
    int n;
} case_params;
void case_params_init(case_params *p);
void case_params_free(case_params *p);

typedef struct {
    const char *name;
    // Builds the op on fresh inputs of random shapes and returns its result. g->weights is a case_params.
    node *(*build)(graph *g, dice *d);
    double low, high; // range of the inputs' values
} op_case;

extern const op_case OP_CASES[]; // ended by a NULL name
