#include "assets/world/brush.h"

#include <math.h>

static const rgb WHITE = {1, 1, 1}, BLACK = {0, 0, 0};

rgb rgb_mix(rgb a, rgb b, double t) {
    return (rgb){a.r + (b.r - a.r) * t, a.g + (b.g - a.g) * t, a.b + (b.b - a.b) * t};
}

paint paint_of(int colour) {
    static const rgb body[COLOURS] = {
        {.86, .14, .14}, {.98, .53, .08}, {.99, .86, .18}, {.20, .64, .26}, {.15, .38, .88},
        {.52, .22, .74}, {.99, .56, .74}, {.48, .28, .14}, {.96, .96, .97}, {.07, .07, .08},
    };
    rgb c = body[colour];
    if (colour == COLOUR_WHITE) return (paint){WHITE, c, {.80, .83, .90}, {.56, .60, .70}};
    if (colour == COLOUR_BLACK) return (paint){{.26, .26, .30}, c, {.02, .02, .03}, {.34, .34, .38}};
    return (paint){rgb_mix(c, WHITE, .32), c, rgb_mix(c, BLACK, .20), rgb_mix(c, BLACK, .42)};
}

static void set_source(cairo_t *cx, rgb c, double alpha) { cairo_set_source_rgba(cx, c.r, c.g, c.b, alpha); }

// The outline lies outside: stroked twice as wide first, covered by the fill afterwards, so that figures made
// of several overlapping parts in one path get one common outline.
static void outline(const brush *b, rgb edge, double pens) {
    set_source(b->cx, b->view == VIEW_LINES ? WHITE : edge, b->view == VIEW_MASK ? b->label : 1);
    cairo_set_line_width(b->cx, 2 * pens * b->pen);
    cairo_stroke_preserve(b->cx);
}

// True when the view replaces colours: the mask by the label, the line drawing by black paper.
static bool fill_for_view(const brush *b) {
    if (b->view == VIEW_PICTURE) return false;
    set_source(b->cx, BLACK, b->view == VIEW_MASK ? b->label : 1);
    cairo_fill(b->cx);
    return true;
}

static void add_stop(cairo_pattern_t *g, double t, rgb c) {
    cairo_pattern_add_color_stop_rgb(g, t, c.r, c.g, c.b);
}

void brush_body(const brush *b, const paint *p) {
    outline(b, p->edge, 1);
    if (fill_for_view(b)) return;
    cairo_pattern_t *g = cairo_pattern_create_radial(-.42, -.50, .05, -.30, -.35, 1.60);
    add_stop(g, 0, p->light);
    add_stop(g, .34, p->body);
    add_stop(g, .60, p->body);
    add_stop(g, 1, p->shade);
    cairo_set_source(b->cx, g);
    cairo_pattern_destroy(g);
    cairo_fill(b->cx);
}

void brush_part(const brush *b, rgb fill, rgb edge) {
    outline(b, edge, b->view == VIEW_LINES ? 1 : .6);
    if (fill_for_view(b)) return;
    set_source(b->cx, fill, 1);
    cairo_fill(b->cx);
}

void brush_line(const brush *b, rgb colour, double width) {
    set_source(b->cx, b->view == VIEW_LINES ? WHITE : colour, b->view == VIEW_MASK ? b->label : 1);
    cairo_set_line_width(b->cx, (b->view == VIEW_LINES ? 1 : width) * b->pen);
    cairo_stroke(b->cx);
}

void brush_tint(const brush *b, rgb colour, double alpha) {
    if (b->view == VIEW_PICTURE) {
        set_source(b->cx, colour, alpha);
        cairo_fill(b->cx);
    }
    cairo_new_path(b->cx);
}

void path_ellipse(cairo_t *cx, double x, double y, double rx, double ry) {
    cairo_matrix_t saved;
    cairo_get_matrix(cx, &saved);
    cairo_translate(cx, x, y);
    cairo_scale(cx, rx, ry);
    cairo_new_sub_path(cx);
    cairo_arc(cx, 0, 0, 1, 0, 2 * M_PI);
    cairo_close_path(cx);
    cairo_set_matrix(cx, &saved);
}

void path_polygon(cairo_t *cx, const double (*xy)[2], int n) {
    cairo_new_sub_path(cx);
    for (int i = 0; i < n; i++) cairo_line_to(cx, xy[i][0], xy[i][1]);
    cairo_close_path(cx);
}

void path_box(cairo_t *cx, double x, double y, double w, double h, double corner) {
    cairo_new_sub_path(cx);
    cairo_arc(cx, x + w - corner, y + corner, corner, -M_PI / 2, 0);
    cairo_arc(cx, x + w - corner, y + h - corner, corner, 0, M_PI / 2);
    cairo_arc(cx, x + corner, y + h - corner, corner, M_PI / 2, M_PI);
    cairo_arc(cx, x + corner, y + corner, corner, M_PI, 1.5 * M_PI);
    cairo_close_path(cx);
}
