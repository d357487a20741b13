#include "cli/commands.h"
#include "cli/standard.h"
#include "core/calotype.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int help(FILE *to) {
    fputs("usage: calotype COMMAND [OPTION...]\n\n", to);
    for (const command *c = COMMANDS; c->name; c++) fprintf(to, "  %-10s  %s\n", c->name, c->summary);
    fputs("\n  calotype COMMAND --help lists a command's options; calotype --version [--json] prints the "
          "version.\n\n"
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

// jansson 2.14 does not notice when its lexer's buffer cannot grow, reads on with what is missing and may
// write behind it. So a program of ours ends there; its outputs have their names only once they are whole.
static void *json_memory(size_t n) {
    void *p = malloc(n);
    if (p) return p;
    static const char text[] = "calotype: out of memory\n";
    if (write(STDERR_FILENO, text, sizeof text - 1) < 0) _exit(CALO_ERR_TEMP);
    _exit(CALO_ERR_TEMP);
}

static int version(bool json) {
    if (!json) return printf("calotype %s\n", calo_version()) < 0;
    char *text = calo_build();
    int code = !text ? CALO_ERR_TEMP : printf("%s\n", text) < 0;
    calo_free(text);
    return code;
}

int main(int argc, char **argv) {
    standard_hold();
    json_set_alloc_funcs(json_memory, free);
    if (argc < 2) return help(stderr);
    const char *name = argv[1];
    if (!strcmp(name, "--help") || !strcmp(name, "-h") || !strcmp(name, "help")) return help(stdout);
    if (!strcmp(name, "--version") || !strcmp(name, "-V"))
        return version(argc > 2 && !strcmp(argv[2], "--json"));
    const command *c = command_find(name);
    int code = c ? c->run(argc - 1, argv + 1) : unknown(name);
    if (!fflush(stdout) && !ferror(stdout)) return code;
    fputs("calotype: the results cannot be written to standard output\n", stderr);
    return code ? code : CALO_ERR_IO;
}
