#include "assets/world/scene.h"
#include "assets/world/dice.h"

#include <math.h>

const char *const KIND_WORD[KINDS] = {"circle", "square", "triangle", "star", "heart",
                                      "moon",   "house",  "tree",     "boat", "balloon"};
const char *const COLOUR_WORD[COLOURS] = {"red",    "orange", "yellow", "green", "blue",
                                          "purple", "pink",   "brown",  "white", "black"};
const char *const SIZE_WORD[SIZES] = {"small", "medium", "big"};
const char *const MOTION_WORD[MOTIONS] = {"drifting", "rising", "growing", "turning"};
const char *const BACKGROUND_WORD[BACKGROUNDS] = {"black", "white", "gray",   "blue", "yellow", "pink",
                                                  "green", "night", "sunset", "sea",  "hills"};
const char *const LIGHT_WORD[LIGHTS] = {"plain", "dark", "bright"};
const char *const LAYOUT_WORD[LAYOUTS] = {"left", "center", "right", "under", "above", "left of", "right of"};
const char *const SPLIT_WORD[SPLITS] = {"train", "held", "pairs"};

// Room between a figure and the border, and between two figures: an outline's width and a little.
static const double MARGIN = .02;
// By count and size, shares of the shorter side.
static const double RADIUS[2][SIZES][2] = {{{.15, .17}, {.21, .24}, {.30, .36}},
                                           {{.13, .145}, {.17, .185}, {.21, .23}}};

bool scene_is_pair(int layout) { return layout >= LAYOUT_UNDER; }

bool kind_colour_held(int kind, int colour) { return colour == (3 * kind + 1) % COLOURS; }

static int opposite(int layout) {
    static const int other[LAYOUTS] = {LAYOUT_LEFT,  LAYOUT_CENTER,   LAYOUT_RIGHT,  LAYOUT_ABOVE,
                                       LAYOUT_UNDER, LAYOUT_RIGHT_OF, LAYOUT_LEFT_OF};
    return other[layout];
}

scene scene_reversed(const scene *s) {
    scene r = *s;
    if (s->count < 2) return r;
    r.layout = opposite(s->layout);
    r.objects[0] = s->objects[1];
    r.objects[1] = s->objects[0];
    return r;
}

scene scene_canonical(const scene *s) {
    return s->layout == LAYOUT_ABOVE || s->layout == LAYOUT_RIGHT_OF ? scene_reversed(s) : *s;
}

// The numbers of a combination in one word: what one object's place, the sizes and the light say is left out,
// so that a held-out combination is held out in each of them.
static uint64_t combination(const scene *s) {
    scene c = scene_canonical(s);
    uint64_t key = scene_is_pair(c.layout) ? (uint64_t)c.layout : 0;
    key = key * BACKGROUNDS + (uint64_t)c.background;
    for (int i = 0; i < c.count; i++)
        key = (key * KINDS + (uint64_t)c.objects[i].kind) * COLOURS + (uint64_t)c.objects[i].colour;
    return key * 3 + (uint64_t)c.count;
}

split scene_split(const scene *s) {
    static const scene demo = {.background = BG_BLACK,
                               .layout = LAYOUT_UNDER,
                               .count = 2,
                               .objects = {{.kind = KIND_HOUSE, .colour = COLOUR_RED},
                                           {.kind = KIND_MOON, .colour = COLOUR_YELLOW}}};
    for (int i = 0; i < s->count; i++)
        if (kind_colour_held(s->objects[i].kind, s->objects[i].colour)) return SPLIT_PAIRS;
    uint64_t key = combination(s);
    return key == combination(&demo) || dice_mix(key) % 8 == 0 ? SPLIT_HELD : SPLIT_TRAIN;
}

// A colour that would be lost on its background.
static bool clash(int colour, int background, int light) {
    switch (colour) {
    case COLOUR_BLACK:
        return background == BG_BLACK || background == BG_NIGHT || light == LIGHT_DARK;
    case COLOUR_WHITE:
        return background == BG_WHITE || (background == BG_GRAY && light == LIGHT_BRIGHT);
    case COLOUR_ORANGE:
        return background == BG_SUNSET;
    case COLOUR_BROWN:
        return light == LIGHT_DARK && (background == BG_SUNSET || background == BG_YELLOW);
    case COLOUR_GREEN:
        return background == BG_GREEN || background == BG_HILLS;
    case COLOUR_BLUE:
        return background == BG_BLUE;
    case COLOUR_YELLOW:
        return background == BG_YELLOW;
    case COLOUR_PINK:
        return background == BG_PINK;
    default:
        return false;
    }
}

static double clamp(double v, double low, double high) { return v < low ? low : v > high ? high : v; }

static double inside(double v, double radius) { return clamp(v, radius + MARGIN, 1 - radius - MARGIN); }

static void place_one(scene_object *o, int layout, dice *d) {
    static const double column[3][2] = {{.24, .30}, {.46, .54}, {.70, .76}};
    o->x = (float)inside(dice_range(d, column[layout][0], column[layout][1]), o->radius);
    bool flies = o->kind == KIND_STAR || o->kind == KIND_MOON || o->kind == KIND_BALLOON;
    bool stands = o->kind == KIND_HOUSE || o->kind == KIND_TREE || o->kind == KIND_BOAT;
    double y = flies ? dice_range(d, .34, .50) : stands ? dice_range(d, .55, .66) : dice_range(d, .42, .62);
    o->y = (float)inside(y, o->radius);
}

// Two coordinates along the axis that tells the objects apart: near a quarter and three quarters, then moved
// apart until the circles are. Two of the largest, 0.23, need 0.98 of the side with their margins.
static void spread(double *low, double *high, double r_low, double r_high, dice *d) {
    *low = inside(dice_range(d, .25, .31), r_low);
    *high = inside(dice_range(d, .69, .75), r_high);
    double distance = r_low + r_high + MARGIN, lack = distance - (*high - *low);
    if (lack <= 0) return;
    *high = inside(*high + lack / 2, r_high);
    *low = inside(*high - distance, r_low);
    *high = fmax(*high, *low + distance);
}

static void place_two(scene *s, dice *d) {
    bool swap = s->layout == LAYOUT_UNDER || s->layout == LAYOUT_RIGHT_OF;
    scene_object *a = &s->objects[swap], *b = &s->objects[!swap]; // a is above or on the left
    bool vertical = s->layout == LAYOUT_UNDER || s->layout == LAYOUT_ABOVE;
    double low, high;
    spread(&low, &high, a->radius, b->radius, d);
    double middle = vertical ? dice_range(d, .38, .62) : dice_range(d, .45, .60);
    double jitter = vertical ? .06 : .05;
    double side_a = inside(middle + dice_range(d, -jitter, jitter), a->radius);
    double side_b = inside(middle + dice_range(d, -jitter, jitter), b->radius);
    a->x = (float)(vertical ? side_a : low);
    a->y = (float)(vertical ? low : side_a);
    b->x = (float)(vertical ? side_b : high);
    b->y = (float)(vertical ? high : side_b);
}

static void place(scene *s, dice *d) {
    for (int i = 0; i < s->count; i++) {
        scene_object *o = &s->objects[i];
        const double *range = RADIUS[s->count - 1][o->size];
        o->radius = (float)dice_range(d, range[0], range[1]);
    }
    if (s->count == 1)
        place_one(&s->objects[0], s->layout, d);
    else
        place_two(s, d);
}

static scene_object draw_object(dice *d) {
    static const int size[4] = {SIZE_SMALL, SIZE_MEDIUM, SIZE_MEDIUM, SIZE_BIG};
    scene_object o = {0}; // one roll a statement: an initializer has no order
    o.kind = dice_below(d, KINDS);
    o.colour = dice_below(d, COLOURS);
    o.size = size[dice_below(d, 4)];
    return o;
}

static scene draw_scene(dice *d, int count) {
    scene s = {.background = dice_below(d, BACKGROUNDS)};
    if (dice_chance(d, .22)) s.background = dice_chance(d, .5) ? BG_BLACK : BG_WHITE;
    if (s.background != BG_BLACK && s.background != BG_WHITE && dice_chance(d, .5))
        s.light = dice_chance(d, .5) ? LIGHT_DARK : LIGHT_BRIGHT;
    s.count = count ? count : dice_chance(d, .45) ? 1 : 2;
    s.layout =
        s.count == 1 ? dice_below(d, LAYOUT_UNDER) : LAYOUT_UNDER + dice_below(d, LAYOUTS - LAYOUT_UNDER);
    for (int i = 0; i < s.count; i++) s.objects[i] = draw_object(d);
    s.seed = dice_next(d);
    return s;
}

static bool drawable(const scene *s) {
    for (int i = 0; i < s->count; i++)
        if (clash(s->objects[i].colour, s->background, s->light)) return false;
    return s->count == 1 || s->objects[0].kind != s->objects[1].kind;
}

static void move_object(scene_object *o, double t) {
    static const double drift = .20, rise = .25, growth = .45;
    switch (o->motion) {
    case MOTION_DRIFT:
        o->x = (float)inside(o->x + o->heading * drift * t, o->radius);
        break;
    case MOTION_RISE:
        o->y = (float)inside(o->y - rise * t, o->radius);
        break;
    case MOTION_GROW: {
        double room = fmin(fmin(o->x, 1 - o->x), fmin(o->y, 1 - o->y)) - MARGIN;
        o->radius = (float)fmax(o->radius, fmin(o->radius * (1 + growth * t), room));
        break;
    }
    case MOTION_TURN:
        o->angle += (float)(o->heading * t * M_PI / 2);
        break;
    }
}

scene scene_at(const scene *s, double t) {
    scene moved = *s;
    moved.time = t;
    for (int i = 0; i < s->count; i++) move_object(&moved.objects[i], t);
    return moved;
}

// What an eye sees from time 0 to time 1; a turning circle stays a circle.
static bool moves_visibly(const scene_object *from, const scene_object *to) {
    if (from->motion == MOTION_TURN) return from->kind != KIND_CIRCLE;
    if (from->motion == MOTION_GROW) return to->radius > 1.15 * from->radius;
    return hypot(to->x - from->x, to->y - from->y) > .1;
}

static bool apart(const scene *s) {
    const scene_object *a = &s->objects[0], *b = &s->objects[1];
    return s->count == 1 || hypot(a->x - b->x, a->y - b->y) >= a->radius + b->radius;
}

// Every object moves visibly and none runs into the other. There is always such a way: what is no circle can
// turn, and a circle has room to drift in a column and to rise in a row.
static bool lively(const scene *s) {
    scene half = scene_at(s, .5), end = scene_at(s, 1);
    for (int i = 0; i < s->count; i++)
        if (!moves_visibly(&s->objects[i], &end.objects[i])) return false;
    return apart(&half) && apart(&end);
}

static void set_moving(scene *s, dice *d) {
    for (int i = 0; i < s->count; i++) {
        s->objects[i].motion = dice_below(d, MOTIONS);
        s->objects[i].heading = dice_chance(d, .5) ? 1 : -1;
    }
}

scene scene_sample(uint64_t seed, uint64_t index, scene_choice choice) {
    dice d = dice_new(seed, index);
    scene s;
    do s = draw_scene(&d, choice.count);
    while (!drawable(&s) || scene_split(&s) != choice.split);
    place(&s, &d);
    do set_moving(&s, &d);
    while (!lively(&s));
    return s;
}
