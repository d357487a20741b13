// libFuzzer: the hub's cache, by a line of letters that say which variables are set, a line with a model's
// name and what refs/main of org/name holds. What is found is a folder of that model's snapshots.
#include "core/base/fs.h"
#include "core/base/mem.h"
#include "core/files/hub.h"
#include "tests/fuzz/fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// All of them lead to the same cache.
static const struct {
    char letter;
    const char *variable, *below;
} VARIABLES[] = {{'c', "HF_HUB_CACHE", "/.cache/huggingface/hub"},
                 {'h', "HF_HOME", "/.cache/huggingface"},
                 {'x', "XDG_CACHE_HOME", "/.cache"},
                 {'~', "HOME", ""}};

static char folder[64], snapshots[150], ref[150];

void fuzz_start(void) {
    static const char CACHE[] = ".cache/huggingface/hub/models--org--name";
    char refs[150];
    fuzz_folder(folder);
    snprintf(refs, sizeof refs, "%s/%s/refs", folder, CACHE);
    snprintf(ref, sizeof ref, "%s/main", refs);
    snprintf(snapshots, sizeof snapshots, "%s/%s/snapshots/", folder, CACHE);
    if (fs_mkdirs(refs, NULL)) abort();
}

// A capital letter: it is set to nothing.
static void set_variables(const char *letters) {
    for (size_t i = 0; i < sizeof VARIABLES / sizeof *VARIABLES; i++) {
        char path[100];
        snprintf(path, sizeof path, "%s%s", folder, VARIABLES[i].below);
        if (strchr(letters, VARIABLES[i].letter))
            setenv(VARIABLES[i].variable, path, 1);
        else if (strchr(letters, VARIABLES[i].letter - ('a' - 'A')))
            setenv(VARIABLES[i].variable, "", 1);
        else
            unsetenv(VARIABLES[i].variable);
    }
}

static void find(const char *name) {
    error err = {0};
    char *found = hub_find(name, &err);
    size_t n = strlen(snapshots);
    if (found && (strcmp(name, "org/name") || strncmp(found, snapshots, n) || !fs_is_plain_name(found + n)))
        abort();
    if (!found && (!err.code || !*err.text)) abort();
    mem_free(found);
}

void fuzz_input(const uint8_t *data, size_t n) {
    char *text = malloc(n + 1), *rest = text;
    if (!text) return;
    memcpy(text, data, n);
    text[n] = 0;
    const char *letters = strsep(&rest, "\n"), *name = rest ? strsep(&rest, "\n") : "";
    set_variables(letters);
    if (rest)
        fuzz_write(ref, rest, n - (size_t)(rest - text));
    else
        unlink(ref);
    if (hub_is_name(name)) find(name);
    free(text);
}
