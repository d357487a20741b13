// The command that trains, for programs with data and recipes of their own too.
#pragma once
#include "core/calotype.h"

typedef calo_status train_call(calo_context *ctx, const calo_train_request *r);

// argv begins with the command's name; returns the exit code. `call` does the work: calo_train or its like.
// Where `kind` is NULL the user has to name one.
int train_command(int argc, char **argv, train_call *call, const char *kind);
