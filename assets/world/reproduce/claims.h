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
    // Why a quick run decides nothing about it, to stand behind the outcome; NULL where it does.
    const char *quick_open;
} claim;

typedef struct {
    double value[CLAIM_VALUES];
    bool holds;
} finding;

// Measures the rows in order, each told to `log`, into found[n].
status claims_measure(const claim *rows, int n, void *self, finding *found, const log_sink *log, error *err);
int claims_broken(const finding *found, int n);
// Claims that do not hold, but in a quick run not those with a quick_open.
int claims_unexpected(const claim *rows, const finding *found, int n, bool quick);
// The table in Markdown; mem_free. NULL when memory is short.
char *claims_table(const claim *rows, const finding *found, int n, bool quick);
