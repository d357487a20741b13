// A reproduction as a table: each row is a claim of the paper, what is expected, what was measured and
// whether it holds here.
#pragma once
#include "core/base/log.h"
#include "core/base/status.h"

enum { CLAIM_VALUES = 4 };

typedef struct {
    const char *name;                // what the paper says
    const char *expected;            // what would show it here, in words
    const char *label[CLAIM_VALUES]; // of each measured value, NULL behind the last
    // Fills one value for each label.
    status (*measure)(void *self, double value[CLAIM_VALUES], error *err);
    bool (*holds)(const double value[CLAIM_VALUES]);
    bool full_only; // needs better models than a quick run trains
} claim;

typedef struct {
    double value[CLAIM_VALUES];
    bool measured, holds;
} finding;

// Measures the rows in order, each told to `log`, into found[n]. Rows that are full_only are left out when
// `quick`.
status claims_measure(const claim *rows, int n, void *self, bool quick, finding *found, const log_sink *log,
                      error *err);
// Claims that were measured and do not hold.
int claims_broken(const finding *found, int n);
// The table in Markdown; mem_free. NULL when memory is short.
char *claims_table(const claim *rows, const finding *found, int n);
