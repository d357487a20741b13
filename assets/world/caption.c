#include "assets/world/caption.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

// Equal words: the first is the world's own, the second is read as it.
static const char *const SYNONYM[][2] = {{"small", "little"}, {"big", "large"}, {"under", "below"},
                                         {"above", "over"},   {"gray", "grey"}, {"center", "middle"}};
static const char *const GLUE[] = {"a", "an", "the", "on", "in", "at", "to", "of", "and", "background"};

#define LENGTH(a) ((int)(sizeof(a) / sizeof *(a)))

// ---- writing

typedef struct {
    char *text;
    size_t length;
    caption_style style;
    dice *dice;
} writer;

static bool chance(const writer *w, double p) { return p > 0 && dice_chance(w->dice, p); }

static void put(writer *w, const char *word) {
    int n = snprintf(w->text + w->length, CAPTION_SIZE - w->length, "%s%s", w->length ? " " : "", word);
    w->length += (size_t)n;
}

static void put_either(writer *w, const char *word) {
    for (int i = 0; i < LENGTH(SYNONYM); i++)
        if (!strcmp(word, SYNONYM[i][0]) && chance(w, w->style.synonym)) {
            put(w, SYNONYM[i][1]);
            return;
        }
    put(w, word);
}

static void put_figure(writer *w, const scene_object *o) {
    bool size = o->size != SIZE_MEDIUM && !chance(w, w->style.leave_out);
    bool colour = !chance(w, .3 * w->style.leave_out);
    put(w, !size && colour && o->colour == COLOUR_ORANGE ? "an" : "a");
    if (size) put_either(w, SIZE_WORD[o->size]);
    if (colour) put(w, COLOUR_WORD[o->colour]);
    put(w, KIND_WORD[o->kind]);
    if (w->style.motion) put(w, MOTION_WORD[o->motion]);
}

static void put_relation(writer *w, int layout) {
    if (chance(w, .3 * w->style.leave_out)) {
        put(w, "and");
        return;
    }
    if (layout >= LAYOUT_LEFT_OF && chance(w, w->style.synonym)) put(w, "to the");
    put_either(w, LAYOUT_WORD[layout]);
}

static void put_place(writer *w, int layout) {
    if (chance(w, w->style.leave_out)) return;
    put(w, layout == LAYOUT_CENTER ? "in the" : "on the");
    put_either(w, LAYOUT_WORD[layout]);
}

static void put_ground(writer *w, const scene *s) {
    static const struct {
        const char *plain, *lit; // words before the name as it is, and before a light word
    } scenic[BACKGROUNDS - BG_NIGHT] = {{"at", "on a"}, {"at", "at a"}, {"on the", "on a"}, {"in the", "in"}};
    if (chance(w, .15 * w->style.leave_out)) return;
    bool plain = s->background < BG_NIGHT;
    if (plain)
        put(w, "on a");
    else
        put(w, s->light ? scenic[s->background - BG_NIGHT].lit : scenic[s->background - BG_NIGHT].plain);
    if (s->light) put(w, LIGHT_WORD[s->light]);
    put_either(w, BACKGROUND_WORD[s->background]);
    if (plain) put(w, "background");
}

void caption_write(const scene *s, caption_style style, dice *d, char text[CAPTION_SIZE]) {
    writer w = {.text = text, .style = style, .dice = d};
    put_figure(&w, &s->objects[0]);
    if (s->count == 2) {
        put_relation(&w, s->layout);
        put_figure(&w, &s->objects[1]);
    } else {
        put_place(&w, s->layout);
    }
    put_ground(&w, s);
}

void caption_full(const scene *s, char text[CAPTION_SIZE]) {
    caption_write(s, (caption_style){0}, NULL, text);
}

// ---- reading

enum { WORDS_MAX = 32, WORD_SIZE = 16 };

typedef struct {
    char word[WORDS_MAX + 1][WORD_SIZE]; // lower case, synonyms replaced; empty after the last
    int at;
} reader;

static status read_words(reader *r, const char *text, error *err) {
    static const char *const between = " \t\r\n,.";
    int n = 0;
    for (const char *p = text + strspn(text, between); *p; p += strspn(p, between), n++) {
        size_t length = strcspn(p, between);
        if (n == WORDS_MAX) return fail(err, ERR_DATA, "a caption has at most %d words", WORDS_MAX);
        if (length >= WORD_SIZE)
            return fail(err, ERR_DATA, "no word of the world: '%.*s'", (int)(length < 60 ? length : 60), p);
        for (size_t i = 0; i < length; i++) r->word[n][i] = (char)tolower((unsigned char)p[i]);
        for (int i = 0; i < LENGTH(SYNONYM); i++)
            if (!strcmp(r->word[n], SYNONYM[i][1])) strcpy(r->word[n], SYNONYM[i][0]);
        p += length;
    }
    return OK;
}

// Goes past the words of `phrase` if they are next.
static bool take(reader *r, const char *phrase) {
    int at = r->at;
    for (const char *p = phrase; *p; p += strspn(p, " "), at++) {
        size_t length = strcspn(p, " ");
        if (strlen(r->word[at]) != length || strncmp(r->word[at], p, length)) return false;
        p += length;
    }
    r->at = at;
    return true;
}

// The first of words [from, n) that is next, −1 for none.
static int take_one(reader *r, const char *const *words, int from, int n) {
    for (int i = from; i < n; i++)
        if (take(r, words[i])) return i;
    return -1;
}

static status unexpected(const reader *r, const char *wanted, error *err) {
    const char *word = r->word[r->at];
    if (!*word) return fail(err, ERR_DATA, "the caption ends where %s should stand", wanted);
    return fail(err, ERR_DATA, "word %d, '%s', stands where %s should", r->at + 1, word, wanted);
}

static status read_figure(reader *r, stated_object *o, error *err) {
    if (!take(r, "a") && !take(r, "an")) return unexpected(r, "'a'", err);
    o->size = take_one(r, SIZE_WORD, 0, SIZES);
    o->colour = take_one(r, COLOUR_WORD, 0, COLOURS);
    o->kind = take_one(r, KIND_WORD, 0, KINDS);
    if (o->kind < 0) return unexpected(r, "an object", err);
    o->motion = take_one(r, MOTION_WORD, 0, MOTIONS);
    return OK;
}

static int read_relation(reader *r) {
    int start = r->at, first = take(r, "to the") ? LAYOUT_LEFT_OF : LAYOUT_UNDER;
    int layout = take_one(r, LAYOUT_WORD, first, LAYOUTS);
    if (layout < 0) r->at = start;
    return layout;
}

static int read_place(reader *r) {
    if (take(r, "on the left")) return LAYOUT_LEFT;
    if (take(r, "in the center")) return LAYOUT_CENTER;
    return take(r, "on the right") ? LAYOUT_RIGHT : -1;
}

static status read_ground(reader *r, facts *f, error *err) {
    if (!take(r, "on") && !take(r, "in") && !take(r, "at")) return unexpected(r, "a background", err);
    if (!take(r, "a")) take(r, "the");
    f->light = take_one(r, LIGHT_WORD, LIGHT_DARK, LIGHTS);
    if (f->light < 0) f->light = LIGHT_PLAIN;
    f->background = take_one(r, BACKGROUND_WORD, 0, BACKGROUNDS);
    if (f->background < 0) return unexpected(r, "a background", err);
    if (f->background < BG_NIGHT && !take(r, "background")) return unexpected(r, "'background'", err);
    return OK;
}

static status read_caption(reader *r, facts *f, error *err) {
    status st = read_figure(r, &f->objects[0], err);
    if (st) return st;
    f->count = 1;
    f->layout = read_relation(r);
    if (f->layout >= 0 || take(r, "and")) {
        f->count = 2;
        if ((st = read_figure(r, &f->objects[1], err))) return st;
    } else {
        f->layout = read_place(r);
    }
    if (*r->word[r->at] && (st = read_ground(r, f, err))) return st;
    return *r->word[r->at] ? unexpected(r, "the end", err) : OK;
}

status caption_parse(const char *text, facts *out, error *err) {
    static const stated_object open = {-1, -1, -1, -1};
    reader r = {0};
    *out = (facts){.objects = {open, open}, .layout = -1, .background = -1, .light = -1};
    status st = read_words(&r, text, err);
    return st ? st : read_caption(&r, out, err);
}

// ---- comparing

static bool holds(int stated, int actual) { return stated < 0 || stated == actual; }

static bool object_holds(const stated_object *f, const scene_object *o) {
    return holds(f->kind, o->kind) && holds(f->colour, o->colour) && holds(f->size, o->size) &&
           holds(f->motion, o->motion);
}

static bool told_so(const facts *f, const scene *s) {
    for (int i = 0; i < s->count; i++)
        if (!object_holds(&f->objects[i], &s->objects[i])) return false;
    return holds(f->layout, s->layout);
}

bool facts_hold(const facts *f, const scene *s) {
    if (f->count != s->count || !holds(f->background, s->background) || !holds(f->light, s->light))
        return false;
    scene other = scene_reversed(s);
    return told_so(f, s) || (s->count == 2 && told_so(f, &other));
}

int grammar_words(const char *words[GRAMMAR_WORDS_MAX]) {
    int n = 0;
    for (int i = 0; i < LENGTH(GLUE); i++) words[n++] = GLUE[i];
    for (int i = 0; i < KINDS; i++) words[n++] = KIND_WORD[i];
    for (int i = 0; i < COLOURS; i++) words[n++] = COLOUR_WORD[i];
    for (int i = BG_GRAY; i < BACKGROUNDS; i++)
        if (i == BG_GRAY || i >= BG_NIGHT) words[n++] = BACKGROUND_WORD[i]; // the others are colours
    for (int i = 0; i < SIZES; i++) words[n++] = SIZE_WORD[i];
    for (int i = 0; i < MOTIONS; i++) words[n++] = MOTION_WORD[i];
    for (int i = LIGHT_DARK; i < LIGHTS; i++) words[n++] = LIGHT_WORD[i];
    for (int i = 0; i < LAYOUT_LEFT_OF; i++) words[n++] = LAYOUT_WORD[i]; // "left of": of two words
    for (int i = 0; i < LENGTH(SYNONYM); i++) words[n++] = SYNONYM[i][1];
    return n;
}
