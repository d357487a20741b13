#include "cli/outputs.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static size_t add_text(char *path, size_t at, const char *text) {
    size_t n = strlen(text);
    if (at + n < PATH_MAX) memcpy(path + at, text, n + 1);
    return at + n;
}

static const output_word *word_at(const char *p, const output_word *words) {
    for (; words->word; words++)
        if (!strncmp(p, words->word, strlen(words->word))) return words;
    return NULL;
}

static bool has_word(const char *pattern, const output_word *words) {
    for (const char *p = pattern; *p; p++)
        if (word_at(p, words)) return true;
    return false;
}

bool output_name(const char *pattern, const output_word *words, int number, char path[PATH_MAX]) {
    char numbered[16];
    bool unnumbered = number && !has_word(pattern, words);
    const char *slash = strrchr(pattern, '/'), *dot = strrchr(slash ? slash : pattern, '.');
    size_t at = 0;
    snprintf(numbered, sizeof numbered, "-%d", number);
    path[0] = 0;
    for (const char *p = pattern; *p;) {
        const output_word *w = word_at(p, words);
        if (unnumbered && p == dot) at = add_text(path, at, numbered);
        at = add_text(path, at, w ? w->text : (char[]){*p, 0});
        p += w ? strlen(w->word) : 1;
    }
    return at < PATH_MAX;
}

int output_check(session *s, const char *path, bool force) {
    char dir[PATH_MAX];
    struct stat st;
    snprintf(dir, sizeof dir, "%s", path);
    char *slash = strrchr(dir, '/');
    if (slash) slash[slash == dir] = 0;
    bool writable = !access(slash ? dir : ".", W_OK), is_there = writable && !lstat(path, &st);
    if (!writable || (!is_there && errno != ENOENT))
        return session_fail(s, CALO_ERR_CANTCREAT, "%s: cannot be created: %s", path, strerror(errno));
    if (is_there && !force)
        return session_fail(s, CALO_ERR_CANTCREAT, "%s: is there already (--force replaces it)", path);
    return 0;
}
