// One drawing, three views: figures and backgrounds are drawn with these strokes once, and the view decides
// whether they come out as a picture, as a label mask or as a line drawing.
//
// Every stroke consumes the current path of `cx`.
#pragma once
#include "assets/world/scene.h"

#include <cairo.h>

typedef struct {
    double r, g, b;
} rgb;

// What a colour's name looks like under the one lamp at the upper left.
typedef struct {
    rgb light, body, shade, edge;
} paint;

typedef enum { VIEW_PICTURE, VIEW_MASK, VIEW_LINES } view;

typedef struct {
    cairo_t *cx; // unit: the shorter side of the picture
    view view;
    double width, height; // of the picture in that unit
    double pen;           // outline width in the current user unit
    double label;         // VIEW_MASK: alpha that stands for the object
} brush;

rgb rgb_mix(rgb a, rgb b, double t); // a at 0, b at 1
paint paint_of(int colour);

// A body lit from the upper left, with an outline around it.
void brush_body(const brush *b, const paint *p);
// An opaque part of one colour with a thin outline.
void brush_part(const brush *b, rgb fill, rgb edge);
// A line of `width` pens; lines one pen wide in a line drawing.
void brush_line(const brush *b, rgb colour, double width);
// A mark that only the picture shows: a shine, a star, a cloud.
void brush_tint(const brush *b, rgb colour, double alpha);

void path_ellipse(cairo_t *cx, double x, double y, double rx, double ry);
void path_polygon(cairo_t *cx, const double (*xy)[2], int n);
void path_box(cairo_t *cx, double x, double y, double w, double h, double corner);
