#include "core/graph/weights_check.h"

#include <stdio.h>
#include <string.h>

static void note(weights_check *c, const char *name, const weight *have, shape want) {
    char a[128], b[128], theirs[512];
    snprintf(theirs, sizeof theirs, "%s", name);
    if (c->from->spell) c->from->spell(c->from, name, theirs, sizeof theirs);
    if (c->wrong < WEIGHTS_CHECK_LISTED)
        c->lines[c->wrong] = have ? arena_printf(&c->mem, "%s is %s, expected %s", theirs,
                                                 shape_text(have->shape, a), shape_text(want, b))
                                  : arena_printf(&c->mem, "%s %s is missing", theirs, shape_text(want, b));
    c->wrong++;
}

static const weight *find(const weights *self, const char *name) {
    const weights_check *c = (const weights_check *)self;
    return c->from->find(c->from, name);
}

static const weight *stand_in(const weights *self, const char *name, shape want) {
    weights_check *c = (weights_check *)(uintptr_t)self;
    const weight *have = find(self, name);
    if (have && weight_fits(have->shape, want)) return have;
    note(c, name, have, want);
    weight *w = arena_alloc(&c->mem, sizeof *w);
    if (w) *w = (weight){.name = arena_printf(&c->mem, "%s", name), .shape = want, .id = weight_new_id()};
    return w;
}

void weights_check_init(weights_check *c, const weights *from) {
    *c = (weights_check){.provider = {find, from->origin, stand_in}, .from = from};
}

status weights_check_end(weights_check *c, error *err) {
    char text[sizeof err->text] = "";
    int shown = 0;
    for (size_t at = 0; shown < c->wrong && shown < WEIGHTS_CHECK_LISTED; shown++) {
        const char *line = c->lines[shown] ? c->lines[shown] : "?";
        if (at + strlen(line) + 60 > sizeof text) break;
        at += (size_t)snprintf(text + at, sizeof text - at, "%s%s", shown ? "; " : "", line);
    }
    int wrong = c->wrong;
    arena_free(&c->mem);
    if (!wrong) return OK;
    if (wrong == shown) return fail(err, ERR_DATA, "%s: %s", c->from->origin, text);
    return fail(err, ERR_DATA, "%s: %s; and %d more", c->from->origin, text, wrong - shown);
}
