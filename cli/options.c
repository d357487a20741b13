#include "cli/options.h"

#include "cli/text.h"
#include "core/calotype.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { MAX_OPTIONS = 96, HELP_COLUMN = 34, HELP_WIDTH = 100 };

// ---- the table

const option *options_at(const command_line *c, int i) {
    enum { N_TABLES = sizeof c->options / sizeof *c->options };
    for (int t = 0; t < N_TABLES && c->options[t]; t++) {
        const option *o = c->options[t];
        for (; o->name; o++)
            if (i-- == 0) return o;
    }
    for (const option *o = c->memory_of; o && o->name; o++)
        if (o->memory && i-- == 0) return o;
    return NULL;
}

static bool same_name(const char *a, const char *b) {
    for (; *a && *b; a++, b++)
        if ((*a == '_' ? '-' : *a) != *b) return false;
    return *a == *b;
}

const option *options_find(const command_line *c, const char *name) {
    const option *o;
    for (int i = 0; (o = options_at(c, i)); i++)
        if (same_name(name, o->name)) return o;
    return NULL;
}

bool option_takes_value(const option *o) { return o->kind != OPTION_FLAG && o->kind != OPTION_SET; }

void option_synopsis(const option *o, char *out, size_t size) {
    if (!option_takes_value(o))
        snprintf(out, size, "--%s", o->name);
    else
        snprintf(out, size, o->alone ? "--%s[=%s]" : "--%s %s", o->name, o->what);
}

void option_variable(const option *o, char *out, size_t size) {
    snprintf(out, size, "CALOTYPE_%s", o->name);
    for (; *out; out++) *out = (char)(*out == '-' ? '_' : toupper((unsigned char)*out));
}

// A message to `to`, or on stderr. Names and values may come from anybody's file: control characters are not
// passed on.
__attribute__((format(printf, 2, 3))) static int complain(char *to, const char *format, ...) {
    char text[OPTIONS_MESSAGE];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    text_tame(text);
    if (to)
        memcpy(to, text, sizeof text);
    else
        fprintf(stderr, "calotype: %s\n", text);
    return -1;
}

// ---- help

static void print_row(const option *o) {
    char left[128], letter[5] = "    ", synopsis[96];
    if (o->letter) snprintf(letter, sizeof letter, "-%c, ", o->letter);
    option_synopsis(o, synopsis, sizeof synopsis);
    int n = snprintf(left, sizeof left, "  %s%s", letter, synopsis);
    printf("%s%*s%s\n", left, n < HELP_COLUMN ? HELP_COLUMN - n : 1, "", o->help);
}

// The values of an option that the library has names for.
static void print_names(const option *o) {
    int column = printf("\n--%s:", o->name);
    for (int i = 0; o->names(i); i++) {
        if (column + (int)strlen(o->names(i)) > HELP_WIDTH) column = printf("\n   ");
        column += printf(" %s", o->names(i));
    }
    putchar('\n');
}

static void print_help(const command_line *c) {
    const option *o;
    printf("usage: calotype %s %s\n\n%s\n\n", c->name, c->usage, c->summary);
    for (int i = 0; (o = options_at(c, i)); i++)
        if (o->help) print_row(o);
    puts("  -h, --help                      this text");
    for (int i = 0; (o = options_at(c, i)); i++)
        if (o->help && o->names) print_names(o);
    if (c->notes) printf("\n%s\n", c->notes);
    puts("\nOptions are also read from the environment (CALOTYPE_THREADS=2) and from a configuration file\n"
         "({\"threads\": 2}); flags win over the environment, and that over the file.");
}

// ---- values

// An option on its way into the struct; `where` names it in messages: "--steps".
typedef struct {
    const command_line *line;
    const option *o;
    void *dst;
    const char *where;
    char *message; // NULL: stderr
    bool again;    // a flag that was given before
} target;

static void *place(const target *t) { return (char *)t->dst + t->o->offset; }

static int refuse(const target *t, const char *arg) {
    const option *o = t->o;
    if (!option_takes_value(o)) return complain(t->message, "%s is '%s', not true or false", t->where, arg);
    if (o->kind == OPTION_BYTES)
        return complain(t->message, "%s is '%s', not a size such as 700M, 2.3G or 1.5GiB", t->where, arg);
    if (o->kind == OPTION_SIZE)
        return complain(t->message, "%s is '%s', not a size such as 768x512, from %.10g to %.10g", t->where,
                        arg, o->min, o->max);
    if (o->kind != OPTION_CHOICE)
        return complain(t->message, "%s is '%s', not a%s number from %.10g to %.10g", t->where, arg,
                        o->kind == OPTION_REAL ? "" : " whole", o->min, o->max);
    char all[512];
    size_t n = 0;
    for (const char *const *s = o->choices; *s && n < sizeof all; s++)
        n += (size_t)snprintf(all + n, sizeof all - n, " %s", *s);
    return complain(t->message, "%s is '%s', not one of%s", t->where, arg, all);
}

static int store_choice(const target *t, const char *arg) {
    for (int i = 0; t->o->choices[i]; i++)
        if (!strcmp(arg, t->o->choices[i])) return *(int *)place(t) = i, 0;
    return refuse(t, arg);
}

static int store_whole(const target *t, const char *arg) {
    char *end;
    errno = 0;
    long long v = strtoll(arg, &end, 10);
    if (end == arg || *end || errno || (double)v < t->o->min || (double)v > t->o->max) return refuse(t, arg);
    if (t->o->kind == OPTION_INT)
        *(int *)place(t) = (int)v;
    else
        *(long long *)place(t) = v;
    return 0;
}

static int store_real(const target *t, const char *arg) {
    char *end;
    double v = strtod(arg, &end);
    if (end == arg || *end || !(v >= t->o->min && v <= t->o->max)) return refuse(t, arg);
    *(double *)place(t) = v;
    return 0;
}

// "2.3G" and "2.3GB" are 2,300,000,000 bytes, "1GiB" is 2^30.
static int store_bytes(const target *t, const char *arg) {
    static const struct {
        const char *unit;
        double bytes;
    } UNITS[] = {{"", 1},    {"B", 1},    {"k", 1e3},       {"kB", 1e3},      {"M", 1e6},      {"MB", 1e6},
                 {"G", 1e9}, {"GB", 1e9}, {"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}};
    char *end;
    double v = strtod(arg, &end);
    for (size_t i = 0; i < sizeof UNITS / sizeof *UNITS && end > arg; i++) {
        if (strcasecmp(end, UNITS[i].unit)) continue;
        v *= UNITS[i].bytes;
        if (!(v >= t->o->min && v <= t->o->max)) break;
        return *(long long *)place(t) = (long long)v, 0;
    }
    return refuse(t, arg);
}

static int store_size(const target *t, const char *arg) {
    int side[2];
    char *end = (char *)(uintptr_t)arg;
    for (int i = 0; i < 2; i++) {
        errno = 0;
        long v = *end >= '0' && *end <= '9' ? strtol(end, &end, 10) : -1;
        if (errno || (double)v < t->o->min || (double)v > t->o->max || *end != (i ? 0 : 'x'))
            return refuse(t, arg);
        side[i] = (int)v;
        end += !i;
    }
    return memcpy(place(t), side, sizeof side), 0;
}

// The row that undoes a SET: --no-zero-snr for --zero-snr, and the other way round.
static const option *opposite(const target *t) {
    char name[64];
    const char *own = t->o->name;
    snprintf(name, sizeof name, "no-%s", own);
    const option *o = options_find(t->line, strncmp(own, "no-", 3) ? name : own + 3);
    return o && o->kind == OPTION_SET && o->offset == t->o->offset ? o : NULL;
}

static void store_truth(const target *t, bool truth) {
    const option *o = truth ? t->o : opposite(t);
    if (t->o->kind == OPTION_FLAG)
        *(bool *)place(t) = truth;
    else if (o)
        *(int *)place(t) = o->value;
}

static int store_text(const target *t, const char *arg) {
    option_texts *texts = place(t);
    if (!t->again) texts->n = 0;
    if (texts->n == OPTION_MAX_TEXTS)
        return complain(t->message, "%s is given more than %d times", t->where, OPTION_MAX_TEXTS);
    texts->at[texts->n++] = arg;
    return 0;
}

static int store(const target *t, const char *arg) {
    switch (t->o->kind) {
    case OPTION_FLAG:
    case OPTION_SET:
        return store_truth(t, true), 0;
    case OPTION_TEXT:
        *(const char **)place(t) = arg;
        return 0;
    case OPTION_TEXTS:
        return store_text(t, arg);
    case OPTION_REAL:
        return store_real(t, arg);
    case OPTION_BYTES:
        return store_bytes(t, arg);
    case OPTION_SIZE:
        return store_size(t, arg);
    case OPTION_CHOICE:
        return store_choice(t, arg ? arg : t->o->alone);
    default:
        return store_whole(t, arg);
    }
}

// ---- near misses

void options_suggest(const char *name, const char *const *known, const char *dashes, char *out, size_t size) {
    size_t n = 0;
    while (known[n]) n++;
    const char *best = calo_nearest_name(name, known, n);
    out[0] = 0;
    if (best) snprintf(out, size, " (did you mean %s%s?)", dashes, best);
}

void options_suggest_option(const command_line *c, const char *name, const char *dashes, char *out,
                            size_t size) {
    const char *known[MAX_OPTIONS + 1] = {0};
    for (int i = 0; i < MAX_OPTIONS && options_at(c, i); i++) known[i] = options_at(c, i)->name;
    options_suggest(name, known, dashes, out, size);
}

static int unknown_option(const command_line *c, const char *arg) {
    char name[64], hint[96];
    snprintf(name, sizeof name, "%.*s", (int)strcspn(arg + strspn(arg, "-"), "="), arg + strspn(arg, "-"));
    options_suggest_option(c, name, "--", hint, sizeof hint);
    return complain(NULL, "%s: unknown option %s%s", c->name, arg, strlen(name) > 1 ? hint : "");
}

// ---- flags

// What a name may be short for, into `out`: " --prompt --prompts". Returns how many there are.
static int abbreviates(const command_line *c, const char *name, char *out, size_t size) {
    const option *o;
    size_t used = 0;
    int i = 0, n = 0;
    out[0] = 0;
    do {
        o = options_at(c, i++);
        const char *known = o ? o->name : "help";
        if (!*name || strncmp(known, name, strlen(name)) || used >= size) continue;
        used += (size_t)snprintf(out + used, size - used, " --%s", known);
        n++;
    } while (o);
    return n;
}

static int unfit_name(const command_line *c, const char *arg) {
    char name[64], all[512];
    snprintf(name, sizeof name, "%.*s", (int)strcspn(arg + 2, "="), arg + 2);
    if (abbreviates(c, name, all, sizeof all) < 2) return unknown_option(c, arg);
    return complain(NULL, "%s: --%s is ambiguous, it may be any of%s", c->name, name, all);
}

static int wrong_option(const command_line *c, int code, const char *arg) {
    if (code == ':') return complain(NULL, "%s: %s needs a value", c->name, arg);
    if (optopt && optopt < 256) { // a letter, or a flag given a value
        char letter[] = {'-', (char)optopt, 0};
        return unknown_option(c, letter);
    }
    return optopt ? unknown_option(c, arg) : unfit_name(c, arg);
}

static int store_flag(const command_line *c, void *dst, const option *o, bool again) {
    char where[80];
    snprintf(where, sizeof where, "--%s", o->name);
    return store(&(target){c, o, dst, where, NULL, again}, optarg);
}

// A value that may be left out stands behind '='. Where there are no operands with which it could be confused
// it may also stand alone.
static void take_choice(const command_line *c, const option *o, char *const *argv) {
    for (const char *const *s = o->choices; o->alone && !optarg && !c->max_operands && argv[optind] && *s;
         s++)
        if (!strcmp(argv[optind], *s)) optarg = argv[optind++];
}

int options_parse(const command_line *c, void *dst, int argc, char **argv) {
    struct option longs[MAX_OPTIONS + 2] = {0};
    char letters[3 * MAX_OPTIONS + 4] = ":h";
    bool met[MAX_OPTIONS] = {false};
    int n = 0, code;
    for (; n < MAX_OPTIONS && options_at(c, n); n++) {
        const option *o = options_at(c, n);
        const char *value = !option_takes_value(o) ? "" : o->alone ? "::" : ":";
        longs[n] = (struct option){o->name, (int)strlen(value), NULL, 256 + n};
        if (o->letter) strcat(strcat(letters, (char[]){o->letter, 0}), value);
    }
    longs[n] = (struct option){"help", 0, NULL, 'h'};
    opterr = 0;
    optind = 0; // glibc: start anew
    while ((code = getopt_long(argc, argv, letters, longs, NULL)) != -1) {
        if (code == 'h') return print_help(c), -2;
        if (code == '?' || code == ':') return wrong_option(c, code, argv[optind - 1]);
        int at = -1;
        for (int i = 0; options_at(c, i); i++)
            if (code == 256 + i || (code < 256 && code == options_at(c, i)->letter)) at = i;
        if (at >= 0) take_choice(c, options_at(c, at), argv);
        if (at < 0 || store_flag(c, dst, options_at(c, at), met[at])) return -1;
        met[at] = true;
    }
    n = argc - optind;
    if (n > c->max_operands)
        return complain(NULL, "%s: '%s' is one operand too many", c->name, argv[optind + c->max_operands]);
    memmove(argv, argv + optind, (size_t)n * sizeof *argv);
    return n;
}

int options_peek(const command_line *c, void *dst, int argc, char *const *argv) {
    char **copy = calloc((size_t)argc + 1, sizeof *copy);
    if (!copy) return complain(NULL, "out of memory"), -3;
    memcpy(copy, argv, (size_t)argc * sizeof *copy);
    int n = options_parse(c, dst, argc, copy);
    free(copy);
    return n;
}

int options_code(int n) {
    return n == -1 ? CALO_ERR_USAGE : n == -3 ? CALO_ERR_TEMP : n == -4 ? CALO_ERR_NOINPUT : 0;
}

// ---- the environment

static int store_variable(const target *t, const char *text) {
    static const char *const WORDS[] = {"", "0", "false", "no", "off", "1", "true", "yes", "on"};
    enum { N_WORDS = sizeof WORDS / sizeof *WORDS, FIRST_TRUE = 5 };
    if (option_takes_value(t->o)) return *text ? store(t, text) : 0;
    for (int i = 0; i < N_WORDS; i++)
        if (!strcasecmp(text, WORDS[i])) return store_truth(t, i >= FIRST_TRUE), 0;
    return refuse(t, text);
}

int options_variables(const command_line *c, void *dst) {
    const option *o;
    char name[80];
    for (int i = 0; (o = options_at(c, i)); i++) {
        option_variable(o, name, sizeof name);
        const char *text = getenv(name);
        if (text && store_variable(&(target){c, o, dst, name, NULL, false}, text)) return -1;
    }
    return 0;
}

// ---- JSON

static int store_json(const target *t, const json_t *v) {
    char number[40];
    option_kind kind = t->o->kind;
    bool wants_number =
        kind == OPTION_INT || kind == OPTION_LONG || kind == OPTION_REAL || kind == OPTION_BYTES;
    if (!option_takes_value(t->o) && json_is_boolean(v)) return store_truth(t, json_is_true(v)), 0;
    if (t->o->alone && json_is_boolean(v)) return store_choice(t, json_is_true(v) ? t->o->alone : "off");
    bool takes_text =
        kind == OPTION_TEXT || kind == OPTION_CHOICE || kind == OPTION_BYTES || kind == OPTION_SIZE;
    if (takes_text && json_is_string(v)) return store(t, json_string_value(v));
    if (!wants_number || !json_is_number(v))
        return complain(t->message, "%s is not a %s", t->where,
                        wants_number               ? "number"
                        : option_takes_value(t->o) ? "string"
                                                   : "boolean");
    if (json_is_integer(v))
        snprintf(number, sizeof number, "%" JSON_INTEGER_FORMAT, json_integer_value(v));
    else
        snprintf(number, sizeof number, "%.17g", json_real_value(v));
    return store(t, number);
}

int options_json(const command_line *c, void *dst, json_t *values, const char *where, char *message) {
    const char *key;
    json_t *v;
    json_object_foreach(values, key, v) {
        const option *o = options_find(c, key);
        char hint[96], name[256];
        if (!o) {
            options_suggest_option(c, key, "", hint, sizeof hint);
            return complain(message, "%s: unknown key '%s'%s", where, key, hint);
        }
        snprintf(name, sizeof name, "%s: %s", where, o->name);
        if (!json_is_null(v) && store_json(&(target){c, o, dst, name, message}, v)) return -1;
    }
    return 0;
}
