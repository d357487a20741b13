// Pictures in a terminal: by the protocols of kitty, iTerm2 or sixel, or as half blocks of two colours.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

typedef enum { SHOW_OFF, SHOW_AUTO, SHOW_KITTY, SHOW_ITERM2, SHOW_SIXEL, SHOW_BLOCKS } terminal_show;
extern const char *const TERMINAL_SHOWS[]; // names of the above, NULL-terminated

// What the environment says the terminal can do; `tty`: whether there is one. SHOW_OFF if it cannot.
terminal_show terminal_detect(bool tty);
// Draws h rows of w RGB pixels as `how` (not OFF or AUTO), at most `columns` cells wide. `path` is the same
// picture's file, which iTerm2 is sent. false when memory is short or the file is gone.
bool terminal_draw(FILE *to, terminal_show how, const uint8_t *rgb, int w, int h, int columns,
                   const char *path);
