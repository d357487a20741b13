// calotype train: a model from pictures with captions.
#include "cli/train.h"
#include "cli/commands.h"
#include "cli/leftovers.h"
#include "cli/session.h"

#include <stdio.h>
#include <string.h>

typedef struct {
    common common;
    int kind;
    bool resume, ignore_machine, ignore_config, profile, keys;
} options;

static const char *const PRECISIONS[] = {"auto", "f32", "bf16", NULL};
static const char *const KINDS[] = {"vae", "text2img", "finetune", NULL};

static const option OPTIONS[] = {
    {'k', "kind", OPTION_CHOICE, offsetof(options, kind), "KIND", "vae, text2img or finetune",
     .choices = KINDS},
    {'m', "model", OPTION_TEXT, offsetof(options, common.model), "DIR",
     "a model's folder in place of the file's \"model\""},
    {0, "precision", OPTION_CHOICE, offsetof(options, common.precision), "P",
     "f32 or bf16 in place of the file's; auto: what that says", .choices = PRECISIONS},
    {'r', "resume", OPTION_FLAG, offsetof(options, resume), NULL,
     "go on from the newest checkpoint, bit for bit"},
    {0, "ignore-machine", OPTION_FLAG, offsetof(options, ignore_machine), NULL,
     "resume with other threads or instructions too"},
    {0, "ignore-config", OPTION_FLAG, offsetof(options, ignore_config), NULL,
     "resume even if the file has changed in what was trained already"},
    {0, "profile", OPTION_FLAG, offsetof(options, profile), NULL, "tell at the end where the time went"},
    {0, "keys", OPTION_FLAG, offsetof(options, keys), NULL, "list the keys of a configuration file"},
    {0}};

const command_line TRAIN_LINE = {
    "train",
    "CONFIG --kind KIND [OPTION...]",
    "Trains a model as a JSON file says.",
    "Ctrl-C stops after the update and writes a checkpoint; --resume goes on "
    "from it. The file's keys, their defaults and\n"
    "ranges: calotype train --keys. The least that is needed, with name.txt beside each name.png:\n"
    "  {\"model\": \"FOLDER\", \"data\": \"PICTURES\", \"size\": \"512x512\", \"samples\": 20000, \"out\": "
    "\"FOLDER\"}",
    {OPTIONS, COMMON_OPTIONS},
    1};

static int print_keys(session *s) {
    const calo_train_key *k;
    printf("%-18s %-12s %-24s %s\n", "key", "default", "range", "meaning (* may differ from stage to stage)");
    for (int i = 0; (k = calo_train_key_at(s->ctx, i)); i++)
        printf("%-18s %-12s %-24s %s%s\n", k->name, k->otherwise, k->range, k->help, k->stage ? " *" : "");
    return 0;
}

// ---- progress

typedef struct {
    session s;
    double shown; // the session's second of the last bar
} job;

static void print_event(const calo_train_event *e) {
    printf("{\"event\":\"%s\",\"stage\":%d,\"stages\":%d,\"update\":%lld,\"updates\":%lld,\"step\":%lld,"
           "\"steps\":%lld",
           e->event, e->stage, e->stages, (long long)e->update, (long long)e->updates, (long long)e->step,
           (long long)e->steps);
    if (!strcmp(e->event, "update"))
        printf(",\"loss\":%.9g,\"lr\":%.6g,\"grad_norm\":%.6g,\"samples_per_second\":%.4g,\"seconds\":%.6f,"
               "\"seconds_left\":%.0f",
               e->loss, e->lr, e->grad_norm, e->samples_per_second, e->seconds, e->left);
    if (e->path) {
        printf(",\"file\":");
        print_json_string(e->path);
    }
    puts("}");
    fflush(stdout);
}

static void describe_update(const calo_train_event *e, char *out, size_t size) {
    char duration[DURATION_TEXT];
    int n = snprintf(out, size, "stage %d of %d, update %lld of %lld, loss %.4f", e->stage, e->stages,
                     (long long)e->update, (long long)e->updates, e->loss);
    if (!e->seconds) return; // the first one, which made plans
    snprintf(out + n, size - (size_t)n, ", %s left, %.3g s an update, %.4g samples/s, lr %.2e",
             duration_text(e->left, duration), e->seconds, e->samples_per_second, e->lr);
}

// Ten times a second at most: updates of small networks are quicker than terminals.
static void print_bar(job *j, const calo_train_event *e) {
    double now = session_seconds(&j->s);
    char text[300] = "  ";
    if (now - j->shown < 0.1 && e->step < e->steps) return;
    j->shown = now;
    describe_update(e, text + 2, sizeof text - 2);
    session_bar(&j->s, (double)e->step / (double)e->steps, text);
}

static void print_line(const calo_train_event *e) {
    char text[300];
    describe_update(e, text, sizeof text);
    fprintf(stderr, "%s\n", text);
}

static void show(void *user, const calo_train_event *e) {
    job *j = user;
    const common *o = j->s.options;
    bool update = !strcmp(e->event, "update");
    // what a killed run had begun to write; the model is the last, and the whole folder is looked through
    if (e->path) leftovers_remove_beside(e->path, strcmp(e->event, "model") ? 0 : 2);
    if (o->json && (!update || e->due)) print_event(e);
    if (!o->json && !strcmp(e->event, "model")) {
        session_clear(&j->s);
        puts(e->path);
    }
    if (o->json || o->quiet) return;
    if (update && session_terminal())
        print_bar(j, e);
    else if (update && e->due)
        print_line(e);
    else if (e->path && o->verbose)
        session_say(&j->s, "%s %s", e->event, e->path);
}

// ---- the command

static int train(job *j, const options *o, const char *config, train_call *call, const char *kind) {
    session *s = &j->s;
    calo_train_request r = calo_train_defaults();
    r.config = config;
    r.kind = kind;
    r.model = o->common.model;
    r.resume = o->resume;
    r.ignore_machine = o->ignore_machine;
    r.ignore_config = o->ignore_config;
    r.profile = o->profile;
    r.on_event = show;
    r.user = j;
    int code = session_end(s, call(s->ctx, &r));
    if (!code && o->common.json) printf("{\"event\":\"done\",\"seconds\":%.6f}\n", session_seconds(s));
    return code;
}

int train_command(int argc, char **argv, train_call *call, const char *kind) {
    options o = {.common = common_defaults(), .kind = -1};
    job j = {0};
    int n = session_options(&TRAIN_LINE, &o.common, argc, argv);
    if (n < 0) return options_code(n);
    int code = session_open(&j.s, &o.common, CALO_PRECISION_AUTO, CALO_LOG_INFO);
    if (o.kind >= 0) kind = KINDS[o.kind];
    if (!code && o.keys)
        code = print_keys(&j.s);
    else if (!code && (!n || !kind))
        code = session_fail(&j.s, CALO_ERR_USAGE,
                            "train needs a configuration file and --kind; see calotype train --help");
    else if (!code)
        code = train(&j, &o, argv[0], call, kind);
    session_close(&j.s);
    return code;
}

int cmd_train(int argc, char **argv) { return train_command(argc, argv, calo_train, NULL); }
