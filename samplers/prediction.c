#include "samplers/prediction.h"

status prediction_x0(prediction what, double alpha, double sigma, prediction_coef *c, error *err) {
    switch (what) {
    case PREDICT_V:
        *c = (prediction_coef){alpha, -sigma};
        return OK;
    case PREDICT_X0:
        *c = (prediction_coef){0, 1};
        return OK;
    case PREDICT_EPS:
        break;
    }
    if (alpha == 0)
        return fail(err, ERR_USAGE,
                    "epsilon prediction says nothing about the picture at alpha = 0 (zero terminal SNR): "
                    "use v or x0 prediction, or switch zero SNR off");
    *c = (prediction_coef){1 / alpha, -sigma / alpha};
    return OK;
}

status prediction_eps(prediction what, double alpha, double sigma, prediction_coef *c, error *err) {
    switch (what) {
    case PREDICT_V:
        *c = (prediction_coef){sigma, alpha};
        return OK;
    case PREDICT_EPS:
        *c = (prediction_coef){0, 1};
        return OK;
    case PREDICT_X0:
        break;
    }
    if (sigma == 0) return fail(err, ERR_USAGE, "x0 prediction says nothing about the noise at sigma = 0");
    *c = (prediction_coef){1 / sigma, -alpha / sigma};
    return OK;
}

prediction_target prediction_target_of(prediction what, double alpha, double sigma) {
    switch (what) {
    case PREDICT_V:
        return (prediction_target){-sigma, alpha};
    case PREDICT_X0:
        return (prediction_target){1, 0};
    case PREDICT_EPS:
        break;
    }
    return (prediction_target){0, 1};
}
