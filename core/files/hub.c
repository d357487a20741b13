#include "core/files/hub.h"

#include "core/base/arena.h"
#include "core/base/fs.h"
#include "core/base/mem.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_REF = 200, MAX_NAME = 96 }; // bytes of refs/main, characters of an organisation or a name

static const char LETTERS[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";

static bool is_part(const char *text, size_t n) {
    return n > 0 && n <= MAX_NAME && text[0] != '.' && strspn(text, LETTERS) >= n;
}

bool hub_is_name(const char *text) {
    size_t n = strcspn(text, "/");
    return text[n] == '/' && is_part(text, n) && !strchr(text + n + 1, '/') &&
           is_part(text + n + 1, strlen(text + n + 1));
}

static const char *set(const char *variable) {
    const char *value = getenv(variable);
    return value && *value ? value : NULL;
}

static const char *cache_folder(arena *a) {
    const char *cache = set("HF_HUB_CACHE"), *home = set("HF_HOME"), *xdg = set("XDG_CACHE_HOME");
    if (cache) return cache;
    if (home) return arena_printf(a, "%s/hub", home);
    if (xdg) return arena_printf(a, "%s/huggingface/hub", xdg);
    return set("HOME") ? arena_printf(a, "%s/.cache/huggingface/hub", set("HOME")) : "";
}

// What refs/main names becomes the name of a folder, so it must be one.
static status read_ref(const char *path, char commit[MAX_REF], error *err) {
    char *text;
    size_t n;
    status s = fs_read_file(path, MAX_REF - 1, &text, &n, err);
    if (s) return s;
    while (n > 0 && isspace((unsigned char)text[n - 1])) text[--n] = 0;
    if (strlen(text) == n && fs_is_plain_name(text))
        memcpy(commit, text, n + 1);
    else
        s = fail(err, ERR_DATA, "%s: does not name a snapshot", path);
    mem_free(text);
    return s;
}

char *hub_find(const char *model, error *err) {
    arena a = {0};
    char commit[MAX_REF];
    int org = (int)strcspn(model, "/");
    const char *cache = cache_folder(&a);
    const char *home =
        cache ? arena_printf(&a, "%s/models--%.*s--%s", cache, org, model, model + org + 1) : NULL;
    const char *ref = home ? arena_printf(&a, "%s/refs/main", home) : NULL;
    char *found = NULL;
    if (!ref)
        fail(err, ERR_TEMP, "out of memory");
    else if (!fs_exists(ref))
        fail(err, ERR_NOINPUT, "%s: no such file or folder, and the hub's cache in %s does not hold it",
             model, cache);
    else if (!read_ref(ref, commit, err)) {
        const char *folder = arena_printf(&a, "%s/snapshots/%s", home, commit);
        if (!folder || !(found = mem_strdup(folder))) fail(err, ERR_TEMP, "out of memory");
    }
    arena_free(&a);
    return found;
}
