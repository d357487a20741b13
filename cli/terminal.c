#include "cli/terminal.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/ioctl.h>
#include <unistd.h>

const char *const TERMINAL_SHOWS[] = {TERMINAL_SHOW_NAMES, NULL};

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

bool terminal_is_utf8(void) {
    static const char *const NAMES[] = {"LC_ALL", "LC_CTYPE", "LANG"}; // the first that says something
    for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++) {
        const char *value = getenv(NAMES[i]);
        if (value && *value) return strcasestr(value, "utf-8") || strcasestr(value, "utf8");
    }
    return false;
}

// ---- size

// Pixels of a small character cell, where the terminal does not tell; of a small picture; half blocks in a
// row.
enum { CELL_WIDTH = 10, CELL_HEIGHT = 16, SMALL = 256, MOST_BLOCKS = 64 };

terminal_size terminal_measure(FILE *f) {
    struct winsize w = {0};
    ioctl(fileno(f), TIOCGWINSZ, &w); // zeros stay for what is not known
    terminal_size s = {w.ws_col ? w.ws_col : 80, w.ws_row ? w.ws_row : 24, CELL_WIDTH, CELL_HEIGHT};
    if (w.ws_xpixel >= s.columns && w.ws_ypixel >= s.rows) {
        s.cell_width = w.ws_xpixel / s.columns;
        s.cell_height = w.ws_ypixel / s.rows;
    }
    return s;
}

// The size in pixels at which a picture is drawn, and the characters that it covers.
typedef struct {
    int w, h, columns, lines;
} extent;

// rows 0: any number.
static extent fit(terminal_show how, const terminal_size *s, int w, int h) {
    bool blocks = how == SHOW_BLOCKS;
    int cell_w = blocks ? 1 : s->cell_width, cell_h = blocks ? 2 : s->cell_height;
    int64_t most = (int64_t)s->columns * cell_w, high = (int64_t)s->rows * cell_h;
    if (blocks && most > MOST_BLOCKS) most = MOST_BLOCKS;
    if (high && most > high * w / h) most = high * w / h;
    int W = !blocks && w < SMALL ? SMALL / w * w : w; // whole multiples keep small pictures crisp
    if (W > most) W = (int)most;
    if (W < 1) W = 1;
    int H = (int)((int64_t)h * W / w);
    if (H < 1) H = 1;
    return (extent){W, H, (W + cell_w - 1) / cell_w, (H + cell_h - 1) / cell_h};
}

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

static void put_little(uint8_t *to, uint32_t v, int bytes) {
    for (int i = 0; i < bytes; i++) to[i] = (uint8_t)(v >> 8 * i);
}

// https://iterm2.com/documentation-images.html: a whole file; BMP is the one that needs no compression. Its
// rows run upwards, as B G R, and end on multiples of four bytes.
static bool draw_iterm2(FILE *to, const uint8_t *rgb, const extent *e) {
    enum { HEADER = 54 };
    size_t row = (3 * (size_t)e->w + 3) / 4 * 4, n = HEADER + row * (size_t)e->h;
    uint8_t *bmp = calloc(n, 1);
    if (!bmp) return false;
    memcpy(bmp, "BM", 2);
    put_little(bmp + 2, (uint32_t)n, 4);
    put_little(bmp + 10, HEADER, 4);
    put_little(bmp + 14, 40, 4); // of the second half of the header
    put_little(bmp + 18, (uint32_t)e->w, 4);
    put_little(bmp + 22, (uint32_t)e->h, 4);
    put_little(bmp + 26, 1, 2);  // planes
    put_little(bmp + 28, 24, 2); // bits of a pixel
    for (int y = 0; y < e->h; y++)
        for (int x = 0; x < e->w; x++)
            for (int c = 0; c < 3; c++)
                bmp[HEADER + (size_t)(e->h - 1 - y) * row + 3 * (size_t)x + (size_t)c] =
                    rgb[3 * ((size_t)y * (size_t)e->w + (size_t)x) + 2 - (size_t)c];
    fprintf(to, "\033]1337;File=inline=1;size=%zu;width=%d;height=%d;preserveAspectRatio=1:", n, e->columns,
            e->lines);
    put_base64(to, bmp, n);
    fputs("\a\n", to);
    free(bmp);
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

static bool draw(FILE *to, terminal_show how, const uint8_t *rgb, const extent *e) {
    if (how == SHOW_KITTY)
        draw_kitty(to, rgb, e->w, e->h);
    else if (how == SHOW_BLOCKS)
        draw_blocks(to, rgb, e->w, e->h);
    else
        return how == SHOW_SIXEL ? draw_sixel(to, rgb, e->w, e->h) : draw_iterm2(to, rgb, e);
    return true;
}

// ---- one picture after another

void terminal_view_open(terminal_view *v, FILE *to, terminal_show how, bool in_place) {
    bool tty = isatty(fileno(to));
    *v = (terminal_view){.to = to, .how = how == SHOW_AUTO ? terminal_detect(tty) : how};
    v->in_place = in_place && tty;
    v->size = terminal_measure(to);
    if (v->in_place) // all of it stays on the screen, with a line of progress below
        v->size.rows = v->size.rows > 3 ? v->size.rows - 2 : 1;
    else
        v->size.rows = 0; // it may scroll by
}

// Lines for the picture where it has none yet, then up to the first of them.
static void go_up(terminal_view *v, int lines) {
    if (!v->lines)
        for (int i = 0; i < lines; i++) fputc('\n', v->to);
    fprintf(v->to, "\0337\r\033[%dA", lines);
    // Pictures of kitty would pile up on each other.
    if (v->lines && v->how == SHOW_KITTY) fputs("\033_Ga=d,d=C,q=2\033\\", v->to);
}

bool terminal_view_draw(terminal_view *v, const uint8_t *rgb, int w, int h) {
    extent e = fit(v->how, &v->size, w, h);
    uint8_t *scaled = malloc(3 * (size_t)e.w * (size_t)e.h);
    if (!scaled) return false;
    resample(rgb, w, h, scaled, e.w, e.h);
    if (v->in_place) go_up(v, e.lines);
    bool drawn = draw(v->to, v->how, scaled, &e);
    if (v->in_place) fputs("\0338", v->to);
    v->lines = e.lines;
    fflush(v->to);
    free(scaled);
    return drawn;
}

void terminal_view_leave(terminal_view *v) { v->lines = 0; }
