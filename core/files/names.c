#include "core/files/names.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Where a name differs from the row's pattern.
typedef struct {
    int i, j;
    const char *rest; // what "*" stands for; NULL: the pattern has none
} captured;

enum { MAX_DIGITS = 4 };

// Reads a number without leading zeros; NULL where there is none.
static const char *read_number(const char *name, int *value) {
    size_t digits = strspn(name, "0123456789");
    if (!digits || digits > MAX_DIGITS || (name[0] == '0' && digits > 1)) return NULL;
    *value = atoi(name);
    return name + digits;
}

static bool match(const char *pattern, const char *name, captured *c) {
    *c = (captured){0};
    while (*pattern) {
        if (!strcmp(pattern, "*")) return c->rest = name, true;
        if (*pattern == '{') {
            if (!(name = read_number(name, pattern[1] == 'i' ? &c->i : &c->j))) return false;
            pattern += 3;
        } else if (*pattern++ != *name++) {
            return false;
        }
    }
    return !*name;
}

// -1: the network has no such block, or the row a wrong word.
static int number_of(const file_names *n, const captured *c, const char *word, size_t length) {
    const struct {
        const char *word;
        int value;
    } NUMBERS[] = {
        {"i", c->i},
        {"j", c->j},
        {"i+1", c->i + 1},
        {"down", c->j < n->layers ? 1 + (n->layers + 1) * c->i + c->j : -1},
        {"downsampler", (n->layers + 1) * (c->i + 1)},
        {"up", c->j <= n->layers ? (n->layers + 1) * c->i + c->j : -1},
        {"upsampler", (n->layers + 1) * c->i + n->layers},
        {"last", n->levels - 1 - c->i},
    };
    for (size_t k = 0; k < sizeof NUMBERS / sizeof *NUMBERS; k++)
        if (strlen(NUMBERS[k].word) == length && !strncmp(NUMBERS[k].word, word, length))
            return NUMBERS[k].value;
    return -1;
}

static bool append(char *out, const char *text, size_t n) {
    size_t at = strlen(out);
    if (at + n >= NAME_SIZE) return false;
    memcpy(out + at, text, n);
    out[at + n] = 0;
    return true;
}

static bool append_rest(const file_names *n, const name_row *row, const char *rest, char *out,
                        tensor_view *view);

static bool append_row(const file_names *n, const name_row *row, const captured *c, char *out,
                       tensor_view *view) {
    char number[16];
    *view = row->view;
    for (const char *p = row->theirs; *p;) {
        size_t plain = strcspn(p, "{*");
        if (plain) {
            if (!append(out, p, plain)) return false;
            p += plain;
        } else if (*p == '*') {
            return append_rest(n, row, c->rest, out, view);
        } else {
            size_t length = strcspn(p + 1, "}");
            int value = number_of(n, c, p + 1, length);
            if (value < 0) return false;
            snprintf(number, sizeof number, "%d", value);
            if (!append(out, number, strlen(number))) return false;
            p += length + 2;
        }
    }
    return true;
}

static bool append_rest(const file_names *n, const name_row *row, const char *rest, char *out,
                        tensor_view *view) {
    captured c;
    for (const name_row *inner = row->rest; inner && inner->ours; inner++)
        if (match(inner->ours, rest, &c)) return append_row(n, inner, &c, out, view);
    return append(out, rest, strlen(rest));
}

bool names_translate(const file_names *names, const name_row *row, const char *ours, char theirs[NAME_SIZE],
                     tensor_view *view) {
    captured c;
    theirs[0] = 0;
    return match(row->ours, ours, &c) && append(theirs, names->prefix, strlen(names->prefix)) &&
           append_row(names, row, &c, theirs, view);
}
