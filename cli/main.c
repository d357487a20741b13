#include "cli/commands.h"
#include "core/calotype.h"

#include <stdio.h>
#include <string.h>

static int help(FILE *to) {
    fputs("usage: calotype COMMAND [OPTION...]\n\n", to);
    for (const command *c = COMMANDS; c->name; c++) fprintf(to, "  %-10s  %s\n", c->name, c->summary);
    fputs("\n  calotype COMMAND --help lists a command's options; calotype --version prints the version.\n\n"
          "example: calotype txt2img -p \"a red balloon over a green hill, night\" -o balloon.png\n",
          to);
    return to == stderr ? CALO_ERR_USAGE : 0;
}

static int unknown(const char *name) {
    enum { MOST = 64 };
    const char *known[MOST + 1] = {0};
    char hint[96];
    for (int i = 0; i < MOST && COMMANDS[i].name; i++) known[i] = COMMANDS[i].name;
    options_suggest(name, known, "", hint, sizeof hint);
    fprintf(stderr, "calotype: unknown command '%s'%s; calotype --help lists them\n", name, hint);
    return CALO_ERR_USAGE;
}

int main(int argc, char **argv) {
    if (argc < 2) return help(stderr);
    const char *name = argv[1];
    if (!strcmp(name, "--help") || !strcmp(name, "-h") || !strcmp(name, "help")) return help(stdout);
    if (!strcmp(name, "--version") || !strcmp(name, "-V")) return printf("calotype %s\n", calo_version()) < 0;
    const command *c = command_find(name);
    return c ? c->run(argc - 1, argv + 1) : unknown(name);
}
