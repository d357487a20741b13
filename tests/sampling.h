// What the tests of samplers share.
#pragma once
#include "samplers/samplers.h"

#include <criterion/criterion.h>

#define LENGTH(a) (int)(sizeof(a) / sizeof(a)[0])

enum { MOST_LOOKS = 1000 }; // of an adaptive sampler

// That of SD 1.5; schedule_free.
static inline schedule sd_schedule(bool zero_snr, prediction predicts) {
    schedule s;
    schedule_config c = {.train_steps = 1000,
                         .betas = BETAS_SCALED_LINEAR,
                         .beta_start = 0.00085,
                         .beta_end = 0.012,
                         .zero_snr = zero_snr,
                         .predicts = predicts,
                         .steps_offset = 1};
    cr_assert_eq(schedule_init(&s, &c, NULL), OK);
    return s;
}
