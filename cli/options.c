#include "cli/options.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_OPTIONS = 64, HELP_COLUMN = 34 };

// Row i of both tables together; NULL behind the last.
static const option *row(const command_line *c, int i) {
    for (int t = 0; t < 2 && c->options[t]; t++) {
        const option *o = c->options[t];
        for (; o->name; o++)
            if (i-- == 0) return o;
    }
    return NULL;
}

static bool takes_value(const option *o) { return o->kind != OPTION_FLAG && o->kind != OPTION_SET; }

// ---- help

static void print_row(const option *o) {
    char left[128], letter[5] = "    ";
    if (o->letter) snprintf(letter, sizeof letter, "-%c, ", o->letter);
    int n = snprintf(left, sizeof left, "  %s--%s%s%s", letter, o->name, takes_value(o) ? " " : "",
                     takes_value(o) ? o->what : "");
    printf("%s%*s%s\n", left, n < HELP_COLUMN ? HELP_COLUMN - n : 1, "", o->help);
}

static void print_help(const command_line *c) {
    printf("usage: calotype %s %s\n\n%s\n\n", c->name, c->usage, c->summary);
    for (int i = 0; row(c, i); i++)
        if (row(c, i)->help) print_row(row(c, i));
    printf("  -h, --help                      this text\n");
    if (c->notes) printf("\n%s\n", c->notes);
}

// ---- values

static int complain(const option *o, const char *arg) {
    if (o->kind == OPTION_CHOICE) {
        fprintf(stderr, "calotype: --%s is '%s', not one of", o->name, arg);
        for (const char *const *s = o->choices; *s; s++) fprintf(stderr, " %s", *s);
        fputc('\n', stderr);
    } else {
        fprintf(stderr, "calotype: --%s is '%s', not a%s number from %.10g to %.10g\n", o->name, arg,
                o->kind == OPTION_REAL ? "" : " whole", o->min, o->max);
    }
    return -1;
}

static int store_choice(const option *o, int *to, const char *arg) {
    for (int i = 0; o->choices[i]; i++)
        if (!strcmp(arg, o->choices[i])) return *to = i, 0;
    return complain(o, arg);
}

static int store_whole(const option *o, char *to, const char *arg) {
    char *end;
    errno = 0;
    long long v = strtoll(arg, &end, 10);
    if (end == arg || *end || errno || (double)v < o->min || (double)v > o->max) return complain(o, arg);
    if (o->kind == OPTION_INT)
        memcpy(to, &(int){(int)v}, sizeof(int));
    else
        memcpy(to, &v, sizeof v);
    return 0;
}

static int store_real(const option *o, double *to, const char *arg) {
    char *end;
    double v = strtod(arg, &end);
    if (end == arg || *end || !(v >= o->min && v <= o->max)) return complain(o, arg);
    *to = v;
    return 0;
}

static int store(const option *o, void *dst, const char *arg) {
    char *to = (char *)dst + o->offset;
    switch (o->kind) {
    case OPTION_FLAG:
        *(bool *)to = true;
        return 0;
    case OPTION_SET:
        *(int *)(void *)to = o->value;
        return 0;
    case OPTION_TEXT:
        *(const char **)(void *)to = arg;
        return 0;
    case OPTION_REAL:
        return store_real(o, (double *)(void *)to, arg);
    case OPTION_CHOICE:
        return store_choice(o, (int *)(void *)to, arg);
    default:
        return store_whole(o, to, arg);
    }
}

// ---- near misses

static int least(int a, int b) { return a < b ? a : b; }

// Number of letters to insert, drop, change or swap (Damerau-Levenshtein, adjacent swaps).
static int distance(const char *a, const char *b) {
    enum { MAX = 32 };
    int n = (int)strlen(a), m = (int)strlen(b), d[MAX + 1][MAX + 1];
    if (n > MAX || m > MAX) return MAX;
    for (int i = 0; i <= n; i++)
        for (int j = 0; j <= m; j++) {
            d[i][j] = i && j ? d[i - 1][j - 1] + (a[i - 1] != b[j - 1]) : i + j;
            if (i && j) d[i][j] = least(d[i][j], least(d[i - 1][j], d[i][j - 1]) + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                d[i][j] = least(d[i][j], d[i - 2][j - 2] + 1);
        }
    return d[n][m];
}

void options_suggest(const char *name, const char *const *known, const char *dashes, char *out, size_t size) {
    const char *best = NULL;
    int nearest = (int)strlen(name) / 3 + 1; // farther is no slip of the finger
    for (; *known; known++) {
        int d = distance(name, *known);
        if (d > nearest || (best && d == nearest)) continue;
        nearest = d;
        best = *known;
    }
    out[0] = 0;
    if (best) snprintf(out, size, " (did you mean %s%s?)", dashes, best);
}

static int unknown_option(const command_line *c, const char *arg) {
    const char *known[MAX_OPTIONS + 1] = {0};
    char name[64], hint[96];
    for (int i = 0; i < MAX_OPTIONS && row(c, i); i++) known[i] = row(c, i)->name;
    snprintf(name, sizeof name, "%.*s", (int)strcspn(arg + strspn(arg, "-"), "="), arg + strspn(arg, "-"));
    options_suggest(name, known, "--", hint, sizeof hint);
    fprintf(stderr, "calotype %s: unknown option %s%s\n", c->name, arg, strlen(name) > 1 ? hint : "");
    return -1;
}

// ---- parsing

static int wrong_option(const command_line *c, int code, const char *arg) {
    if (code == ':') {
        fprintf(stderr, "calotype %s: %s needs a value\n", c->name, arg);
        return -1;
    }
    if (optopt && optopt < 256) { // a letter, or a flag given a value
        char letter[] = {'-', (char)optopt, 0};
        return unknown_option(c, letter);
    }
    return unknown_option(c, arg);
}

int options_parse(const command_line *c, void *dst, int argc, char **argv) {
    struct option longs[MAX_OPTIONS + 2] = {0};
    char letters[2 * MAX_OPTIONS + 4] = ":h";
    int n = 0, code;
    for (; n < MAX_OPTIONS && row(c, n); n++) {
        const option *o = row(c, n);
        longs[n] = (struct option){o->name, takes_value(o), NULL, 256 + n};
        if (o->letter) strcat(letters, (char[]){o->letter, takes_value(o) ? ':' : 0, 0});
    }
    longs[n] = (struct option){"help", 0, NULL, 'h'};
    opterr = 0;
    optind = 0; // glibc: start anew
    while ((code = getopt_long(argc, argv, letters, longs, NULL)) != -1) {
        if (code == 'h') return print_help(c), -2;
        if (code == '?' || code == ':') return wrong_option(c, code, argv[optind - 1]);
        const option *o = NULL;
        for (int i = 0; row(c, i); i++)
            if (code == 256 + i || (code < 256 && code == row(c, i)->letter)) o = row(c, i);
        if (!o || store(o, dst, optarg)) return -1;
    }
    n = argc - optind;
    if (n > c->max_operands) {
        fprintf(stderr, "calotype %s: '%s' is one operand too many\n", c->name,
                argv[optind + c->max_operands]);
        return -1;
    }
    memmove(argv, argv + optind, (size_t)n * sizeof *argv);
    return n;
}
