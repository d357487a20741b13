// What a network's output says about x = alpha x0 + sigma eps, for the three things networks predict.
//
// All are linear, so they are given as coefficients: the caller applies them where its latents live.
#pragma once
#include "samplers/schedule.h"

// x0 (or eps) = x_coef · x + out_coef · output
typedef struct {
    double x, out;
} prediction_coef;

// ERR_USAGE when the output does not determine the value: x0 from a predicted eps at alpha = 0 (zero terminal
// SNR needs v or x0 prediction), eps from a predicted x0 at sigma = 0.
status prediction_x0(prediction what, double alpha, double sigma, prediction_coef *c, error *err);
status prediction_eps(prediction what, double alpha, double sigma, prediction_coef *c, error *err);

// The training target: target = x0_coef · x0 + eps_coef · eps.
typedef struct {
    double x0, eps;
} prediction_target;

prediction_target prediction_target_of(prediction what, double alpha, double sigma);
