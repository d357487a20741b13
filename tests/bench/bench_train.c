// Trains as `calotype train` does and tells at the end where the time went:
//
//     bench_train CONFIG vae|text2img|finetune [--resume]
#include "assets/world/source.h"
#include "core/train/train.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

static volatile sig_atomic_t interrupted;
static void interrupt(int number) { interrupted = number; }
static bool cancelled(void *user) { return (void)user, interrupted != 0; }

static void put(void *user, log_level level, const char *text) {
    (void)level;
    fprintf(user, "%s\n", text);
}

int main(int argc, char **argv) {
    static const char *const kinds[] = {"vae", "text2img", "finetune"};
    log_sink log = {put, stderr, LOG_LEVEL_DEBUG};
    train_hooks hooks = {.log = &log, .cancelled = cancelled, .open_source = world_source_open};
    train_config c;
    error err = {0};
    if (argc < 3) return fputs("bench_train CONFIG vae|text2img|finetune [--resume]\n", stderr), ERR_USAGE;
    signal(SIGINT, interrupt);
    status s = train_config_load(&c, argv[1], &err);
    for (int k = 0; k < 3; k++)
        if (!strcmp(argv[2], kinds[k])) c.kind = (train_kind)k;
    c.resume = argc > 3;
    c.profile = true;
    if (!s) s = train_run(&c, &hooks, &err);
    train_config_free(&c);
    if (s) fprintf(stderr, "%s\n", err.text);
    return s;
}
