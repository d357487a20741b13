#include "assets/world/reproduce/claims.h"

#include <stdio.h>

#include "core/base/arena.h"
#include "core/base/mem.h"

enum { TEXT = 200 };

static void tell_values(const claim *row, const finding *f, char text[TEXT]) {
    size_t at = 0;
    text[0] = 0;
    for (int i = 0; i < CLAIM_VALUES && row->label[i] && at < TEXT; i++)
        at += (size_t)snprintf(text + at, TEXT - at, "%s%s %.3f", i ? ", " : "", row->label[i], f->value[i]);
}

static const char *verdict(const finding *f) { return f->holds ? "holds" : "does not hold"; }

status claims_measure(const claim *rows, int n, void *self, finding *found, const log_sink *log, error *err) {
    status s = OK;
    for (int i = 0; i < n && !s; i++) {
        char text[TEXT];
        found[i] = (finding){0};
        if ((s = rows[i].measure(self, found[i].value, err))) return fail_in(err, "%s", rows[i].name);
        found[i].holds = rows[i].holds(found[i].value);
        tell_values(&rows[i], &found[i], text);
        log_put(log, LOG_LEVEL_INFO, "%s: %s (%s)", rows[i].name, verdict(&found[i]), text);
    }
    return s;
}

int claims_broken(const finding *found, int n) {
    int broken = 0;
    for (int i = 0; i < n; i++) broken += !found[i].holds;
    return broken;
}

int claims_unexpected(const claim *rows, const finding *found, int n, bool quick) {
    int unexpected = 0;
    for (int i = 0; i < n; i++) unexpected += !found[i].holds && !(quick && rows[i].quick_open);
    return unexpected;
}

char *claims_table(const claim *rows, const finding *found, int n, bool quick) {
    arena a = {0};
    const char *all = "| claim | expected | measured | |\n|---|---|---|---|\n";
    for (int i = 0; i < n && all; i++) {
        char text[TEXT];
        const char *open = quick ? rows[i].quick_open : NULL;
        tell_values(&rows[i], &found[i], text);
        all =
            arena_printf(&a, "%s| %s | %s | %s | %s%s%s |\n", all, rows[i].name, rows[i].expected, text,
                         verdict(&found[i]), open ? ", but a quick run cannot tell: " : "", open ? open : "");
    }
    char *copy = all ? mem_strdup(all) : NULL;
    arena_free(&a);
    return copy;
}
