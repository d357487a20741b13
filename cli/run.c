// calotype run: one network, tensors in, tensors out.
#include "cli/commands.h"
#include "cli/outputs.h"

#include <stdio.h>
#include <stdlib.h>

typedef struct {
    common common;
    const char *in, *out;
    bool force;
} options;

static const option OPTIONS[] = {
    {'i', "in", OPTION_TEXT, offsetof(options, in), "FILE", "safetensors file of the network's inputs"},
    {'o', "out", OPTION_TEXT, offsetof(options, out), "FILE", "safetensors file to write, F32"},
    {0, "force", OPTION_FLAG, offsetof(options, force), NULL, "replace an existing file"},
    {0}};

const command_line RUN_LINE = {
    "run",
    "NETWORK -m DIR --in FILE --out FILE",
    "Evaluates one network of a model, in f32 unless --precision says otherwise.",
    "Tensors are named and laid out (NCHW) as in diffusers:\n"
    "  unet            sample, timestep, encoder_hidden_states, and text_embeds, time_ids, class_labels,\n"
    "                  timestep_cond where the model asks for them -> sample\n"
    "  vae_encoder     sample -> mean, logvar\n"
    "  vae_decoder     latent (unscaled) -> sample\n"
    "  text_encoder    input_ids -> last_hidden_state, penultimate, pooler_output or text_embeds\n"
    "  text_encoder_2  the same",
    {OPTIONS, MODEL_OPTIONS, COMMON_OPTIONS},
    1};

static calo_tensor *all_tensors(const calo_tensors *list) {
    size_t n = calo_tensors_count(list);
    calo_tensor *all = calloc(n + 1, sizeof *all);
    for (size_t i = 0; all && i < n; i++) all[i] = calo_tensors_at(list, i);
    return all;
}

static int evaluate(session *s, const options *o, const char *network) {
    calo_model *m = NULL;
    calo_tensors *in = NULL, *out = NULL;
    calo_tensor *all_in = NULL, *all_out = NULL;
    int code = session_model(s, &m);
    if (!code) code = session_end(s, calo_tensors_load(s->ctx, o->in, &in));
    if (!code && !(all_in = all_tensors(in))) code = session_fail(s, CALO_ERR_TEMP, "out of memory");
    if (!code) code = session_end(s, calo_run(m, network, all_in, calo_tensors_count(in), &out));
    if (!code && !(all_out = all_tensors(out))) code = session_fail(s, CALO_ERR_TEMP, "out of memory");
    if (!code)
        code = session_end(s, calo_tensors_save(s->ctx, all_out, calo_tensors_count(out), o->out, o->force));
    if (!code) session_say(s, "%s: %.2f s", o->out, session_seconds(s));
    free(all_in);
    free(all_out);
    calo_tensors_free(in);
    calo_tensors_free(out);
    calo_model_free(m);
    return code;
}

int cmd_run(int argc, char **argv) {
    options o = {.common = common_defaults()};
    session s;
    int n = session_options(&RUN_LINE, &o.common, argc, argv);
    if (n < 0) return options_code(n);
    int code = session_open(&s, &o.common, CALO_PRECISION_F32, CALO_LOG_WARN);
    if (!code && (n < 1 || !o.in || !o.out))
        code = session_fail(&s, CALO_ERR_USAGE,
                            "run needs a network, --in and --out; calotype run --help lists them");
    if (!code) code = output_check(&s, o.out, o.force);
    if (!code) code = evaluate(&s, &o, argv[0]);
    session_close(&s);
    return code;
}
