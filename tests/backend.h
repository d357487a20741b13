// The backend that tests of networks and training run on.
#pragma once
#include "core/base/threads.h"
#include "core/cpu/cpu.h"

static inline backend *test_backend(team *t) { return cpu_backend(t, NULL); }
