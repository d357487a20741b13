// What a terminal is sent: pictures, previews, the bar, colours.
#include "core/base/mem.h"
#include "core/files/image.h"
#include "tests/shell.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

TestSuite(terminal, .init = shell_begin, .fini = shell_end);

// ---- pictures in the terminal

// The first picture of what a terminal was sent, by a decoder of as much of sixel as we write: RGB rows.
static int decode_sixel(const char *p, uint8_t *rgb, int w, int h) {
    static uint8_t colours[256][3];
    int x = 0, top = 0, colour = 0, n, a, b, c, d, painted = 0;
    for (; *p && *p != 033; p++) {
        int run = 1;
        if (*p == '#' && sscanf(p, "#%d;2;%d;%d;%d%n", &a, &b, &c, &d, &n) == 4) {
            colours[a][0] = (uint8_t)b, colours[a][1] = (uint8_t)c, colours[a][2] = (uint8_t)d;
            p += n - 1;
            continue;
        }
        if (*p == '#') {
            cr_assert_eq(sscanf(p, "#%d%n", &colour, &n), 1);
            p += n - 1;
            continue;
        }
        if (*p == '$' || *p == '-') {
            top += *p == '-' ? 6 : 0;
            x = 0;
            continue;
        }
        if (*p == '!') {
            cr_assert_eq(sscanf(p, "!%d%n", &run, &n), 1);
            p += n;
        }
        cr_assert(*p >= '?' && *p <= '~', "'%c' is no sixel", *p);
        for (; run > 0; run--, x++)
            for (int k = 0; k < 6; k++) {
                if (!((*p - '?') >> k & 1)) continue;
                cr_assert(x < w && top + k < h);
                memcpy(rgb + 3 * ((top + k) * w + x), colours[colour], 3);
                painted++;
            }
    }
    return painted;
}

static double mean_of(const uint8_t *p, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += p[i];
    return sum / (double)n;
}

Test(terminal, show_draws_what_the_file_holds) {
    enum { SIDE = 32, DRAWN = 256 };
    char path[600];
    image im;
    error err = {0};
    result r =
        sh("COLORTERM=truecolor $C txt2img -q -m \"$M\" -p x --steps 1 -s 1 -o \"$D/s.png\" --show=blocks");
    snprintf(path, sizeof path, "%s/s.png", folder);
    cr_assert_eq(image_load(path, &im, &err), OK, "%s", err.text);
    cr_assert_eq(im.w, SIDE);
    int n, at = 0;
    for (const char *p = r.err; at < SIDE * SIDE / 2; at++) {
        int v[6];
        cr_assert_eq(
            sscanf(p, "\033[38;2;%d;%d;%dm\033[48;2;%d;%d;%dm▀%n", v, v + 1, v + 2, v + 3, v + 4, v + 5, &n),
            6);
        const uint8_t *upper = im.px + 3 * (at / SIDE * 2 * SIDE + at % SIDE);
        for (int c = 0; c < 3; c++) cr_assert(v[c] == upper[c] && v[3 + c] == upper[3 * SIDE + c]);
        p += n;
        if (at % SIDE == SIDE - 1) p += strlen("\033[m\n");
    }
    drop(r);

    r = sh("$C txt2img -q -m \"$M\" -p x --steps 1 -s 1 -o \"$D/s.png\" --force --show=sixel");
    const char *body = strstr(r.err, "\"1;1;256;256");
    cr_assert(body && strstr(r.err, "\033Pq") == body - 3);
    uint8_t *rgb = mem_calloc(DRAWN * DRAWN, 3);
    cr_expect_eq(decode_sixel(body + strlen("\"1;1;256;256"), rgb, DRAWN, DRAWN), DRAWN * DRAWN,
                 "each pixel once");
    // Ordered dither of 16 thresholds keeps the mean within a level's 16th (100/5/16 percent) and rounding.
    double sent = mean_of(rgb, 3 * DRAWN * DRAWN), kept = mean_of(im.px, 3 * SIDE * SIDE) * 100 / 255;
    cr_expect(sent > kept - 2.3 && sent < kept + 2.3, "%g %g", sent, kept);
    mem_free(rgb);
    drop(r);
    expect("$C txt2img -q -m \"$M\" -p x --steps 1 -o \"$D/k.png\" --show=kitty", 0, NULL,
           "\033_Ga=T,q=2,f=24,s=256,v=256,m=1;");
    expect("$C txt2img -q -m \"$M\" -p x --steps 1 -o \"$D/t.png\" --show=iterm2", 0, NULL,
           "width=26;height=16;preserveAspectRatio=1:Qk0"); // "BM", 256 pixels in cells of 10 by 16
    r = sh("$C txt2img -q -m \"$M\" -p x --steps 1 -o \"$D/n.png\" --show");
    cr_expect_str_empty(r.err, "nothing is drawn into a file");
    drop(r);
    image_free(&im);
}

static int count_of(const char *text, const char *part) {
    int n = 0;
    for (const char *p = text; (p = strstr(p, part)); p += strlen(part)) n++;
    return n;
}

// In a file one below the other; the last is the finished picture, which --show draws alone.
Test(terminal, preview_draws_what_forms) {
    enum { ROWS = 16 };
    result alone = sh("$C txt2img -q -m \"$M\" -p x --steps 4 -s 1 -o \"$D/a.png\" --show=blocks");
    cr_assert_eq(alone.code, 0, "%s", alone.err);
    static const int DRAWN[][2] = {{1, 4}, {2, 2}, {3, 2}, {4, 1}}; // interval, pictures of four steps
    for (size_t i = 0; i < sizeof DRAWN / sizeof *DRAWN; i++) {
        char line[300];
        snprintf(line, sizeof line,
                 "$C txt2img -q -m \"$M\" -p x --steps 4 -s 1 -o \"$D/b.png\" --force --preview=blocks "
                 "--preview-interval %d",
                 DRAWN[i][0]);
        result r = sh(line);
        cr_expect_eq(r.code, 0, "%s", r.err);
        cr_expect_eq(count_of(r.err, "\033[m\n"), ROWS * DRAWN[i][1], "%s", line);
        size_t n = strlen(r.err), last = strlen(alone.err);
        cr_expect(n >= last && !strcmp(r.err + n - last, alone.err), "%s", line);
        cr_expect_eq(count_of(r.err, "\0337"), 0, "a file has no cursor");
        drop(r);
    }
    drop(alone);
    expect("cmp \"$D/a.png\" \"$D/b.png\"", 0, NULL, NULL);
    // Two in one group: the first is previewed, both are shown.
    result two = sh("$C txt2img -q -m \"$M\" -p x --steps 2 -b 2 -o \"$D/c.png\" --preview=blocks");
    cr_expect_eq(count_of(two.err, "\033[m\n"), 3 * ROWS, "%s", two.err);
    drop(two);
    expect("$C txt2img -m \"$M\" -p x --steps 2 -o \"$D/d.png\" --preview -q 2>&1 | grep -v png", 1, "", "");
    // The words of stable-diffusion.cpp, whose values stand behind a space.
    expect("$C txt2img -m \"$M\" -p x --steps 2 -o \"$D/e.png\" --preview none -q 2>&1 | grep -v png", 1, "",
           "");
    expect(
        "$C txt2img -m \"$M\" -p x --steps 2 -o \"$D/f.png\" --preview proj -q && $C txt2img -m \"$M\" -p x "
        "--steps 2 -o \"$D/g.png\" -q --preview vae --vae-tiling off --fast on",
        0, "g.png", "");
    expect("$C txt2img -m \"$M\" -p x --preview tae", 2, NULL,
           "tiny autoencoders are not read; --preview proj");
    expect("$C txt2img -p x --preview photo", 2, NULL, "'photo' is one operand too many");
    expect("$C txt2img -p x --preview=photo", 2, NULL, "not one of off auto kitty iterm2 sixel blocks");
}

// $1 on a terminal of $2 columns and $3 rows.
#define ON_A_TERMINAL                                                                                        \
    "export C M D TERM=xterm; on() { script -qec \"stty cols $2 rows $3; $1\" /dev/null </dev/null; }; "

Test(terminal, preview_stays_in_its_place_on_a_terminal) {
    result r = sh(ON_A_TERMINAL "on '$C txt2img -m \"$M\" -p x --steps 3 -o \"$D/a.png\" --preview' 100 40");
    cr_expect_eq(r.code, 0, "%s", r.out);
    cr_expect_eq(count_of(r.out, "\0337\r\033[16A"), 3, "up to its first line: %s", r.out);
    cr_expect_eq(count_of(r.out, "\0338"), 3, "and back");
    drop(r);
    r = sh(ON_A_TERMINAL "on '$C txt2img -m \"$M\" -p x --steps 3 -o \"$D/b.png\" --preview=kitty' 100 10");
    cr_expect_eq(count_of(r.out, "\0337\r\033[8A"), 3, "no higher than the screen: %s", r.out);
    cr_expect_eq(count_of(r.out, "s=128,v=128"), 3);
    cr_expect_eq(count_of(r.out, "\033_Ga=d"), 2, "the ones before are taken away");
    drop(r);
    r = sh(ON_A_TERMINAL
           "on 'TERM=dumb $C txt2img -m \"$M\" -p x --steps 3 -o \"$D/c.png\" --preview' 100 40");
    cr_expect_eq(count_of(r.out, "\033"), 0, "%s", r.out);
    drop(r);
}

// ---- progress

// No line of what a terminal was sent is longer than it is wide; returns how many bars it got.
static int expect_lines_within(char *out, int columns, const char *filled, int narrowest, int widest) {
    int bars = 0;
    char *rest;
    for (char *line = strtok_r(out, "\r\n", &rest); line; line = strtok_r(NULL, "\r\n", &rest)) {
        char *bar = strstr(line, "\033[K");
        if (!bar || !strchr(bar, '%')) continue; // the line of a file's name
        bar += 3;
        int cells = 0, part = 0;
        for (const char *p = bar; *p; p++) cells += (*p & 0xc0) != 0x80;
        for (const char *p = bar; *p && *p != ' '; p++) part += (*p & 0xc0) != 0x80;
        cr_expect_lt(cells, columns, "%s", bar);
        cr_expect(part >= narrowest && part <= widest, "a bar of %d: %s", part, bar);
        bars += !part || !strncmp(bar, filled, strlen(filled));
    }
    return bars;
}

Test(terminal, the_bar_fits_terminal_and_locale) {
    static const struct {
        const char *locale, *filled;
        int columns, narrowest, widest;
    } CASES[] = {{"C.UTF-8", "█", 120, 30, 30},
                 {"C", "#", 120, 30, 30},
                 {"en_US.utf8", "█", 60, 10, 29},
                 {"POSIX", "#", 30, 0, 0}};
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        char line[600];
        snprintf(line, sizeof line,
                 "export LC_ALL=%s; " ON_A_TERMINAL
                 "on '$C txt2img -m \"$M\" -p x --steps 6 -o \"$D/%zu.png\"' %d 24",
                 CASES[i].locale, i, CASES[i].columns);
        result r = sh(line);
        cr_expect_eq(r.code, 0, "%s", r.out);
        int bars = expect_lines_within(r.out, CASES[i].columns, CASES[i].filled, CASES[i].narrowest,
                                       CASES[i].widest);
        cr_expect_geq(bars, 5, "%s: %d bars", CASES[i].locale, bars);
        drop(r);
    }
}

Test(terminal, colours_are_as_asked_for) {
    static const char RED[] = "\033[31mcalotype: what to draw?";
    expect("$C txt2img --color always", 2, NULL, RED);
    expect("NO_COLOR=1 $C txt2img --color always", 2, NULL, RED);
    expect("CALOTYPE_COLOR=always $C txt2img", 2, NULL, RED);
    expect("$C txt2img 2>&1 | grep '\033'", 1, "", NULL);
    expect(ON_A_TERMINAL "on '$C txt2img' 80 24", 2, RED, NULL);
    expect(ON_A_TERMINAL "on 'NO_COLOR=1 $C txt2img' 80 24 | grep '\033'", 1, "", NULL);
    expect(ON_A_TERMINAL "on '$C txt2img --color never' 80 24 | grep '\033'", 1, "", NULL);
}
