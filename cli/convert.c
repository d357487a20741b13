// calotype convert: weights into safetensors files.
#include "cli/commands.h"
#include "cli/leftovers.h"
#include "cli/session.h"

#include <ctype.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    common common;
    int dtype, layout, prediction;
    const char *shard, *only, *merge, *minus;
    double weight, clamp;
    const char *lora_base;
    int rank, lora_names;
    option_texts loras;
    bool force;
} options;

static const char *const DTYPES[] = {"keep", "f32",         "f16",         "bf16", "q8",
                                     "q4",   "q8-balanced", "q4-balanced", NULL};

static const char *const LAYOUTS[] = {"keep", "diffusers", "single", NULL};
static const char *const LORA_NAMES[] = {"kohya", "peft", NULL};
static const char *const PREDICTIONS[] = {"auto", "eps", "v", NULL};

static const option OPTIONS[] = {
    {0, "layout", OPTION_CHOICE, offsetof(options, layout), "LAYOUT",
     "of a whole model: diffusers (a folder) or single (one file in the original layout); keep (default)",
     .choices = LAYOUTS},
    {0, "dtype", OPTION_CHOICE, offsetof(options, dtype), "TYPE",
     "of the floats: keep (default), f32, f16 or bf16; or for smaller files, of large matrices only: q8, q4 "
     "(evenly "
     "spaced), q8-balanced, q4-balanced (percentiles)",
     .choices = DTYPES},
    {0, "type", OPTION_CHOICE, offsetof(options, dtype), "TYPE", NULL, .choices = DTYPES},
    {0, "max-shard-size", OPTION_TEXT, offsetof(options, shard), "SIZE",
     "of the values in a file, as 5G, 500M; what is more goes into shards with an index"},
    {0, "only", OPTION_TEXT, offsetof(options, only), "PREFIX[,PREFIX...]",
     "only tensors whose names begin so"},
    {0, "merge", OPTION_TEXT, offsetof(options, merge), "FILE",
     "go this way towards another model: IN + W (FILE - IN)"},
    {0, "minus", OPTION_TEXT, offsetof(options, minus), "FILE",
     "with --merge, add the difference to this one: IN + W (FILE of --merge - FILE)"},
    {0, "weight", OPTION_REAL, offsetof(options, weight), "W", "of a merge (default 0.5)", -10, 10},
    {0, "prediction", OPTION_CHOICE, offsetof(options, prediction), "NAME",
     "with --layout or --lora, what the files say that the model predicts: eps, v or auto (default: as "
     "detected)",
     .choices = PREDICTIONS},
    {0, "vae", OPTION_TEXT, offsetof(options, common.vae), "PATH",
     "with --layout or --lora, another autoencoder: a file, its folder or a model's"},
    {0, "clip-vocab", OPTION_TEXT, offsetof(options, common.clip_vocab), "DIR",
     "with --layout or --lora, vocab.json and merges.txt for checkpoints (default: "
     "~/.local/share/calotype/clip)"},
    {0, "lora", OPTION_TEXTS, offsetof(options, loras), "FILE[:W]",
     "merge a LoRA into the model IN, W times (default 1); may be given more than once"},
    {0, "extract-lora", OPTION_TEXT, offsetof(options, lora_base), "BASE",
     "write a LoRA: what the model IN has learned beyond the model BASE"},
    {0, "rank", OPTION_INT, offsetof(options, rank), "N", "of the LoRA (default 32)", 1, 4096},
    {0, "clamp", OPTION_REAL, offsetof(options, clamp), "Q",
     "cut the LoRA's values at this quantile of their sizes (default 1: none; kohya's scripts take 0.99)",
     1e-3, 1},
    {0, "lora-names", OPTION_CHOICE, offsetof(options, lora_names), "WHOSE",
     "kohya (default) or peft, as diffusers writes them", .choices = LORA_NAMES},
    {0, "force", OPTION_FLAG, offsetof(options, force), NULL, "replace existing files"},
    {0}};

const command_line CONVERT_LINE = {
    "convert",
    "IN OUT [OPTION...]",
    "Writes weights as safetensors: from a file of torch (.ckpt, .pt, .pth, "
    ".bin), in another number format, in or\n"
    "out of shards, merged with other models; or a whole model in another "
    "layout of files, or with LoRAs merged into it; or the LoRA between two models.",
    "IN is a tensor file, an index of shards (*.index.json) or the folder of "
    "a network. Files of torch are read as\n"
    "data: nothing in them is run. Numbers are rounded to nearest, ties to "
    "even; a merge is computed in double and\n"
    "rounded once. Files appear whole or not at all.\n"
    "The types that begin with q turn the matrices and convolutions of UNet and "
    "text encoders into codes of 8 or 4\nbits; the rest stays as it is. --dtype "
    "f16 turns such a file back.\n"
    "With --layout or --lora, IN is what -m takes elsewhere, and OUT is a new folder or "
    "a file, as IN is where no\nlayout is asked for. There and back gives the same tensors.",
    {OPTIONS, COMMON_OPTIONS},
    2};

// "5G", "500M", "1500000": bytes, or -1.
static long long size_of(const char *text) {
    static const char UNITS[] = "kMGT";
    double n, unit = 1;
    char letter = 0, more;
    int read = sscanf(text, "%lf%c%c", &n, &letter, &more);
    for (size_t i = 0; letter && i < sizeof UNITS - 1; i++)
        if (unit *= 1000, letter == UNITS[i] || letter == (UNITS[i] ^ 0x20)) letter = 0;
    return read < 1 || read > 2 || letter || !(n * unit >= 1 && n * unit < 1e18) ? -1 : (long long)(n * unit);
}

typedef struct {
    session s;
    double shown; // the session's second of the last bar
    int percent;
} job;

static void show_file(job *j, const char *path) {
    session_clear(&j->s);
    if (j->s.options->json) {
        printf("{\"event\":\"file\",\"file\":");
        print_json_string(path);
        puts("}");
    } else {
        puts(path);
    }
    fflush(stdout);
}

static void show(void *user, const calo_convert_event *e) {
    job *j = user;
    double share = e->total ? (double)e->done / (double)e->total : 1, now = session_seconds(&j->s);
    if (e->path) show_file(j, e->path);
    if (e->path || j->s.options->quiet || (now - j->shown < 0.1 && j->shown)) return;
    bool next = (int)(share * 10) > j->percent / 10;
    j->shown = now;
    j->percent = (int)(share * 100);
    if (j->s.options->json && next)
        printf("{\"event\":\"progress\",\"bytes\":%lld,\"total\":%lld}\n", (long long)e->done,
               (long long)e->total);
    else if (session_terminal())
        session_bar(&j->s, share, "");
    else if (next)
        fprintf(stderr, "%3d%%\n", j->percent);
}

// "style.safetensors:0.8": the file goes to `path`. A colon without a number behind it belongs to the name.
static double weight_of(const char *text, char *path, size_t size) {
    const char *colon = strrchr(text, ':');
    char *end = NULL;
    double weight = colon ? strtod(colon + 1, &end) : 1;
    bool given = colon && colon[1] && !*end && !isspace((unsigned char)colon[1]);
    snprintf(path, size, "%.*s", given ? (int)(colon - text) : (int)strlen(text), text);
    return given ? weight : 1;
}

static int convert(job *j, const options *o, char **operands) {
    char files[OPTION_MAX_TEXTS][PATH_MAX];
    const char *loras[OPTION_MAX_TEXTS];
    double weights[OPTION_MAX_TEXTS];
    calo_convert_request r = calo_convert_defaults();
    for (int i = 0; i < o->loras.n; i++) {
        weights[i] = weight_of(o->loras.at[i], files[i], sizeof files[i]);
        loras[i] = files[i];
    }
    r.loras = loras;
    r.lora_weights = weights;
    r.n_loras = o->loras.n;
    r.in = operands[0];
    r.out = operands[1];
    r.type = (calo_weights_type)o->dtype;
    r.only = o->only;
    r.plus = o->merge;
    r.minus = o->minus;
    r.weight = o->weight;
    r.overwrite = o->force;
    r.layout = (calo_layout)o->layout;
    r.prediction = (calo_prediction)o->prediction;
    r.lora_base = o->lora_base;
    r.lora_rank = o->rank;
    r.lora_clamp = o->clamp;
    r.lora_peft = o->lora_names;
    r.vae = o->common.vae;
    r.vocabulary = o->common.clip_vocab;
    r.on_event = show;
    r.user = j;
    if (o->shard && (r.max_shard = size_of(o->shard)) < 0)
        return session_fail(&j->s, CALO_ERR_USAGE, "--max-shard-size is '%s', not a size such as 5G",
                            o->shard);
    leftovers_remove_beside(r.out, 0);
    int code = session_end(&j->s, calo_convert(j->s.ctx, &r));
    if (!code && o->common.json) printf("{\"event\":\"done\",\"seconds\":%.6f}\n", session_seconds(&j->s));
    return code;
}

// Of values that no option can have. What the environment and a configuration file say is said to other
// commands as well, and may be in vain; flags may not.
static const options NO_FLAGS = {.weight = NAN, .prediction = -1, .lora_names = -1};

static int check_flags(job *j, const options *flags, const options *o) {
    const bool whole = o->layout || o->loras.n;
    const struct {
        bool in_vain;
        const char *name, *needs;
    } rows[] = {
        {!o->merge && o->minus, "minus", "--merge"},
        {!o->merge && !isnan(flags->weight), "weight", "--merge"},
        {!whole && flags->prediction >= 0, "prediction", "--layout or --lora"},
        {!whole && flags->common.vae, "vae", "--layout or --lora"},
        {!whole && flags->common.clip_vocab, "clip-vocab", "--layout or --lora"},
        {!o->lora_base && flags->rank, "rank", "--extract-lora"},
        {!o->lora_base && flags->clamp > 0, "clamp", "--extract-lora"},
        {!o->lora_base && flags->lora_names >= 0, "lora-names", "--extract-lora"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (rows[i].in_vain)
            return session_fail(&j->s, CALO_ERR_USAGE, "--%s needs %s", rows[i].name, rows[i].needs);
    return 0;
}

int cmd_convert(int argc, char **argv) {
    options o = {.common = common_defaults(), .weight = 0.5, .rank = 32, .clamp = 1}, flags = NO_FLAGS;
    job j = {0};
    int n = options_peek(&CONVERT_LINE, &flags, argc, argv);
    if (n >= 0) n = session_options(&CONVERT_LINE, &o.common, argc, argv);
    if (n < 0) return options_code(n);
    int code = session_open(&j.s, &o.common, CALO_PRECISION_AUTO, CALO_LOG_WARN);
    if (!code && n < 2)
        code =
            session_fail(&j.s, CALO_ERR_USAGE,
                         "convert needs a file to read and one to write; calotype convert --help tells more");
    if (!code) code = check_flags(&j, &flags, &o);
    if (!code) code = convert(&j, &o, argv);
    session_close(&j.s);
    return code;
}
