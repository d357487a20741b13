// The record of a run: loss.csv, one line for each update, and loss.png, its picture.
#pragma once
#include "core/base/status.h"

#include <stddef.h>
#include <stdint.h>

typedef struct {
    int64_t step, samples; // updates and samples before this one
    double loss, lr, norm; // norm: of the gradient, before clipping
} curve_point;

typedef struct curve curve;

// Opens DIR/loss.csv for the update number `step` (0: a new file); lines from that step on, and what a crash
// left of a line, are dropped. NULL on failure.
curve *curve_open(const char *dir, int64_t step, error *err);
// Each line is handed to the system at once, so that it survives the process.
status curve_add(curve *c, const curve_point *p, error *err);
// Makes all lines durable; called before a checkpoint is written, so that the file never ends before it.
status curve_sync(curve *c, error *err);
void curve_close(curve *c); // NULL is fine

// Draws loss.png: each point the mean over its share of the run, logarithmic upwards, and the lines' ends.
status curve_draw(const curve *c, error *err);
// Mean loss of the last n updates.
double curve_recent(const curve *c, size_t n);
