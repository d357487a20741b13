// What a UNet predicts, asked of the network itself: the tensors of SD 2 are the same for both kinds.
#include "core/pipeline.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/base/rng.h"

enum { SIDE = 32, TOKENS = 77, LAST_STEP = 999, SEED = 1 };

// Where in its input x = αx₀ + σε the output y is: ⟨y,x⟩/⟨x,x⟩.
static double share_of_input(const float *y, const float *x, size_t n) {
    double yx = 0, xx = 0;
    for (size_t i = 0; i < n; i++) {
        yx += (double)y[i] * x[i];
        xx += (double)x[i] * x[i];
    }
    return yx / xx;
}

// At the last step α = 0.068 and σ = 0.998, and the network is given pure noise as x. It believes in some x̂₀
// that shares little with that noise: k = ⟨x̂₀,x⟩/⟨x,x⟩, of a few per cent (the best guess from x alone is k =
// αs²/(α²s² + σ²) for data of variance s²). Then
//     ε̂ = (x − αx̂₀)/σ shares (1 − αk)/σ ≈ 1 with its input, and
//     v̂ = (αx − x̂₀)/σ shares (α − k)/σ ≈ 0.
// Half way between is the border. Text does not matter, so there is none. Only UNets that read nothing but
// latents are asked: of the others it is known (checkpoint.c).
static status ask(calo_model *m, dtype compute, double *share, error *err) {
    const unet_config *u = model_unet(m->m, err);
    if (!u) return err->code;
    size_t n = (size_t)u->in_channels * SIDE * SIDE;
    network_shape s = {.net = NET_UNET, .compute = compute, .B = 1, .H = SIDE, .W = SIDE, .T = TOKENS};
    exec *e = api_network(m, &s, FAST, err);
    if (!e) return err->code;
    float *x = exec_input(e, "sample"), *at = exec_input(e, "timestep"),
          *text = exec_input(e, "encoder_hidden_states");
    if (!x || !at || u->out_channels != u->in_channels)
        return fail(err, ERR_DATA, "the UNet does not look at its input");
    float *noise = mem_alloc(n * sizeof *noise); // a run may use the input's memory
    if (!noise) return fail(err, ERR_TEMP, "out of memory");
    mt19937 from;
    mt_seed(&from, SEED);
    mt_normal(&from, noise, n);
    memcpy(x, noise, n * sizeof *x);
    at[0] = LAST_STEP;
    for (int64_t i = 0; text && i < TOKENS * u->level[0].cross_attention_dim; i++) text[i] = 0;
    status st = exec_run(e, err);
    if (!st) *share = share_of_input(exec_output(e, 0), noise, n);
    mem_free(noise);
    return st;
}

status probe_prediction(calo_model *m, dtype compute, error *err) {
    const checkpoint *c = model_checkpoint(m->m);
    if (!c || checkpoint_prediction_known(c)) return OK;
    double share;
    status s = ask(m, compute, &share, err);
    if (s) return s;
    if (!isfinite(share))
        return fail(err, ERR_DATA, "%s: nan: the UNet's output at t = %d is not a number", model_dir(m->m),
                    LAST_STEP);
    char because[200];
    const char *predicted = share > 0.5 ? "epsilon" : "v_prediction";
    snprintf(because, sizeof because, "at t = %d its output is %.0f %% of the noise that went in", LAST_STEP,
             100 * share);
    log_put(&m->ctx->log, LOG_LEVEL_INFO, "prediction %s: %s", predicted, because);
    return model_settle(m->m, predicted, because, err);
}
