// The commands of calotype-world that teach and that look at pictures.
#pragma once
#include "assets/world/options.h"

status train_command(const options *o, error *err); // CONFIG: as calotype train, with the world as a source
status recogniser_command(const options *o, error *err); // train CONFIG | test
status score_command(const options *o, error *err);
