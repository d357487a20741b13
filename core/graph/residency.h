// Which of a plan's model-rate values stay in memory when there is no room for all. Every run reads them all
// in the same order, so whatever was used last is needed last: no cache that forgets helps. Some stay for
// good; the others are made right before the step that reads them, one step's at a time, in a stage behind
// the arena.
#pragma once
#include "core/graph/plan_internal.h"

typedef struct {
    bool *streams; // by index of plan->values
    size_t stage;  // bytes: of the values that one step streams, and of what making them takes
    size_t kept;   // bytes that stay
    size_t streamed;
} residency;

// The most that making the value of a model-rate node allocates beside the value.
size_t making_bytes(const plan *p, const node *n);
// The value of input k of a step if it is streamed, not yet met among the inputs before; else -1.
int streamed_input(const plan *p, const bool *streams, const node *n, int k);

// What plan_values_need tells, once the plan is complete.
status residency_measure(plan *p, error *err);

// `room`: bytes for what stays and for the stage. Free with residency_free in any case. ERR_USAGE when not
// even the stage fits.
status residency_choose(residency *r, const plan *p, size_t room, error *err);
void residency_free(residency *r);
