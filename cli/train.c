// calotype train: a model from pictures with captions.
#include "cli/commands.h"
#include "cli/session.h"

#include <stdio.h>

typedef struct {
    common common;
    int kind;
    bool resume, ignore_machine, ignore_config, profile, keys;
} options;

static const char *const KINDS[] = {"vae", "text2img", "finetune", NULL};

static const option OPTIONS[] = {
    {'k', "kind", OPTION_CHOICE, offsetof(options, kind), "KIND", "vae, text2img or finetune",
     .choices = KINDS},
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
    "Trains a model as a JSON file says; -m names another model folder than the file.",
    "Ctrl-C stops after the update and writes a checkpoint; --resume goes on "
    "from it. The file's keys, their defaults and\n"
    "ranges: calotype train --keys",
    {OPTIONS, COMMON_OPTIONS},
    1};

static int print_keys(session *s) {
    const calo_train_key *k;
    printf("%-18s %-12s %-24s %s\n", "key", "default", "range", "meaning (* may differ from stage to stage)");
    for (int i = 0; (k = calo_train_key_at(s->ctx, i)); i++)
        printf("%-18s %-12s %-24s %s%s\n", k->name, k->otherwise, k->range, k->help, k->stage ? " *" : "");
    return 0;
}

static int train(session *s, const options *o, const char *config) {
    calo_train_request r = calo_train_defaults();
    r.config = config;
    r.kind = KINDS[o->kind];
    r.model = o->common.model;
    r.resume = o->resume;
    r.ignore_machine = o->ignore_machine;
    r.ignore_config = o->ignore_config;
    r.profile = o->profile;
    int code = session_end(s, calo_train(s->ctx, &r));
    if (!code && o->common.json) printf("{\"event\":\"done\",\"seconds\":%.6f}\n", session_seconds(s));
    return code;
}

int cmd_train(int argc, char **argv) {
    options o = {.common = common_defaults(), .kind = -1};
    session s;
    int n = session_options(&TRAIN_LINE, &o.common, argc, argv);
    if (n < 0) return n == -1 ? CALO_ERR_USAGE : 0;
    int code = session_open(&s, &o.common, CALO_PRECISION_AUTO, CALO_LOG_INFO);
    if (!code && o.keys)
        code = print_keys(&s);
    else if (!code && (!n || o.kind < 0))
        code = session_fail(&s, CALO_ERR_USAGE,
                            "train needs a configuration file and --kind; see calotype train --help");
    else if (!code)
        code = train(&s, &o, argv[0]);
    session_close(&s);
    return code;
}
