#include "cli/terminal.h"

#include <stdlib.h>
#include <string.h>

const char *const TERMINAL_SHOWS[] = {"off", "auto", "kitty", "iterm2", "sixel", "blocks", NULL};

// ---- which terminal

static bool env_has(const char *name, const char *part) {
    const char *value = getenv(name);
    return value && strstr(value, part);
}

terminal_show terminal_detect(bool tty) {
    static const struct {
        const char *variable, *part; // part "": the variable is there
        terminal_show how;
    } SIGNS[] = {
        {"TERM", "dumb", SHOW_OFF},
        {"TMUX", "", SHOW_BLOCKS}, // inside a multiplexer the outer terminal's signs are still there
        {"STY", "", SHOW_BLOCKS},
        {"KITTY_WINDOW_ID", "", SHOW_KITTY},
        {"TERM", "kitty", SHOW_KITTY},
        {"TERM", "ghostty", SHOW_KITTY},
        {"KONSOLE_VERSION", "", SHOW_KITTY},
        {"TERM_PROGRAM", "iTerm", SHOW_ITERM2},
        {"LC_TERMINAL", "iTerm2", SHOW_ITERM2},
        {"TERM_PROGRAM", "WezTerm", SHOW_ITERM2},
        {"TERM_PROGRAM", "mintty", SHOW_SIXEL},
        {"TERM", "sixel", SHOW_SIXEL},
        {"TERM", "foot", SHOW_SIXEL},
        {"TERM", "mlterm", SHOW_SIXEL},
        {"TERM", "contour", SHOW_SIXEL},
    };
    if (!tty || !getenv("TERM")) return SHOW_OFF;
    for (size_t i = 0; i < sizeof SIGNS / sizeof *SIGNS; i++)
        if (env_has(SIGNS[i].variable, SIGNS[i].part)) return SIGNS[i].how;
    return SHOW_BLOCKS;
}

// ---- size

// Pixels of a usual character cell, where the terminal does not tell.
enum { CELL_WIDTH = 10, SMALL = 256 };

// The mean over the pixels that a new one covers; an enlarged one repeats the nearest.
static void resample(const uint8_t *rgb, int w, int h, uint8_t *out, int W, int H) {
    for (int y = 0; y < H; y++)
        for (int x = 0; x < W; x++) {
            int x0 = (int)((int64_t)x * w / W), x1 = (int)((int64_t)(x + 1) * w / W);
            int y0 = (int)((int64_t)y * h / H), y1 = (int)((int64_t)(y + 1) * h / H);
            if (x1 <= x0) x1 = x0 + 1;
            if (y1 <= y0) y1 = y0 + 1;
            int64_t sum[3] = {0}, n = (int64_t)(x1 - x0) * (y1 - y0);
            for (int v = y0; v < y1; v++)
                for (int u = x0; u < x1; u++)
                    for (int c = 0; c < 3; c++)
                        sum[c] += rgb[((size_t)v * (size_t)w + (size_t)u) * 3 + (size_t)c];
            for (int c = 0; c < 3; c++) *out++ = (uint8_t)((sum[c] + n / 2) / n);
        }
}

// ---- base64, in pieces

static void put_base64(FILE *to, const uint8_t *p, size_t n) {
    static const char DIGITS[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < n; i += 3) {
        uint32_t v =
            (uint32_t)p[i] << 16 | (i + 1 < n ? (uint32_t)p[i + 1] << 8 : 0) | (i + 2 < n ? p[i + 2] : 0);
        fputc(DIGITS[v >> 18], to);
        fputc(DIGITS[v >> 12 & 63], to);
        fputc(i + 1 < n ? DIGITS[v >> 6 & 63] : '=', to);
        fputc(i + 2 < n ? DIGITS[v & 63] : '=', to);
    }
}

// ---- the protocols; each gets pixels of the right size

// https://sw.kovidgoyal.net/kitty/graphics-protocol: RGB in pieces of at most 4096 digits.
static void draw_kitty(FILE *to, const uint8_t *rgb, int w, int h) {
    enum { PIECE = 4096 / 4 * 3 };
    size_t n = 3 * (size_t)w * (size_t)h;
    for (size_t at = 0; at < n; at += PIECE) {
        size_t piece = n - at < PIECE ? n - at : PIECE;
        fputs("\033_G", to);
        if (!at) fprintf(to, "a=T,q=2,f=24,s=%d,v=%d,", w, h);
        fprintf(to, "m=%d;", at + piece < n);
        put_base64(to, rgb + at, piece);
        fputs("\033\\", to);
    }
    fputc('\n', to);
}

static bool draw_iterm2(FILE *to, const char *path) {
    enum { PIECE = 3 * 4096 };
    uint8_t piece[PIECE];
    size_t n;
    FILE *f = path ? fopen(path, "rb") : NULL;
    if (!f) return false;
    fputs("\033]1337;File=inline=1;preserveAspectRatio=1:", to);
    while ((n = fread(piece, 1, PIECE, f)) > 0) put_base64(to, piece, n);
    fclose(f);
    fputs("\a\n", to);
    return true;
}

// A sixel picture is made of bands of six rows; a band is drawn once for each of its colours, a character
// telling which of the six rows have it. Colours: 6 levels of red, 7 of green, 6 of blue, with an ordered
// dither against bands.
enum { RED = 6, GREEN = 7, BLUE = 6, COLOURS = RED * GREEN * BLUE, BAND = 6 };

static int level(int v, int levels, int x, int y) {
    static const uint8_t BAYER[4][4] = {{0, 8, 2, 10}, {12, 4, 14, 6}, {3, 11, 1, 9}, {15, 7, 13, 5}};
    return (v * (levels - 1) * 16 + 255 * BAYER[y & 3][x & 3] + 127) / (255 * 16);
}

static int colour_of(const uint8_t *p, int x, int y) {
    return (level(p[0], RED, x, y) * GREEN + level(p[1], GREEN, x, y)) * BLUE + level(p[2], BLUE, x, y);
}

static void put_run(FILE *to, int bits, int n) {
    if (n > 3)
        fprintf(to, "!%d%c", n, '?' + bits);
    else
        while (n-- > 0) fputc('?' + bits, to);
}

static void draw_band(FILE *to, const uint8_t *index, int w, int rows, int colour) {
    int run = 0, last = 0;
    for (int x = 0; x < w; x++) {
        int bits = 0;
        for (int y = 0; y < rows; y++) bits |= (index[y * w + x] == colour) << y;
        if (bits != last) put_run(to, last, run), run = 0;
        last = bits;
        run++;
    }
    if (last) put_run(to, last, run);
}

static bool draw_sixel(FILE *to, const uint8_t *rgb, int w, int h) {
    uint8_t *index = malloc((size_t)w * BAND);
    if (!index) return false;
    fprintf(to, "\033Pq\"1;1;%d;%d", w, h);
    for (int i = 0; i < COLOURS; i++)
        fprintf(to, "#%d;2;%d;%d;%d", i, i / (GREEN * BLUE) * 100 / (RED - 1),
                i / BLUE % GREEN * 100 / (GREEN - 1), i % BLUE * 100 / (BLUE - 1));
    for (int top = 0; top < h; top += BAND) {
        int rows = h - top < BAND ? h - top : BAND;
        bool used[COLOURS] = {false};
        for (int i = 0; i < rows * w; i++) {
            int c = colour_of(rgb + 3 * ((size_t)top * (size_t)w + (size_t)i), i % w, top + i / w);
            index[i] = (uint8_t)c;
            used[c] = true;
        }
        for (int c = 0; c < COLOURS; c++) {
            if (!used[c]) continue;
            fprintf(to, "#%d", c);
            draw_band(to, index, w, rows, c);
            fputc('$', to);
        }
        fputc('-', to);
    }
    fputs("\033\\\n", to);
    free(index);
    return true;
}

// Colour number in the cube of xterm's 256.
static int cube(const uint8_t *p) {
    return 16 + 36 * ((p[0] * 5 + 127) / 255) + 6 * ((p[1] * 5 + 127) / 255) + (p[2] * 5 + 127) / 255;
}

static void put_colour(FILE *to, int ground, const uint8_t *p, bool exact) {
    if (exact)
        fprintf(to, "\033[%d;2;%d;%d;%dm", ground, p[0], p[1], p[2]);
    else
        fprintf(to, "\033[%d;5;%dm", ground, cube(p));
}

// Two rows of pixels in one of text: the upper is the half block's colour, the lower its ground.
static void draw_blocks(FILE *to, const uint8_t *rgb, int w, int h) {
    bool exact = env_has("COLORTERM", "truecolor") || env_has("COLORTERM", "24bit");
    size_t row = 3 * (size_t)w;
    for (int y = 0; y < h; y += 2) {
        for (int x = 0; x < w; x++) {
            const uint8_t *p = rgb + (size_t)y * row + 3 * (size_t)x;
            put_colour(to, 38, p, exact);
            if (y + 1 < h) put_colour(to, 48, p + row, exact);
            fputs("▀", to);
        }
        fputs("\033[m\n", to);
    }
}

bool terminal_draw(FILE *to, terminal_show how, const uint8_t *rgb, int w, int h, int columns,
                   const char *path) {
    if (how == SHOW_ITERM2) return draw_iterm2(to, path);
    int most = how == SHOW_BLOCKS ? columns : columns * CELL_WIDTH, W = w, H;
    if (how != SHOW_BLOCKS && w < SMALL) W = SMALL / w * w; // whole multiples keep small pictures crisp
    if (W > most) W = most;
    if (how == SHOW_BLOCKS && W > 64) W = 64;
    if (W < 1) W = 1;
    H = (int)((int64_t)h * W / w);
    if (H < 1) H = 1;
    uint8_t *fit = malloc(3 * (size_t)W * (size_t)H);
    if (!fit) return false;
    resample(rgb, w, h, fit, W, H);
    bool drawn = true;
    if (how == SHOW_KITTY)
        draw_kitty(to, fit, W, H);
    else if (how == SHOW_SIXEL)
        drawn = draw_sixel(to, fit, W, H);
    else
        draw_blocks(to, fit, W, H);
    free(fit);
    return drawn;
}
