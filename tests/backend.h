// The backend that tests of whole networks run on.
#pragma once
#include "core/graph/backend.h"

static inline backend *test_backend(struct team *t) { return reference_backend(t); }
