// Spacings: which points of a schedule n sampling steps start from. One table; its rows say whose they are.
//
// A spacing lists timesteps or values of r = sigma/alpha. One in r begins at the largest r of the schedule.
// With zero SNR that is infinite, and from an infinite start such a curve would spend nearly all steps in
// noise: it is then the curve of the schedule before the rescaling, with the first point moved to alpha = 0.
// kl_optimal needs no such rule. leading and ddim_uniform do not begin at the last timestep.
#pragma once
#include "samplers/schedule.h"

typedef struct {
    spacing how;
    const char *name;    // "karras"
    const char *label;   // "Karras", as picture metadata spells it; NULL: other programs have no name for it
    const char *aliases; // comma separated; may be NULL
    // Timestep i of n, or else r of point i; i = 0 is the noisiest.
    double (*timestep)(const schedule *s, int i, int n, step_grid grid);
    double (*ratio)(const schedule *s, int i, int n);
} spacing_row;

// Row i of the table, NULL behind the last.
const spacing_row *spacing_at(int i);
const spacing_row *spacing_row_of(spacing how); // NULL for SPACING_AUTO
// By name, label or alias, spelled as in sampler_find. NULL when unknown.
const spacing_row *spacing_find(const char *name);
bool spacing_is_auto(const char *name); // "auto", "automatic", "default"

// Fills at[0 .. n-1]. ERR_USAGE when they do not fall.
status spacing_fill(schedule_steps *steps, const schedule *s, step_grid grid, error *err);
