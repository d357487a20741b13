#include "assets/world/figures.h"

#include <math.h>

static const rgb WHITE = {1, 1, 1}, WOOD = {.44, .28, .15}, DARK_WOOD = {.26, .15, .08}, LAMP = {1, .92, .55};

// An oval shine, leaning with the round of the body.
static void shine(const brush *b, double x, double y, double rx, double ry, double lean, double alpha) {
    cairo_save(b->cx);
    cairo_translate(b->cx, x, y);
    cairo_rotate(b->cx, lean);
    path_ellipse(b->cx, 0, 0, rx, ry);
    cairo_restore(b->cx);
    brush_tint(b, WHITE, alpha);
}

static void draw_circle(const brush *b, const paint *p) {
    path_ellipse(b->cx, 0, 0, .93, .93);
    brush_body(b, p);
    shine(b, -.40, -.48, .26, .15, -.8, .55);
}

static void draw_square(const brush *b, const paint *p) {
    path_box(b->cx, -.82, -.82, 1.64, 1.64, .12);
    brush_body(b, p);
    path_box(b->cx, -.66, -.66, .86, .13, .06);
    brush_tint(b, WHITE, .40);
    path_box(b->cx, -.66, -.42, .13, .34, .06);
    brush_tint(b, WHITE, .40);
}

static void draw_triangle(const brush *b, const paint *p) {
    static const double corner[3][2] = {{0, -.93}, {.95, .76}, {-.95, .76}};
    path_polygon(b->cx, corner, 3);
    brush_body(b, p);
    static const double glint[4][2] = {{-.06, -.56}, {.03, -.50}, {-.40, .30}, {-.53, .30}};
    path_polygon(b->cx, glint, 4);
    brush_tint(b, WHITE, .38);
}

static void draw_star(const brush *b, const paint *p) {
    double tip[10][2];
    for (int i = 0; i < 10; i++) {
        double r = i % 2 ? .46 : 1.0;
        tip[i][0] = r * sin(i * M_PI / 5);
        tip[i][1] = .06 - r * cos(i * M_PI / 5);
    }
    path_polygon(b->cx, tip, 10);
    brush_body(b, p);
    for (int i = 0; i < 10; i += 2) { // the far side of each ray lies in shade
        double facet[3][2] = {{0, .06}, {tip[i][0], tip[i][1]}, {tip[i + 1][0], tip[i + 1][1]}};
        path_polygon(b->cx, facet, 3);
        brush_tint(b, p->shade, .45);
    }
}

static void draw_heart(const brush *b, const paint *p) {
    cairo_move_to(b->cx, 0, .93);
    cairo_curve_to(b->cx, -1.55, -.12, -.85, -1.22, 0, -.46);
    cairo_curve_to(b->cx, .85, -1.22, 1.55, -.12, 0, .93);
    cairo_close_path(b->cx);
    brush_body(b, p);
    shine(b, -.50, -.42, .24, .13, -.75, .60);
}

static void draw_moon(const brush *b, const paint *p) {
    double from = -1.05, to = 3.20; // the lit limb
    cairo_arc(b->cx, 0, 0, .96, from, to);
    cairo_curve_to(b->cx, -.45, .62, .88, .28, .96 * cos(from), .96 * sin(from));
    cairo_close_path(b->cx);
    brush_body(b, p);
    path_ellipse(b->cx, .62, .18, .12, .12);
    path_ellipse(b->cx, .28, .66, .15, .13);
    path_ellipse(b->cx, -.30, .68, .09, .08);
    brush_tint(b, p->shade, .75);
}

static void draw_window(const brush *b, const paint *p, double x, double y) {
    path_box(b->cx, x, y, .32, .30, .03);
    brush_part(b, LAMP, p->edge);
    if (b->view != VIEW_PICTURE) return;
    cairo_move_to(b->cx, x + .16, y);
    cairo_line_to(b->cx, x + .16, y + .30);
    cairo_move_to(b->cx, x, y + .15);
    cairo_line_to(b->cx, x + .32, y + .15);
    brush_line(b, p->edge, .7);
}

static void draw_house(const brush *b, const paint *p) {
    static const double eaves[3][2] = {{0, -.94}, {.96, -.10}, {-.96, -.10}};
    path_box(b->cx, .38, -.86, .24, .60, .03);
    brush_part(b, p->shade, p->edge);
    path_box(b->cx, -.74, -.16, 1.48, 1.08, .04);
    brush_body(b, p);
    path_polygon(b->cx, eaves, 3);
    brush_part(b, rgb_mix(p->body, p->edge, .38), p->edge);
    path_box(b->cx, -.17, .34, .34, .58, .03);
    brush_part(b, WOOD, DARK_WOOD);
    path_ellipse(b->cx, .09, .64, .035, .035);
    brush_tint(b, LAMP, 1);
    draw_window(b, p, -.60, .10);
    draw_window(b, p, .28, .10);
}

static void draw_tree(const brush *b, const paint *p) {
    static const double trunk[4][2] = {{-.11, .20}, {.11, .20}, {.19, .96}, {-.19, .96}};
    path_polygon(b->cx, trunk, 4);
    brush_part(b, WOOD, DARK_WOOD);
    static const double leaf[5][3] = {
        {0, -.50, .45}, {-.46, -.10, .40}, {.46, -.10, .40}, {-.20, .14, .34}, {.22, .14, .34}};
    for (int i = 0; i < 5; i++) path_ellipse(b->cx, leaf[i][0], leaf[i][1], leaf[i][2], leaf[i][2]);
    brush_body(b, p);
    shine(b, -.14, -.66, .20, .12, -.5, .35);
    shine(b, -.58, -.22, .15, .09, -.5, .30);
    shine(b, .36, -.24, .14, .08, -.5, .25);
}

static void draw_boat(const brush *b, const paint *p) {
    static const double jib[3][2] = {{-.12, -.66}, {-.12, .20}, {-.68, .20}};
    paint cloth = {rgb_mix(p->light, WHITE, .2), rgb_mix(p->body, p->light, .55), p->body, p->edge};
    cairo_move_to(b->cx, 0, .38);
    cairo_line_to(b->cx, 0, -.96);
    brush_line(b, WOOD, 2.2);
    cairo_move_to(b->cx, .11, -.88);
    cairo_curve_to(b->cx, .62, -.55, .86, -.10, .86, .20);
    cairo_line_to(b->cx, .11, .20);
    cairo_close_path(b->cx);
    brush_body(b, &cloth);
    path_polygon(b->cx, jib, 3);
    brush_body(b, &cloth);
    cairo_move_to(b->cx, -.97, .38);
    cairo_line_to(b->cx, .97, .38);
    cairo_curve_to(b->cx, .88, .70, .74, .90, .55, .90);
    cairo_line_to(b->cx, -.55, .90);
    cairo_curve_to(b->cx, -.74, .90, -.88, .70, -.97, .38);
    cairo_close_path(b->cx);
    brush_body(b, p);
    path_box(b->cx, -.86, .46, 1.72, .10, .05);
    brush_tint(b, WHITE, .55);
}

static void draw_balloon(const brush *b, const paint *p) {
    static const double knot[3][2] = {{0, .40}, {.12, .55}, {-.12, .55}};
    cairo_move_to(b->cx, 0, .50);
    cairo_curve_to(b->cx, .16, .66, -.16, .78, .03, .97);
    brush_line(b, p->edge, 1.2);
    path_polygon(b->cx, knot, 3);
    brush_part(b, p->shade, p->edge);
    cairo_move_to(b->cx, 0, .44);
    cairo_curve_to(b->cx, -.40, .36, -.70, 0, -.70, -.30);
    cairo_curve_to(b->cx, -.70, -.70, -.38, -.96, 0, -.96);
    cairo_curve_to(b->cx, .38, -.96, .70, -.70, .70, -.30);
    cairo_curve_to(b->cx, .70, 0, .40, .36, 0, .44);
    cairo_close_path(b->cx);
    brush_body(b, p);
    shine(b, -.32, -.56, .19, .11, -.85, .60);
}

void figure_draw(const brush *b, const scene_object *o) {
    static void (*const draw[KINDS])(const brush *, const paint *) = {
        draw_circle, draw_square, draw_triangle, draw_star, draw_heart,
        draw_moon,   draw_house,  draw_tree,     draw_boat, draw_balloon,
    };
    paint p = paint_of(o->colour);
    brush own = *b;
    own.pen = b->pen / o->radius;
    cairo_save(b->cx);
    cairo_translate(b->cx, o->x * b->width, o->y * b->height);
    cairo_scale(b->cx, o->radius, o->radius);
    cairo_rotate(b->cx, o->angle);
    cairo_new_path(b->cx);
    draw[o->kind](&own, &p);
    cairo_restore(b->cx);
}
