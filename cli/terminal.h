// What a terminal can show, and pictures in it: by the protocols of kitty, iTerm2 or sixel, or as half blocks
// of two colours.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

typedef enum { SHOW_OFF, SHOW_AUTO, SHOW_KITTY, SHOW_ITERM2, SHOW_SIXEL, SHOW_BLOCKS } terminal_show;
#define TERMINAL_SHOW_NAMES "off", "auto", "kitty", "iterm2", "sixel", "blocks"
extern const char *const TERMINAL_SHOWS[]; // these names, NULL-terminated

// What the environment says the terminal can do; `tty`: whether there is one. SHOW_OFF if it cannot.
terminal_show terminal_detect(bool tty);
// Whether the environment's locale has more than ASCII.
bool terminal_is_utf8(void);

typedef struct {
    int columns, rows;           // characters
    int cell_width, cell_height; // pixels of one
} terminal_size;
// 80×24 and a small cell where `f` is no terminal or does not tell.
terminal_size terminal_measure(FILE *f);

// Where pictures are drawn. `in_place`: each over the one before, from a line below it, to which the cursor
// comes back; a file gets them one below the other.
typedef struct {
    FILE *to;
    terminal_show how; // never AUTO; OFF: do not draw
    terminal_size size;
    bool in_place;
    int lines; // of the picture that the next one goes over; 0: of none
} terminal_view;

void terminal_view_open(terminal_view *v, FILE *to, terminal_show how, bool in_place);
// h rows of w RGB pixels, made smaller where they must be. false when memory is short.
bool terminal_view_draw(terminal_view *v, const uint8_t *rgb, int w, int h);
// The picture stays: the next one is drawn at the cursor.
void terminal_view_leave(terminal_view *v);
