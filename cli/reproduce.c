// calotype reproduce: a paper's claims in miniature, measured.
#include "cli/commands.h"
#include "cli/session.h"

#include <stdio.h>

#ifdef CALO_WORLD
#include "assets/world/reproduce/reproduce.h"
#endif

typedef struct {
    common common;
    const char *out, *docs, *recogniser;
    long long seed;
    bool quick;
} options;

static const char *const PRECISIONS[] = {"auto", "f32", "bf16", NULL};

static const option OPTIONS[] = {
    {'o', "out", OPTION_TEXT, offsetof(options, out), "DIR",
     "folder for models and results (default: build/reproduce); goes on there"},
    {0, "docs", OPTION_TEXT, offsetof(options, docs), "FILE",
     "write the page there too, its pictures beside it"},
    {'s', "seed", OPTION_LONG, offsetof(options, seed), "N", "of everything random (default: 1)", 0, 9e15},
    {0, "recogniser", OPTION_TEXT, offsetof(options, recogniser), "FILE",
     "its weights, for the share of pictures that show what was asked for (default: those in the sources)"},
    {0, "precision", OPTION_CHOICE, offsetof(options, common.precision), "P",
     "of training: auto, f32 or bf16; pictures are drawn in f32", .choices = PRECISIONS},
    {0, "quick", OPTION_FLAG, offsetof(options, quick), NULL, "train for minutes instead of an hour"},
    {0}};

const command_line REPRODUCE_LINE = {
    "reproduce",
    "zsnr [OPTION...]",
    "Trains small models from scratch and prints a paper's claims beside what was measured.",
    "zsnr: \"Common Diffusion Noise Schedules and Sample Steps Are Flawed\", about an hour of two cores.\n"
    "Exit code 1: a claim does not hold, other than those of which a quick run cannot tell.",
    {OPTIONS, COMMON_OPTIONS},
    1};

#ifdef CALO_WORLD
static void say(void *user, const char *text) { session_say(user, "%s", text); }

static int is_stopped(void *user) {
    (void)user;
    return session_stopped();
}

static int run(session *s, const options *o, const char *name) {
    reproduce_result result;
    reproduce_request r = {.out = o->out,
                           .docs = o->docs,
                           .recogniser = o->recogniser ? o->recogniser : REPRODUCE_RECOGNISER,
                           .size = o->quick ? REPRODUCE_QUICK : REPRODUCE_FULL,
                           .threads = o->common.threads,
                           .seed = (uint64_t)o->seed,
                           .precision = (calo_precision)o->common.precision,
                           .log = say,
                           .cancelled = is_stopped,
                           .user = s};
    calo_status code = reproduce(name, &r, &result);
    if (code == CALO_ERR_CANCELLED) return session_end(s, code);
    if (code) return session_fail(s, (int)code, "%s", result.message);
    int hold = result.claims - result.broken;
    if (o->common.json) {
        printf("{\"event\":\"done\",\"claims\":%d,\"hold\":%d,\"unexpected\":%d,\"table\":", result.claims,
               hold, result.unexpected);
        print_json_string(result.table);
        puts("}");
    } else {
        printf("%s\n%d of %d claims hold\n", result.table, hold, result.claims);
    }
    calo_free(result.table);
    return result.unexpected ? 1 : 0;
}
#else
static int run(session *s, const options *o, const char *name) {
    (void)o, (void)name;
    return session_fail(
        s, CALO_ERR_USAGE,
        "this program was built without the picture world, which training pictures come from: "
        "install libcairo2-dev and build with -Dworld=enabled");
}
#endif

int cmd_reproduce(int argc, char **argv) {
    options o = {.common = common_defaults(), .out = "build/reproduce", .seed = 1};
    o.common.precision = CALO_PRECISION_AUTO;
    session s;
    int n = session_options(&REPRODUCE_LINE, &o.common, argc, argv);
    if (n < 0) return options_code(n);
    int code = session_open(&s, &o.common, CALO_PRECISION_F32, CALO_LOG_INFO);
    if (!code && !n)
        code = session_fail(&s, CALO_ERR_USAGE, "reproduce needs a name: zsnr");
    else if (!code)
        code = run(&s, &o, argv[0]);
    session_close(&s);
    return code;
}
