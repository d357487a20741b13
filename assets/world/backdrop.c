#include "assets/world/backdrop.h"
#include "assets/world/dice.h"

#include <math.h>

static const rgb WHITE = {1, 1, 1}, BLACK = {0, 0, 0};

// Dark and bright change the backdrop only: objects keep the colour that the caption names.
typedef struct {
    rgb toward;
    double share;
} wash;

static rgb lit(rgb c, const scene *s) {
    static const wash day[LIGHTS] = {{{0, 0, 0}, 0}, {{0, 0, 0}, .60}, {{1, 1, 1}, .45}};
    static const wash night[LIGHTS] = {{{0, 0, 0}, 0}, {{0, 0, 0}, .58}, {{.55, .60, .88}, .42}};
    const wash *w = s->background == BG_NIGHT ? &night[s->light] : &day[s->light];
    return rgb_mix(c, w->toward, w->share);
}

typedef struct {
    double at;
    rgb colour;
} stop;

static void set_gradient(const brush *b, const scene *s, cairo_pattern_t *g, const stop *stops, int n) {
    for (int i = 0; i < n; i++) {
        rgb c = lit(stops[i].colour, s);
        cairo_pattern_add_color_stop_rgb(g, stops[i].at, c.r, c.g, c.b);
    }
    cairo_set_source(b->cx, g);
    cairo_pattern_destroy(g);
}

// A band over the whole width from y0 to y1, shares of the height.
static void band(const brush *b, const scene *s, double y0, double y1, const stop *stops, int n) {
    double top = y0 * b->height, bottom = y1 * b->height;
    if (b->view == VIEW_PICTURE) {
        set_gradient(b, s, cairo_pattern_create_linear(0, top, 0, bottom), stops, n);
        cairo_rectangle(b->cx, 0, top, b->width, bottom - top + .01);
        cairo_fill(b->cx);
    }
    if (y0 > 0) {
        cairo_move_to(b->cx, 0, top);
        cairo_line_to(b->cx, b->width, top);
        if (b->view == VIEW_LINES) brush_line(b, WHITE, 1);
        cairo_new_path(b->cx);
    }
}

static void draw_plain(const brush *b, const scene *s) {
    static const rgb colour[BG_NIGHT] = {{0, 0, 0},       {1, 1, 1},       {.58, .59, .61}, {.36, .53, .90},
                                         {.96, .84, .36}, {.96, .64, .76}, {.40, .70, .43}};
    rgb c = lit(colour[s->background], s);
    bool exact = s->background == BG_BLACK || s->background == BG_WHITE;
    if (exact) {
        cairo_set_source_rgb(b->cx, c.r, c.g, c.b);
    } else { // paper under a lamp
        rgb rim = rgb_mix(c, BLACK, .14);
        double reach = hypot(b->width, b->height);
        cairo_pattern_t *g = cairo_pattern_create_radial(.45 * b->width, .40 * b->height, .1, .45 * b->width,
                                                         .40 * b->height, .72 * reach);
        cairo_pattern_add_color_stop_rgb(g, 0, c.r, c.g, c.b);
        cairo_pattern_add_color_stop_rgb(g, 1, rim.r, rim.g, rim.b);
        cairo_set_source(b->cx, g);
        cairo_pattern_destroy(g);
    }
    cairo_paint(b->cx);
}

// A twinkle with four rays, or a dot when it is small.
static void sparkle(const brush *b, double x, double y, double r) {
    static const rgb star = {1, .98, .84};
    if (r < .010) {
        path_ellipse(b->cx, x, y, r, r);
    } else {
        double ray[8][2];
        for (int i = 0; i < 8; i++) {
            double reach = i % 2 ? .35 * r : 1.7 * r;
            ray[i][0] = x + reach * sin(i * M_PI / 4);
            ray[i][1] = y - reach * cos(i * M_PI / 4);
        }
        path_polygon(b->cx, (const double(*)[2])ray, 8);
    }
    brush_tint(b, star, .95);
}

static void draw_night(const brush *b, const scene *s, dice *d) {
    static const stop sky[3] = {{0, {.03, .04, .17}}, {.6, {.10, .12, .36}}, {1, {.24, .22, .50}}};
    band(b, s, 0, 1, sky, 3);
    for (int i = 0; i < 16; i++) {
        double x = dice_unit(d) * b->width, y = dice_unit(d) * .96 * b->height;
        sparkle(b, x, y, i < 4 ? dice_range(d, .011, .016) : dice_range(d, .005, .009));
    }
}

// A cloud `w` wide whose flat bottom lies at y.
static void cloud(const brush *b, double x, double y, double w, rgb colour, double alpha) {
    path_ellipse(b->cx, x - .28 * w, y - .10 * w, .22 * w, .11 * w);
    path_ellipse(b->cx, x, y - .15 * w, .24 * w, .17 * w);
    path_ellipse(b->cx, x + .27 * w, y - .10 * w, .23 * w, .12 * w);
    brush_tint(b, colour, alpha);
}

// Clouds drift with time and come in again on the other side.
static void draw_clouds(const brush *b, const scene *s, dice *d, int n, double low, rgb colour,
                        double alpha) {
    for (int i = 0; i < n; i++) {
        double w = dice_range(d, .20, .32), x = dice_unit(d) + .15 * s->time;
        double span = b->width + w;
        cloud(b, fmod(x * span, span) - w / 2, dice_range(d, .10, low) * b->height, w, lit(colour, s), alpha);
    }
}

// Land from a curve down to the lower border: y at the left border, two control points, y at the right.
static void land(const brush *b, const scene *s, const double y[4], double shift, rgb top, rgb bottom) {
    double w = b->width, h = b->height;
    cairo_move_to(b->cx, -.1, 1.1 * h);
    cairo_line_to(b->cx, -.1, y[0] * h);
    cairo_curve_to(b->cx, (.33 + shift) * w, y[1] * h, (.66 + shift) * w, y[2] * h, w + .1, y[3] * h);
    cairo_line_to(b->cx, w + .1, 1.1 * h);
    cairo_close_path(b->cx);
    if (b->view == VIEW_LINES) {
        brush_part(b, BLACK, WHITE);
        return;
    }
    stop stops[2] = {{0, top}, {1, bottom}};
    set_gradient(b, s, cairo_pattern_create_linear(0, fmin(y[0], y[3]) * h - .1, 0, h), stops, 2);
    cairo_fill(b->cx);
}

static void draw_sunset(const brush *b, const scene *s, dice *d) {
    static const stop sky[4] = {
        {0, {.38, .22, .54}}, {.42, {.83, .36, .47}}, {.75, {.97, .58, .38}}, {1, {1, .84, .48}}};
    band(b, s, 0, .84, sky, 4);
    for (int i = 0; i < 3; i++) { // long thin clouds, lit from below
        double x = dice_unit(d) + .06 * s->time, y = dice_range(d, .14, .62);
        path_ellipse(b->cx, x * b->width, y * b->height, dice_range(d, .16, .28), .016);
        brush_tint(b, lit((rgb){1, .74, .58}, s), .55);
    }
    double shift = dice_range(d, -.12, .12);
    land(b, s, (const double[4]){.84, .76, .90, .82}, shift, (rgb){.40, .22, .36}, (rgb){.24, .13, .26});
}

static void wave(const brush *b, const scene *s, double y, double phase) {
    double step = .16;
    cairo_move_to(b->cx, (phase - 1) * step, y);
    for (double x = (phase - 1) * step; x < b->width; x += step)
        cairo_curve_to(b->cx, x + .3 * step, y - .022, x + .7 * step, y - .022, x + step, y);
    brush_line(b, lit((rgb){.70, .90, .97}, s), .9);
}

static void draw_sea(const brush *b, const scene *s, dice *d) {
    static const stop sky[2] = {{0, {.46, .74, .96}}, {1, {.84, .94, .99}}};
    static const stop water[2] = {{0, {.16, .56, .74}}, {1, {.05, .28, .54}}};
    band(b, s, 0, .58, sky, 2);
    draw_clouds(b, s, d, 2, .40, WHITE, .60);
    band(b, s, .58, 1, water, 2);
    for (int i = 0; i < 4; i++) {
        double phase = dice_unit(d) + (i % 2 ? -1 : 1) * s->time;
        wave(b, s, (.66 + .095 * i) * b->height, phase - floor(phase));
    }
}

static void draw_hills(const brush *b, const scene *s, dice *d) {
    static const stop sky[2] = {{0, {.42, .72, .97}}, {1, {.90, .96, 1}}};
    band(b, s, 0, .80, sky, 2);
    draw_clouds(b, s, d, 2, .38, WHITE, .60);
    double shift = dice_range(d, -.15, .15);
    land(b, s, (const double[4]){.66, .42, .64, .58}, shift, (rgb){.66, .86, .46}, (rgb){.40, .70, .34});
    land(b, s, (const double[4]){.80, .92, .56, .76}, -shift, (rgb){.46, .76, .36}, (rgb){.22, .54, .26});
}

void backdrop_draw(const brush *b, const scene *s) {
    static void (*const scenic[BACKGROUNDS - BG_NIGHT])(const brush *, const scene *, dice *) = {
        draw_night, draw_sunset, draw_sea, draw_hills};
    dice d = dice_new(s->seed, 0);
    if (s->background >= BG_NIGHT)
        scenic[s->background - BG_NIGHT](b, s, &d);
    else if (b->view == VIEW_PICTURE)
        draw_plain(b, s);
}
