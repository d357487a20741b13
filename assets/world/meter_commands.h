// The commands of calotype-world that look at pictures.
#pragma once
#include "assets/world/options.h"

status recogniser_command(const options *o, error *err); // test
status score_command(const options *o, error *err);
