// calotype man, completion, schema: what the tables of options say, in the languages of other programs.
#include "cli/commands.h"
#include "core/calotype.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

const command_line MAN_LINE = {
    "man", "[COMMAND]", "Prints the manual page of calotype or of one command, for man -l -.",
    NULL,  {NULL},      1};
const command_line COMPLETION_LINE = {
    "completion",
    "bash|zsh|fish",
    "Prints the completions of a shell.",
    "  bash  calotype completion bash > ~/.local/share/bash-completion/completions/calotype\n"
    "  zsh   calotype completion zsh > \"${fpath[1]}/_calotype\"\n"
    "  fish  calotype completion fish > ~/.config/fish/completions/calotype.fish",
    {NULL},
    1};
const command_line SCHEMA_LINE = {
    "schema",
    "",
    "Prints the JSON schema of the configuration file; a command's options are below $defs.",
    NULL,
    {NULL},
    0};

static const option *row(const command *c, int i) { return options_at(c->line, i); }

static int usage(const command_line *line) {
    fprintf(stderr, "calotype: usage: calotype %s %s\n", line->name, line->usage);
    return CALO_ERR_USAGE;
}

// ---- manual pages (man(7))

// Text of a line: a leading dot or quote would be a request, '-' a typographic hyphen.
static void man_text(const char *s) {
    bool begins = true;
    for (; *s; s++) {
        if (begins && (*s == '.' || *s == '\'')) fputs("\\&", stdout);
        if (*s == '-' || *s == '\\')
            fputs(*s == '-' ? "\\-" : "\\e", stdout);
        else
            putchar(*s);
        begins = *s == '\n';
    }
}

static void man_section(const char *title, const char *text) {
    printf(".SH %s\n", title);
    man_text(text);
    putchar('\n');
}

static void man_option(const option *o) {
    char synopsis[96], variable[96];
    option_synopsis(o, synopsis, sizeof synopsis);
    option_variable(o, variable, sizeof variable);
    puts(".TP");
    fputs(".B ", stdout);
    if (o->letter) printf("\\-%c, ", o->letter);
    man_text(synopsis);
    putchar('\n');
    man_text(o->help);
    for (int i = 0; o->names && o->names(i); i++) {
        fputs(i ? ", " : ": ", stdout);
        man_text(o->names(i));
    }
    printf("\n[%s]\n", variable);
}

static void man_environment(void) {
    man_section("ENVIRONMENT",
                "Each option is also read from the variable in brackets behind it; a flag is set by 1, true, "
                "yes or on. "
                "NO_COLOR keeps colours away. CALOTYPE_DATA names the folder of the model that comes along.");
    man_section("FILES",
                "$XDG_CONFIG_HOME/calotype/config.json (~/.config/calotype/config.json) holds long names of "
                "options and their values as a JSON object, and below a command's name what is for that "
                "command only. Flags win over the environment, and that over the file.");
    puts(".SH \"EXIT STATUS\"\n0 done, 2 wrong usage, 65 bad input or model, 66 input missing, 70 a bug, 73 "
         "output cannot "
         "be created,\n74 reading or writing failed, 75 short of memory or disk, 130 and 143 stopped by a "
         "signal.");
}

static void man_command(const command *c) {
    const option *o;
    printf(".TH CALOTYPE\\-%s 1 \"\" \"calotype %s\"\n.SH NAME\ncalotype\\-%s \\- %s\n", c->name,
           calo_version(), c->name, c->summary);
    printf(".SH SYNOPSIS\n.B calotype %s\n", c->name);
    man_text(c->line->usage);
    putchar('\n');
    man_section("DESCRIPTION", c->line->summary);
    if (c->line->notes) {
        puts(".PP\n.nf");
        man_text(c->line->notes);
        puts("\n.fi");
    }
    if (row(c, 0)) puts(".SH OPTIONS");
    for (int i = 0; (o = row(c, i)); i++)
        if (o->help) man_option(o);
    man_environment();
    puts(".SH \"SEE ALSO\"\n.BR calotype (1)");
}

static void man_program(void) {
    printf(".TH CALOTYPE 1 \"\" \"calotype %s\"\n.SH NAME\ncalotype \\- pictures from text\n.SH SYNOPSIS\n.B "
           "calotype\n"
           "COMMAND [OPTION...]\n.SH COMMANDS\n",
           calo_version());
    for (const command *c = COMMANDS; c->name; c++)
        printf(".TP\n.BR calotype\\-%s (1)\n%s\n", c->name, c->summary);
    man_environment();
}

int cmd_man(int argc, char **argv) {
    int n = options_parse(&MAN_LINE, NULL, argc, argv);
    if (n < 0) return options_code(n);
    const command *c = n ? command_find(argv[0]) : NULL;
    if (n && !c) return usage(&MAN_LINE);
    if (c)
        man_command(c);
    else
        man_program();
    return 0;
}

// ---- completions

// What stands behind an option: its choices, names of the library, files or folders.
static bool is_file(const option *o) { return !strcmp(o->what, "FILE") || !strcmp(o->what, "PATH"); }
static bool is_folder(const option *o) { return !strcmp(o->what, "DIR"); }

static const char *value_at(const option *o, int i) {
    return o->choices ? o->choices[i] : o->names ? o->names(i) : NULL;
}

static void print_values(const option *o) {
    for (int i = 0; value_at(o, i); i++) printf("%s%s", i ? " " : "", value_at(o, i));
}

static void print_commands(void) {
    for (const command *c = COMMANDS; c->name; c++) printf("%s%s", c == COMMANDS ? "" : " ", c->name);
}

static void bash_values(const command *c) {
    const option *o;
    for (int i = 0; (o = row(c, i)); i++) {
        if (!o->help || !option_takes_value(o)) continue;
        printf("    %s:--%s", c->name, o->name);
        if (o->letter) printf("|%s:-%c", c->name, o->letter);
        if (value_at(o, 0)) {
            fputs(") COMPREPLY=($(compgen -W '", stdout);
            print_values(o);
            puts("' -- \"$cur\")); return ;;");
        } else {
            printf(") %s return ;;\n",
                   is_file(o)     ? "compopt -o filenames; COMPREPLY=($(compgen -f -- \"$cur\"));"
                   : is_folder(o) ? "compopt -o filenames; COMPREPLY=($(compgen -d -- \"$cur\"));"
                                  : "");
        }
    }
}

static void bash_flags(const command *c) {
    const option *o;
    printf("    %s) flags='--help", c->name);
    for (int i = 0; (o = row(c, i)); i++)
        if (o->help) printf(" --%s", o->name);
    puts("' ;;");
}

// With "=" among the characters that break words, bash hands over "--name", "=" and the value apart.
static void bash(void) {
    puts("_calotype() {\n"
         "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} "
         "command=${COMP_WORDS[1]} flags=\n"
         "    COMPREPLY=()\n"
         "    if [ \"$COMP_CWORD\" = 1 ]; then");
    fputs("        COMPREPLY=($(compgen -W '", stdout);
    print_commands();
    puts("' -- \"$cur\")); return\n"
         "    fi\n"
         "    if [ \"$cur\" = = ]; then cur=; elif [ \"$prev\" = = ]; then prev=${COMP_WORDS[COMP_CWORD - "
         "2]}; fi\n"
         "    case $command:$prev in");
    for (const command *c = COMMANDS; c->name; c++) bash_values(c);
    puts("    esac\n    case $command in");
    for (const command *c = COMMANDS; c->name; c++) bash_flags(c);
    puts("    esac\n"
         "    case $cur in\n"
         "    -*) COMPREPLY=($(compgen -W \"$flags\" -- \"$cur\")) ;;\n"
         "    *) compopt -o filenames; COMPREPLY=($(compgen -f -- \"$cur\")) ;;\n"
         "    esac\n"
         "}\n"
         "complete -F _calotype calotype");
}

// Text between single quotes; `also` are characters that take a backslash there.
static void quoted(const char *s, const char *also) {
    for (; *s; s++) {
        if (*s == '\'')
            fputs("'\\''", stdout);
        else if (strchr(also, *s))
            printf("\\%c", *s);
        else
            putchar(*s == '\n' ? ' ' : *s);
    }
}

static void zsh_option(const option *o) {
    if (o->letter)
        printf(" \\\n      '(-%c --%s)'{-%c%s,--%s%s}'[", o->letter, o->name, o->letter,
               option_takes_value(o) ? "+" : "", o->name, option_takes_value(o) ? "=" : "");
    else
        printf(" \\\n      '--%s%s[", o->name, !option_takes_value(o) ? "" : o->alone ? "=-" : "=");
    quoted(o->help, "[]:\\");
    putchar(']');
    if (option_takes_value(o)) {
        printf("%s", o->alone ? "::" : ":");
        quoted(o->what, ":\\");
        putchar(':');
        if (value_at(o, 0)) {
            putchar('(');
            print_values(o);
            putchar(')');
        } else if (is_file(o) || is_folder(o)) {
            fputs(is_file(o) ? "_files" : "_files -/", stdout);
        }
    }
    putchar('\'');
}

static void zsh(void) {
    const option *o;
    puts("#compdef calotype\n"
         "_calotype() {\n"
         "  local -a commands\n"
         "  commands=(");
    for (const command *c = COMMANDS; c->name; c++) {
        printf("    '%s:", c->name);
        quoted(c->summary, ":");
        puts("'");
    }
    puts("  )\n"
         "  if (( CURRENT == 2 )); then _describe command commands; return; fi\n"
         "  shift words; (( CURRENT-- ))\n"
         "  case $words[1] in");
    for (const command *c = COMMANDS; c->name; c++) {
        printf("  %s) _arguments -s '--help[this text]'", c->name);
        for (int i = 0; (o = row(c, i)); i++)
            if (o->help) zsh_option(o);
        puts(" '*:file:_files' ;;");
    }
    puts("  esac\n}\n_calotype \"$@\"");
}

static void fish_option(const command *c, const option *o) {
    printf("complete -c calotype -n '__fish_seen_subcommand_from %s' -l %s", c->name, o->name);
    if (o->letter) printf(" -s %c", o->letter);
    if (option_takes_value(o)) fputs(o->alone ? "" : is_file(o) || is_folder(o) ? " -r -F" : " -x", stdout);
    if (value_at(o, 0)) {
        fputs(" -a '", stdout);
        print_values(o);
        putchar('\'');
    }
    fputs(" -d '", stdout);
    quoted(o->help, "\\");
    puts("'");
}

static void fish(void) {
    const option *o;
    for (const command *c = COMMANDS; c->name; c++) {
        printf("complete -c calotype -n __fish_use_subcommand -f -a %s -d '", c->name);
        quoted(c->summary, "\\");
        puts("'");
        for (int i = 0; (o = row(c, i)); i++)
            if (o->help) fish_option(c, o);
    }
}

int cmd_completion(int argc, char **argv) {
    static const struct {
        const char *name;
        void (*print)(void);
    } SHELLS[] = {{"bash", bash}, {"zsh", zsh}, {"fish", fish}};
    int n = options_parse(&COMPLETION_LINE, NULL, argc, argv);
    if (n < 0) return options_code(n);
    for (size_t i = 0; n && i < sizeof SHELLS / sizeof *SHELLS; i++)
        if (!strcmp(argv[0], SHELLS[i].name)) return SHELLS[i].print(), 0;
    return usage(&COMPLETION_LINE);
}

// ---- JSON schema (draft 2020-12)

static json_t *choices_schema(const option *o) {
    json_t *values = json_array();
    for (int i = 0; o->choices[i]; i++) json_array_append_new(values, json_string(o->choices[i]));
    if (!o->alone) return json_pack("{s:o}", "enum", values);
    return json_pack("{s:[{s:o},{s:s}]}", "anyOf", "enum", values, "type", "boolean");
}

static json_t *bound(double v) {
    return v == (double)(json_int_t)v ? json_integer((json_int_t)v) : json_real(v);
}

static json_t *option_schema(const option *o) {
    json_t *j;
    switch (o->kind) {
    case OPTION_FLAG:
    case OPTION_SET:
        j = json_pack("{s:s}", "type", "boolean");
        break;
    case OPTION_TEXT:
    case OPTION_SIZE:
        j = json_pack("{s:s}", "type", "string");
        break;
    case OPTION_BYTES:
        j = json_pack("{s:[s,s]}", "type", "string", "integer");
        break;
    case OPTION_CHOICE:
        j = choices_schema(o);
        break;
    default:
        j = json_pack("{s:s, s:o, s:o}", "type", o->kind == OPTION_REAL ? "number" : "integer", "minimum",
                      bound(o->min), "maximum", bound(o->max));
    }
    if (o->help) json_object_set_new(j, "description", json_string(o->help));
    return j;
}

int cmd_schema(int argc, char **argv) {
    int n = options_parse(&SCHEMA_LINE, NULL, argc, argv);
    if (n < 0) return options_code(n);
    json_t *all = json_object(), *defs = json_object();
    const option *o;
    for (const command *c = COMMANDS; c->name; c++) {
        if (!row(c, 0)) continue;
        json_t *own = json_object();
        char ref[64];
        snprintf(ref, sizeof ref, "#/$defs/%s", c->name);
        for (int i = 0; (o = row(c, i)); i++) {
            json_object_set_new(own, o->name, option_schema(o));
            if (!json_object_get(all, o->name)) json_object_set_new(all, o->name, option_schema(o));
        }
        json_object_set_new(all, c->name, json_pack("{s:s}", "$ref", ref));
        json_object_set_new(defs, c->name,
                            json_pack("{s:s, s:s, s:o, s:b}", "type", "object", "description", c->summary,
                                      "properties", own, "additionalProperties", 0));
    }
    json_t *root =
        json_pack("{s:s, s:s, s:s, s:o, s:b, s:o}", "$schema", "https://json-schema.org/draft/2020-12/schema",
                  "title", "calotype configuration", "type", "object", "properties", all,
                  "additionalProperties", 0, "$defs", defs);
    json_dumpf(root, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(root);
    return 0;
}
