#include "cli/wildcards.h"

#include "cli/files.h"
#include "core/calotype.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_DEPTH = 16, MAX_TEXT = 1 << 16, MAX_FILE = 1 << 24, MAX_NAME = 200 };

typedef struct {
    const char *dir;
    uint64_t state;
    FILE *out;
    size_t written;
    int code;
    char *message;
    size_t size;
} expansion;

static void put(expansion *e, char c) {
    if (e->written++ < MAX_TEXT) fputc(c, e->out);
}

static int give_up(expansion *e, int code, const char *what, const char *name) {
    if (!e->code) snprintf(e->message, e->size, "%s%s", what, name);
    return e->code ? e->code : (e->code = code);
}

// splitmix64 (Steele, Lea, Flood 2014): small, and good from any seed.
static uint64_t next(expansion *e) {
    uint64_t z = e->state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static size_t choose(expansion *e, size_t n) { return (size_t)(next(e) % n); }

static void expand(expansion *e, const char *s, const char *end, int depth);

static bool escapes(const char *s, const char *end) {
    return *s == '\\' && s + 1 < end && strchr("{|}", s[1]) && s[1];
}

// ---- {a|b}

typedef struct {
    const char *close; // the brace that ends the group; NULL if none does
    size_t bars;
    bool deep; // more braces are open than may be
} group;

static group group_at(const char *s, const char *end) {
    group g = {0};
    for (int depth = 0; s < end; s++) {
        if (escapes(s, end)) {
            s++;
        } else if (*s == '{') {
            if (++depth > MAX_DEPTH) return g.deep = true, g;
        } else if (*s == '}') {
            if (--depth == 0) return g.close = s, g;
        } else if (*s == '|' && depth == 1) {
            g.bars++;
        }
    }
    return g;
}

static const char *alternative_end(const char *s, const char *close) {
    for (int depth = 0; s < close; s++) {
        if (escapes(s, close))
            s++;
        else if (*s == '{')
            depth++;
        else if (*s == '}')
            depth--;
        else if (*s == '|' && depth == 0)
            return s;
    }
    return close;
}

static void expand_group(expansion *e, const char *s, const group *g, int depth) {
    size_t k = choose(e, g->bars + 1);
    const char *from = s + 1, *to = alternative_end(from, g->close);
    for (; k; k--) {
        from = to + 1;
        to = alternative_end(from, g->close);
    }
    expand(e, from, to, depth + 1);
}

// ---- __name__

// Letters, digits, '-', '.', '_' and '/', no part of which begins with a dot: nothing outside the folder.
static size_t name_length(const char *s, const char *end) {
    for (const char *p = s; p < end && p - s < MAX_NAME; p++) {
        if (p > s && p + 1 < end && p[0] == '_' && p[1] == '_') return (size_t)(p - s);
        bool begins = p == s || p[-1] == '/';
        if (!isalnum((unsigned char)*p) && !(strchr("-_", *p) && *p) && (begins || !strchr("./", *p)))
            return 0;
    }
    return 0;
}

static char *read_text(expansion *e, const char *path) {
    struct stat st;
    size_t n = 0;
    char *text = NULL;
    int fd = file_open(AT_FDCWD, path, O_RDONLY | O_NONBLOCK | O_CLOEXEC); // a pipe would hang us
    int wrong = fd < 0 || fstat(fd, &st) ? errno
                : S_ISREG(st.st_mode)    ? file_read(fd, MAX_FILE, &text, &n)
                                         : EINVAL;
    if (wrong)
        give_up(e, file_code(wrong, CALO_ERR_NOINPUT), "cannot read the wildcard file ", path);
    else if (n > MAX_FILE)
        give_up(e, CALO_ERR_DATA, "larger than 16 MB: ", path);
    if (fd >= 0) close(fd);
    if (e->code) free(text), text = NULL;
    return text;
}

// Line k of those that are neither empty nor a comment; with k past the last, *n is how many there are.
static bool line_at(const char *text, size_t k, const char **from, const char **to, size_t *n) {
    *n = 0;
    for (const char *s = text; *s; s += *s == '\n') {
        const char *end = s + strcspn(s, "\r\n");
        if (end > s && *s != '#' && (*n)++ == k) return *from = s, *to = end, true;
        s = end;
        if (*s == '\r') s++;
    }
    return false;
}

static void expand_file(expansion *e, const char *name, size_t length, int depth) {
    char path[4096];
    const char *from, *to;
    size_t n;
    snprintf(path, sizeof path, "%s/%.*s.txt", e->dir, (int)length, name);
    char *text = read_text(e, path);
    if (!text) return;
    line_at(text, SIZE_MAX, &from, &to, &n);
    if (!n)
        give_up(e, CALO_ERR_DATA, "no line in the wildcard file ", path);
    else if (line_at(text, choose(e, n), &from, &to, &n))
        expand(e, from, to, depth + 1);
    free(text);
}

// ---- all of it

static void expand(expansion *e, const char *s, const char *end, int depth) {
    static const char DEEP[] = "wildcards nested deeper than 16";
    if (depth > MAX_DEPTH) give_up(e, CALO_ERR_DATA, DEEP, "");
    while (s < end && !e->code && e->written <= MAX_TEXT) {
        size_t length = 0;
        group g = {0};
        if (*s == '{') g = group_at(s, end);
        if (e->dir && end - s > 4 && s[0] == '_' && s[1] == '_') length = name_length(s + 2, end);
        if (g.deep) {
            give_up(e, CALO_ERR_DATA, DEEP, "");
        } else if (g.bars && !g.close) {
            give_up(e, CALO_ERR_DATA, "a brace of alternatives does not end; for the character, write \\{",
                    "");
        } else if (g.bars) {
            expand_group(e, s, &g, depth);
            s = g.close + 1;
        } else if (length) {
            expand_file(e, s + 2, length, depth);
            s += length + 4;
        } else {
            if (escapes(s, end)) s++;
            put(e, *s++);
        }
    }
    if (e->written > MAX_TEXT) give_up(e, CALO_ERR_DATA, "the expanded prompt is longer than 64 KB", "");
}

int wildcards_expand(const char *text, const char *dir, uint64_t seed, char **out, char *message,
                     size_t size) {
    size_t n;
    expansion e = {.dir = dir, .state = seed, .message = message, .size = size};
    *out = NULL;
    if (!(e.out = open_memstream(out, &n))) return give_up(&e, CALO_ERR_TEMP, "out of memory", "");
    expand(&e, text, text + strlen(text), 0);
    bool lost = ferror(e.out);
    if (fclose(e.out) || lost) give_up(&e, CALO_ERR_TEMP, "out of memory", "");
    if (e.code) {
        free(*out);
        *out = NULL;
    }
    return e.code;
}
