// A weight in the form one kernel wants it. Put in by the planner, never by a builder: its rate is the
// weight's, so a frozen weight is packed once per model and a trainable one at each step.
#include "core/graph/op.h"

const op OP_PACK = {.name = "pack"};
