// Command line options as data: one table for each command gives its parser and its help.
#pragma once
#include <stdbool.h>
#include <stddef.h>

typedef enum {
    OPTION_FLAG,   // bool: set to true
    OPTION_SET,    // int: set to `value`
    OPTION_TEXT,   // const char *
    OPTION_INT,    // int in [min, max]
    OPTION_LONG,   // long long in [min, max]
    OPTION_REAL,   // double in [min, max]
    OPTION_CHOICE, // int: index in `choices`
} option_kind;

typedef struct {
    char letter; // 0 for none
    const char *name;
    option_kind kind;
    size_t offset;    // of the variable in the command's struct
    const char *what; // the argument's name in the help
    const char *help; // NULL: another spelling that the help does not show
    double min, max;
    int value;
    const char *const *choices; // NULL-terminated
} option;

typedef struct {
    const char *name, *usage, *summary, *notes; // notes may be NULL
    const option *options[2];                   // each ended by a row without a name; the second may be NULL
    int max_operands;
} command_line;

// Fills the struct behind `dst`. Returns the number of operands, which are moved to argv[0 ..], or -1 after
// an error was printed, or -2 after the help was. "--" ends the options.
int options_parse(const command_line *c, void *dst, int argc, char **argv);
// "(did you mean --steps?)" or "" for a name that is close to one of a NULL-terminated list.
void options_suggest(const char *name, const char *const *known, const char *dashes, char *out, size_t size);
