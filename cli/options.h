// Command line options as data: one table for each command gives its parser, its help, its manual page, its
// completions, its environment variables and the keys of a configuration file.
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

typedef enum {
    OPTION_FLAG,   // bool: set to true
    OPTION_SET,    // int: set to `value`
    OPTION_TEXT,   // const char *
    OPTION_TEXTS,  // option_texts: an option that may be given more than once
    OPTION_INT,    // int in [min, max]
    OPTION_LONG,   // long long in [min, max]
    OPTION_REAL,   // double in [min, max]
    OPTION_BYTES,  // long long in [min, max]: 700M, 0.7G, 1.5GiB, 700000000
    OPTION_SIZE,   // two ints in [min, max], width and height: 768x512
    OPTION_CHOICE, // int: index in `choices`
} option_kind;

// As flags: all of them, in order. From elsewhere: one.
enum { OPTION_MAX_TEXTS = 32 };
typedef struct {
    const char *at[OPTION_MAX_TEXTS];
    int n;
} option_texts;

typedef struct {
    char letter; // 0 for none
    const char *name;
    option_kind kind;
    size_t offset;    // of the variable in the command's struct
    const char *what; // the argument's name in the help
    const char *help; // NULL: another spelling that the help does not show
    double min, max;
    int value;
    const char *const *choices;  // NULL-terminated
    const char *alone;           // a CHOICE that may stand without "=VALUE" means this one then
    const char *(*names)(int i); // values of a TEXT worth offering; NULL behind the last
    bool memory;                 // how much memory a picture takes depends on it
} option;

typedef struct {
    const char *name, *usage, *summary, *notes; // notes may be NULL
    const option *options[4];                   // each ended by a row without a name; the last may be NULL
    int max_operands;
    const option *memory_of; // behind them, the rows of this table that memory depends on; may be NULL
} command_line;

// ---- the table

const option *options_at(const command_line *c, int i); // row i of all tables; NULL behind the last
// By its long name, in which '_' may stand for '-'; NULL if there is none.
const option *options_find(const command_line *c, const char *name);
bool option_takes_value(const option *o);
// "--show[=WHERE]", "--steps N"
void option_synopsis(const option *o, char *out, size_t size);
// "CALOTYPE_CFG_SCALE"
void option_variable(const option *o, char *out, size_t size);

// ---- filling the struct behind `dst`; each returns -1 after an error was printed

// Returns the number of operands, which are moved to argv[0 ..], or -1, -2 after the help was printed, -3
// when memory is short. "--" ends the options.
int options_parse(const command_line *c, void *dst, int argc, char **argv);
// The same, but argv stays as it is.
int options_peek(const command_line *c, void *dst, int argc, char *const *argv);
// The exit code that such a number stands for; -4 is a file that cannot be opened.
int options_code(int n);
// From the environment. A flag is set by 1, true, yes or on, and cleared by 0, false, no, off or nothing.
int options_variables(const command_line *c, void *dst);
// From an object whose keys are long names. Numbers, strings and booleans as the option asks for; null leaves
// it alone. Texts belong to `values`. `where` begins the messages. With a `message` of OPTIONS_MESSAGE bytes
// nothing is printed: the message goes there.
enum { OPTIONS_MESSAGE = 2000 };
int options_json(const command_line *c, void *dst, json_t *values, const char *where, char *message);

// " (did you mean --steps?)" or "" for a name that is close to one of a NULL-terminated list.
void options_suggest(const char *name, const char *const *known, const char *dashes, char *out, size_t size);
// The same among the command's options.
void options_suggest_option(const command_line *c, const char *name, const char *dashes, char *out,
                            size_t size);
