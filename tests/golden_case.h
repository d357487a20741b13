// A golden case: generated weights and inputs, and the numbers that diffusers or transformers computed from
// them. The files are described in tests/parity/README.md. Failures end the test.
#pragma once
#include "core/base/json.h"
#include "core/graph/weights.h"

typedef struct golden golden;

// `path` without extension, relative to tests/golden: "networks/vae_sd".
golden *golden_open(const char *path);
void golden_close(golden *c);
const json_t *golden_config(const golden *c);

// All weights, generated when first asked for, in memory; trainable where a run has gradients for them.
const weights *golden_weights(golden *c, bool trainable);

// One evaluation. Names and layouts are those of diffusers (NCHW).
typedef struct {
    const char *network; // "unet", "vae_encoder", "vae_decoder", "text_encoder", "text_encoder_2"
    bool gradients;
    int n_inputs, n_outputs;
} golden_run;

typedef struct {
    const char *name;
    shape shape;
    bool integer;   // I64 in the file
    bool generated; // its gradient is known
} golden_tensor;

int golden_runs(const golden *c);
golden_run golden_run_at(const golden *c, int run);
golden_tensor golden_input(const golden *c, int run, int i);
golden_tensor golden_output(const golden *c, int run, int i);
// Values of an input; of the vector that output i is multiplied with to make the loss.
void golden_input_values(const golden *c, int run, int i, double *dst);
void golden_loss_values(const golden *c, int run, int i, double *dst);

// Rows of gradients: the trained tensors in order, then the generated inputs.
int golden_rows(const golden *c, int run);
// The weight of a row, or NULL where the row is an input, whose name is put into *input.
const weight *golden_row(golden *c, int run, int row, const char **input);

// ‖a − b‖/‖b‖ as far as the stored numbers of b tell; a gradient that must vanish is compared with the run's
// largest. `a` in the file's layout; NULL for zeros.
double golden_output_distance(const golden *c, int run, int i, const double *a);
double golden_row_distance(golden *c, int run, int row, const double *a);
