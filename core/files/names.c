#include "core/files/names.h"

#include <limits.h>
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

// ---- words

// A word's number is i·a + j·b + c, for j below `end`.
typedef struct {
    int a, b, c, end;
} form;

static bool form_of(const file_names *n, const char *word, size_t length, form *f) {
    const int L = n->layers;
    const struct {
        const char *word;
        form form;
    } FORMS[] = {
        {"i", {1, 0, 0, INT_MAX}},
        {"j", {0, 1, 0, INT_MAX}},
        {"i+1", {1, 0, 1, INT_MAX}},
        {"layers", {0, 0, L, INT_MAX}},
        {"down", {L + 1, 1, 1, L}},
        {"downsampler", {L + 1, 0, L + 1, INT_MAX}},
        {"up", {L + 1, 1, 0, L + 1}},
        {"upsampler", {L + 1, 0, L, INT_MAX}},
        {"last", {-1, 0, n->levels - 1, INT_MAX}},
        {"3i", {3, 0, 0, INT_MAX}},
        {"3levels+2", {0, 0, 3 * n->levels + 2, INT_MAX}},
        {"3levels+4", {0, 0, 3 * n->levels + 4, INT_MAX}},
    };
    for (size_t k = 0; k < sizeof FORMS / sizeof *FORMS; k++) {
        if (strlen(FORMS[k].word) != length || strncmp(FORMS[k].word, word, length)) continue;
        *f = FORMS[k].form;
        return true;
    }
    return false;
}

// -1: the network has no such block, or the row a wrong word.
static int number_of(const file_names *n, const captured *c, const char *word, size_t length) {
    form f;
    return form_of(n, word, length, &f) && c->j < f.end ? f.a * c->i + f.b * c->j + f.c : -1;
}

// i and j from a word's number, if the number is one of that word at all.
static void solve(const form *f, int number, captured *c) {
    int left = number - f->c;
    if (f->a) c->i = left / f->a;
    if (f->b) c->j = f->a ? left % f->a : left;
}

// ---- patterns

static bool match(const file_names *n, const char *pattern, const char *name, captured *c) {
    *c = (captured){0};
    while (*pattern) {
        if (!strcmp(pattern, "*")) return c->rest = name, true;
        if (*pattern == '{') {
            size_t length = strcspn(pattern + 1, "}");
            int number;
            form f;
            if (!form_of(n, pattern + 1, length, &f) || !(name = read_number(name, &number))) return false;
            solve(&f, number, c);
            pattern += length + 2;
        } else if (*pattern++ != *name++) {
            return false;
        }
    }
    return !*name;
}

static bool append(char *out, const char *text, size_t n) {
    size_t at = strlen(out);
    if (at + n >= NAME_SIZE) return false;
    memcpy(out + at, text, n);
    out[at + n] = 0;
    return true;
}

// All of the pattern but the rest.
static bool append_pattern(const file_names *n, const char *pattern, const captured *c, char *out) {
    char number[16];
    for (const char *p = pattern; *p && *p != '*';) {
        size_t plain = strcspn(p, "{*"), length = strcspn(p + 1, "}");
        if (plain) {
            if (!append(out, p, plain)) return false;
            p += plain;
            continue;
        }
        int value = number_of(n, c, p + 1, length);
        if (value < 0) return false;
        snprintf(number, sizeof number, "%d", value);
        if (!append(out, number, strlen(number))) return false;
        p += length + 2;
    }
    return true;
}

// ---- rows

typedef enum { TO_THEIRS, TO_OURS } direction;

// `third`: of the rows for a third, the one that counts; VIEW_WHOLE: any.
typedef struct {
    const file_names *names;
    direction to;
    tensor_view third;
} translation;

static const char *source_of(const translation *t, const name_row *row) {
    return t->to == TO_THEIRS ? row->ours : row->theirs;
}

static const char *target_of(const translation *t, const name_row *row) {
    return t->to == TO_THEIRS ? row->theirs : row->ours;
}

static bool counts(const translation *t, const name_row *row) {
    return t->third == VIEW_WHOLE || !view_is_third(row->view) || row->view == t->third;
}

static bool append_row(const translation *t, const name_row *row, const char *name, char *out,
                       tensor_view *view) {
    captured c;
    if (!match(t->names, source_of(t, row), name, &c) ||
        !append_pattern(t->names, target_of(t, row), &c, out))
        return false;
    size_t end = strlen(out);
    for (const name_row *inner = row->rest; c.rest && inner && inner->ours; inner++) {
        if (counts(t, inner) && append_row(t, inner, c.rest, out, view)) return true;
        out[end] = 0;
    }
    *view = row->view;
    return !c.rest || append(out, c.rest, strlen(c.rest));
}

bool names_translate(const file_names *names, const name_row *row, const char *ours, char theirs[NAME_SIZE],
                     tensor_view *view) {
    const translation t = {names, TO_THEIRS, VIEW_WHOLE};
    theirs[0] = 0;
    return append(theirs, names->prefix, strlen(names->prefix)) && append_row(&t, row, ours, theirs, view);
}

bool names_need(const file_names *names, const name_row *row, const char *ours, char needed[NAME_SIZE]) {
    captured c;
    needed[0] = 0;
    return row->with && match(names, row->ours, ours, &c) && append_pattern(names, row->with, &c, needed);
}

// A row that has found a name of ours must make of it the name that it came from: else it was no number of
// such blocks, or a name that is never written.
bool names_recall(const file_names *names, const char *theirs, tensor_view third, char ours[NAME_SIZE],
                  tensor_view *view) {
    const translation t = {names, TO_OURS, third};
    char again[NAME_SIZE];
    tensor_view unused;
    const char *name = theirs + strlen(names->prefix);
    for (const name_row *row = names->rows; *name && row->ours; row++) {
        ours[0] = 0;
        if (append_row(&t, row, name, ours, view) && names_translate(names, row, ours, again, &unused) &&
            !strcmp(again, theirs))
            return true;
    }
    return false;
}
