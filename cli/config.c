#include "cli/config.h"
#include "cli/commands.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void config_path(char *out, size_t size) {
    const char *xdg = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
    out[0] = 0;
    if (xdg && *xdg == '/') // the specification has relative paths ignored
        snprintf(out, size, "%s/calotype/config.json", xdg);
    else if (home && *home)
        snprintf(out, size, "%s/.config/calotype/config.json", home);
}

static bool known_somewhere(const char *key) {
    for (const command *c = COMMANDS; c->name; c++)
        if (options_find(c->line, key)) return true;
    return false;
}

// The keys that are options of this command, and those that are no command's, so that they are complained of.
static json_t *shared_keys(const command_line *c, json_t *root) {
    const char *key;
    json_t *v, *own = json_object();
    json_object_foreach(root, key, v) {
        bool section = command_find(key) && json_is_object(v);
        if (!section && (options_find(c, key) || !known_somewhere(key))) json_object_set(own, key, v);
    }
    return own;
}

int config_read(const command_line *c, void *dst, const char *path, bool named, json_t **config) {
    json_error_t where;
    *config = NULL;
    if (!*path || (!named && access(path, F_OK))) return 0;
    FILE *file = fopen(path, "re");
    if (!file) return fprintf(stderr, "calotype: %s: cannot open: %s\n", path, strerror(errno)), -4;
    json_t *root = json_loadf(file, JSON_REJECT_DUPLICATES, &where);
    fclose(file);
    if (!json_is_object(root)) {
        if (root)
            fprintf(stderr, "calotype: %s: not a JSON object\n", path);
        else
            fprintf(stderr, "calotype: %s:%d:%d: %s\n", path, where.line, where.column, where.text);
        json_decref(root);
        return -1;
    }
    *config = root;
    json_t *shared = shared_keys(c, root), *section = json_object_get(root, c->name);
    char name[300];
    snprintf(name, sizeof name, "%.200s: %s", path, c->name);
    int code = options_json(c, dst, shared, path, NULL);
    if (!code && json_is_object(section)) code = options_json(c, dst, section, name, NULL);
    json_decref(shared);
    return code;
}
