// calo_train on the world's pictures, and of its recogniser.
#pragma once
#include "cli/train.h"

train_call world_train, world_train_recogniser;
