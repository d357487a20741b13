#include "assets/world/caption.h"
#include "assets/world/labels.h"
#include "assets/world/picture.h"
#include "assets/world/scene.h"
#include "assets/world/vocab.h"

#include <criterion/criterion.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { N = 96, AREA = N * N }; // side of the pictures looked at here

static scene nth(split which, int i) { return scene_sample(7, (uint64_t)i, (scene_choice){.split = which}); }

// ---- scenes and splits

Test(world, a_scene_is_a_function_of_seed_index_and_choice) {
    scene first = nth(SPLIT_TRAIN, 3), other = nth(SPLIT_TRAIN, 4), again = nth(SPLIT_TRAIN, 3);
    cr_assert_eq(memcmp(&first, &again, sizeof first), 0);
    cr_assert_neq(memcmp(&first, &other, sizeof first), 0);
}

Test(world, splits_are_disjoint_and_blind_to_the_telling) {
    for (int which = 0; which < SPLITS; which++)
        for (int i = 0; i < 5000; i++) {
            scene s = nth((split)which, i), told_back = scene_reversed(&s);
            cr_assert_eq(scene_split(&s), (split)which);
            cr_assert_eq(scene_split(&told_back), (split)which);
            bool held = false;
            for (int k = 0; k < s.count; k++)
                held |= kind_colour_held(s.objects[k].kind, s.objects[k].colour);
            cr_assert_eq(held, which == SPLIT_PAIRS);
        }
}

// No combination of the held split is ever seen in training, whatever the sizes, places and lights:
// compared by what is in the pictures, not by the hash.
Test(world, held_combinations_do_not_occur_in_training) {
    enum { KEYS = BACKGROUNDS * 3 * 100 * 100 };
    static bool seen[2][KEYS];
    for (int which = SPLIT_TRAIN; which <= SPLIT_HELD; which++)
        for (int i = 0; i < 60000; i++) {
            scene s =
                scene_sample(11, (uint64_t)i, (scene_choice){.split = (split)which, .count = 1 + i % 2});
            scene c = scene_canonical(&s);
            int relation = c.count == 1               ? 0
                           : c.layout == LAYOUT_UNDER ? 1
                                                      : 2,
                key = c.background * 3 + relation;
            for (int k = 0; k < 2; k++)
                key = key * 100 + (k < c.count ? c.objects[k].kind * 10 + c.objects[k].colour : 0);
            seen[which][key] = true;
        }
    int both = 0, held = 0;
    for (int i = 0; i < KEYS; i++) {
        both += seen[0][i] && seen[1][i];
        held += seen[1][i];
    }
    cr_assert_eq(both, 0);
    cr_assert_gt(held, 1000);
}

Test(world, ten_pairs_are_held_each_kind_and_colour_once) {
    int kinds[KINDS] = {0}, colours[COLOURS] = {0};
    for (int k = 0; k < KINDS; k++)
        for (int c = 0; c < COLOURS; c++) {
            kinds[k] += kind_colour_held(k, c);
            colours[c] += kind_colour_held(k, c);
        }
    for (int i = 0; i < 10; i++) cr_assert(kinds[i] == 1 && colours[i] == 1);
    cr_assert_not(kind_colour_held(KIND_HOUSE, COLOUR_RED));
    cr_assert_not(kind_colour_held(KIND_MOON, COLOUR_YELLOW));
}

static scene scene_of(const char *caption) {
    facts f;
    error err = {0};
    cr_assert_eq(caption_parse(caption, &f, &err), OK, "%s", err.text);
    scene s = {.background = f.background, .light = f.light, .layout = f.layout, .count = f.count};
    for (int i = 0; i < f.count; i++) {
        s.objects[i].kind = f.objects[i].kind;
        s.objects[i].colour = f.objects[i].colour;
    }
    return s;
}

Test(world, the_prompt_of_the_demo_is_held_out_however_it_is_told) {
    scene a = scene_of("a red house under a yellow moon on a black background");
    scene b = scene_of("A big yellow moon over a small red house, on a black background.");
    cr_assert_eq(scene_split(&a), SPLIT_HELD);
    cr_assert_eq(scene_split(&b), SPLIT_HELD);
}

// All pairs of objects under each other on all backgrounds: 10·9·100·11 combinations less those with held
// pairs. One in eight, with five standard deviations (0.0011 each) of room.
Test(world, one_combination_in_eight_is_held) {
    int count[SPLITS] = {0};
    scene s = {.layout = LAYOUT_UNDER, .count = 2};
    for (s.background = 0; s.background < BACKGROUNDS; s.background++)
        for (int i = 0; i < 10000; i++) {
            s.objects[0] = (scene_object){.kind = i / 1000, .colour = i / 100 % 10};
            s.objects[1] = (scene_object){.kind = i / 10 % 10, .colour = i % 10};
            if (s.objects[0].kind != s.objects[1].kind) count[scene_split(&s)]++;
        }
    cr_assert_float_eq((double)count[SPLIT_HELD] / (count[SPLIT_HELD] + count[SPLIT_TRAIN]), .125, .0055);
}

static bool fits(const scene_object *o) {
    double room = fmin(fmin(o->x, 1 - o->x), fmin(o->y, 1 - o->y));
    return room >= o->radius + .0199;
}

static void check_single(const scene *s) {
    static const double radius[SIZES][2] = {{.15, .17}, {.21, .24}, {.30, .36}};
    const scene_object *o = &s->objects[0];
    cr_assert(o->radius >= radius[o->size][0] - 1e-6 && o->radius <= radius[o->size][1] + 1e-6);
    if (s->layout == LAYOUT_LEFT) cr_assert_lt(o->x, .39); // a big one cannot stand at 0.3
    if (s->layout == LAYOUT_RIGHT) cr_assert_gt(o->x, .61);
    if (s->layout == LAYOUT_CENTER) cr_assert_float_eq(o->x, .5, .041);
}

static void check_pair(const scene *told) {
    static const double radius[SIZES][2] = {{.13, .145}, {.17, .185}, {.21, .23}};
    scene s = scene_canonical(told);
    const scene_object *a = &s.objects[0], *b = &s.objects[1];
    for (int i = 0; i < 2; i++) {
        const scene_object *o = &s.objects[i];
        cr_assert(o->radius >= radius[o->size][0] - 1e-6 && o->radius <= radius[o->size][1] + 1e-6);
    }
    double apart = s.layout == LAYOUT_UNDER ? a->y - b->y : b->x - a->x;
    cr_assert_neq(a->kind, b->kind);
    cr_assert_geq(apart, a->radius + b->radius + .0199);
}

Test(world, figures_fit_and_stand_where_the_caption_says) {
    for (int i = 0; i < 20000; i++) {
        scene s = nth(SPLIT_TRAIN, i);
        for (int k = 0; k < s.count; k++) cr_assert(fits(&s.objects[k]));
        if (s.count == 1)
            check_single(&s);
        else
            check_pair(&s);
        if (s.background <= BG_WHITE) cr_assert_eq(s.light, LIGHT_PLAIN);
    }
}

Test(world, every_attribute_occurs_in_every_split) {
    for (int which = 0; which < SPLITS; which++) {
        int kinds[KINDS] = {0}, colours[COLOURS] = {0}, layouts[LAYOUTS] = {0},
            grounds[BACKGROUNDS][LIGHTS] = {0};
        for (int i = 0; i < 5000; i++) {
            scene s = nth((split)which, i);
            kinds[s.objects[0].kind]++;
            colours[s.objects[0].colour]++;
            layouts[s.layout]++;
            grounds[s.background][s.light]++;
        }
        for (int k = 0; k < 10; k++) cr_assert(kinds[k] > 250 && colours[k] > 150);
        for (int k = 0; k < LAYOUTS; k++) cr_assert_gt(layouts[k], 400);
        for (int b = 0; b < BACKGROUNDS; b++)
            for (int l = 0; l < (b <= BG_WHITE ? 1 : LIGHTS); l++) cr_assert_gt(grounds[b][l], 40);
    }
}

Test(world, time_moves_every_object_and_none_into_another) {
    int motions[MOTIONS] = {0};
    for (int i = 0; i < 4000; i++) {
        scene s = nth(SPLIT_TRAIN, i), start = scene_at(&s, 0), end = scene_at(&s, 1);
        cr_assert_eq(memcmp(&s, &start, sizeof s), 0);
        for (int k = 0; k < s.count; k++) {
            const scene_object *a = &s.objects[k], *b = &end.objects[k];
            cr_assert(fits(b));
            cr_assert_eq(a->x != b->x, a->motion == MOTION_DRIFT);
            cr_assert_eq(a->y > b->y, a->motion == MOTION_RISE);
            cr_assert_eq(a->radius < b->radius, a->motion == MOTION_GROW);
            cr_assert_eq(a->angle != b->angle, a->motion == MOTION_TURN);
            motions[a->motion]++;
        }
        const scene_object *o = end.objects;
        if (s.count == 2)
            cr_assert_geq(hypot(o[0].x - o[1].x, o[0].y - o[1].y), o[0].radius + o[1].radius - 1e-6);
    }
    for (int m = 0; m < MOTIONS; m++) cr_assert_gt(motions[m], 600);
}

// ---- pictures

static void draw(const scene *s, uint8_t rgb[3 * AREA]) {
    error err = {0};
    cr_assert_eq(picture_rgb8(s, N, N, rgb, &err), OK, "%s", err.text);
}

// 1 where no figure is within two pixels: the reach of an anti-aliased edge, with a pixel to spare.
static void far_from_figures(const scene *s, uint8_t mask[AREA], uint8_t away[AREA]) {
    cr_assert_eq(picture_mask(s, N, N, mask, NULL), OK);
    memset(away, 1, AREA);
    for (int i = 0; i < AREA; i++)
        for (int dy = -2; mask[i] && dy <= 2; dy++)
            for (int dx = -2; dx <= 2; dx++) {
                int y = i / N + dy, x = i % N + dx;
                if (y >= 0 && y < N && x >= 0 && x < N) away[y * N + x] = 0;
            }
}

Test(world, plain_black_and_white_are_exact) {
    static uint8_t rgb[3 * AREA], mask[AREA], away[AREA];
    for (int i = 0; i < 400; i++) {
        scene s = nth(SPLIT_TRAIN, i);
        if (s.background > BG_WHITE) continue;
        draw(&s, rgb);
        far_from_figures(&s, mask, away);
        for (int p = 0; p < 3 * AREA; p++)
            if (away[p / 3]) cr_assert_eq(rgb[p], s.background == BG_WHITE ? 255 : 0);
    }
}

// The picture differs from its bare backdrop in the figures and nowhere else.
Test(world, mask_agrees_with_picture) {
    static uint8_t rgb[3 * AREA], bare[3 * AREA], mask[AREA], away[AREA];
    for (int i = 0; i < 300; i++) {
        scene s = nth(SPLIT_TRAIN, i), empty = s;
        empty.count = 0;
        draw(&s, rgb);
        draw(&empty, bare);
        far_from_figures(&s, mask, away);
        int inside[3] = {0}, changed = 0;
        for (int p = 0; p < AREA; p++) {
            bool same = !memcmp(rgb + 3 * p, bare + 3 * p, 3);
            cr_assert_leq(mask[p], s.count);
            if (away[p]) cr_assert(same);
            inside[mask[p]]++;
            changed += mask[p] && !same;
        }
        cr_assert_geq(changed, .95 * (inside[1] + inside[2]));
        for (int k = 0; k < s.count; k++) { // a figure fills a fair part of its circle
            double circle = M_PI * pow(s.objects[k].radius * N, 2), share = inside[k + 1] / circle;
            cr_assert(share > .25 && share < 1.3, "%s: %g", KIND_WORD[s.objects[k].kind], share);
        }
    }
}

// What people call these colours, chosen apart from the palette that draws them.
static int nearest_colour(const uint8_t *p) {
    static const int named[COLOURS][3] = {{220, 30, 30},   {255, 140, 0},  {255, 220, 40},  {40, 160, 60},
                                          {40, 90, 220},   {130, 50, 180}, {255, 150, 190}, {120, 70, 30},
                                          {245, 245, 245}, {15, 15, 15}};
    int best = 0;
    long least = LONG_MAX;
    for (int c = 0; c < COLOURS; c++) {
        long d = 0;
        for (int k = 0; k < 3; k++) d += (named[c][k] - p[k]) * (long)(named[c][k] - p[k]);
        if (d < least) least = d, best = c;
    }
    return best;
}

Test(world, figures_have_the_colour_they_are_named_by_in_every_light) {
    static uint8_t rgb[3 * AREA], mask[AREA];
    for (int i = 0; i < KINDS * COLOURS * LIGHTS; i++) {
        scene s = {.background = BG_GRAY, .light = i % LIGHTS, .count = 1};
        s.objects[0] = (scene_object){
            .kind = i / LIGHTS / COLOURS, .colour = i / LIGHTS % COLOURS, .x = .5f, .y = .5f, .radius = .22f};
        draw(&s, rgb);
        cr_assert_eq(picture_mask(&s, N, N, mask, NULL), OK);
        int votes[COLOURS] = {0}, most = 0;
        for (int p = 0; p < AREA; p++)
            if (mask[p]) votes[nearest_colour(rgb + 3 * p)]++;
        for (int c = 0; c < COLOURS; c++)
            if (votes[c] > votes[most]) most = c;
        cr_assert_eq(most, s.objects[0].colour, "%s %s looks %s", COLOUR_WORD[s.objects[0].colour],
                     KIND_WORD[s.objects[0].kind], COLOUR_WORD[most]);
    }
}

Test(world, dark_is_darker_and_bright_is_brighter) {
    static uint8_t rgb[3 * AREA];
    for (int b = BG_GRAY; b < BACKGROUNDS; b++) {
        double mean[LIGHTS] = {0};
        for (int l = 0; l < LIGHTS; l++) {
            scene s = {.background = b, .light = l};
            draw(&s, rgb);
            for (int p = 0; p < 3 * AREA; p++) mean[l] += rgb[p] / (3. * AREA);
        }
        cr_assert_lt(mean[LIGHT_DARK], .7 * mean[LIGHT_PLAIN], "%s", BACKGROUND_WORD[b]);
        cr_assert_gt(mean[LIGHT_BRIGHT], mean[LIGHT_PLAIN] + 15, "%s", BACKGROUND_WORD[b]);
    }
}

Test(world, lines_follow_the_border_of_the_mask) {
    static uint8_t lines[AREA], mask[AREA];
    for (int i = 0; i < 200; i++) {
        scene s = nth(SPLIT_TRAIN, i);
        cr_assert_eq(picture_lines(&s, N, N, lines, NULL), OK);
        cr_assert_eq(picture_mask(&s, N, N, mask, NULL), OK);
        int border = 0, drawn = 0;
        for (int p = N; p < AREA - N; p++)
            if (mask[p] && (!mask[p - N] || !mask[p + N] || !mask[p - 1] || !mask[p + 1])) {
                border++;
                drawn += lines[p] > 40; // an edge pixel may be covered in part only
            }
        cr_assert_gt(drawn, .85 * border); // a mast and a string are drawn by their middle
    }
}

Test(world, any_size_can_be_drawn) {
    static const int size[][2] = {{1, 1}, {7, 300}, {300, 7}, {64, 64}, {200, 120}};
    static uint8_t rgb[3 * 64 * 600];
    error err = {0};
    scene s = nth(SPLIT_TRAIN, 0);
    for (size_t i = 0; i < sizeof size / sizeof *size; i++)
        cr_assert_eq(picture_rgb8(&s, size[i][0], size[i][1], rgb, &err), OK, "%s", err.text);
    cr_assert_eq(picture_rgb8(&s, 0, 8, rgb, &err), ERR_USAGE);
    cr_assert_eq(picture_mask(&s, 8, PICTURE_MAX_SIDE + 1, rgb, &err), ERR_USAGE);
}

Test(world, a_batch_is_its_pictures_for_any_number_of_threads) {
    enum { B = 9, H = 40, W = 56, SIZE = 3 * H * W };
    static uint8_t one[SIZE], many[B * SIZE];
    static float real[B * SIZE];
    scene s[B];
    for (int i = 0; i < B; i++) s[i] = nth(SPLIT_TRAIN, i);
    for (int threads = 1; threads <= 3; threads++) {
        team *t = team_new(threads);
        cr_assert_eq(pictures_rgb8(t, s, B, H, W, many, NULL), OK);
        cr_assert_eq(pictures_f32(t, s, B, H, W, real, NULL), OK);
        team_free(t);
        for (int i = 0; i < B; i++) {
            cr_assert_eq(picture_rgb8(&s[i], H, W, one, NULL), OK);
            cr_assert_eq(memcmp(one, many + i * SIZE, SIZE), 0);
        }
        for (int i = 0; i < B * SIZE; i++) cr_assert_eq(real[i], (float)many[i] / 127.5f - 1);
    }
    error err = {0};
    cr_assert_eq(pictures_f32(NULL, s, B, 0, W, real, &err), ERR_USAGE);
}

// ---- captions

static void check_stated(const stated_object *f, const scene_object *o, bool motion) {
    cr_assert_eq(f->kind, o->kind);
    cr_assert_eq(f->colour, o->colour);
    cr_assert_eq(f->size, o->size == SIZE_MEDIUM ? -1 : o->size);
    cr_assert_eq(f->motion, motion ? o->motion : -1);
}

Test(world, reading_inverts_full_captions) {
    for (int i = 0; i < 5000; i++) {
        char text[CAPTION_SIZE];
        facts f;
        error err = {0};
        scene s = nth((split)(i % SPLITS), i);
        bool motion = i % 2;
        caption_write(&s, (caption_style){.motion = motion}, NULL, text);
        cr_assert_eq(caption_parse(text, &f, &err), OK, "%s: %s", text, err.text);
        cr_assert_eq(f.count, s.count);
        cr_assert_eq(f.layout, s.layout);
        cr_assert_eq(f.background, s.background);
        cr_assert_eq(f.light, s.light);
        for (int k = 0; k < s.count; k++) check_stated(&f.objects[k], &s.objects[k], motion);
    }
}

Test(world, captions_with_parts_left_out_stay_true) {
    int open = 0;
    for (int i = 0; i < 5000; i++) {
        char text[CAPTION_SIZE];
        facts f;
        error err = {0};
        dice d = dice_new(1, (uint64_t)i);
        scene s = nth(SPLIT_TRAIN, i), back = scene_reversed(&s), other = s;
        caption_write(&s, (caption_style){.leave_out = .6, .synonym = .4, .motion = i % 2}, &d, text);
        cr_assert_eq(caption_parse(text, &f, &err), OK, "%s: %s", text, err.text);
        cr_assert(facts_hold(&f, &s), "%s", text);
        cr_assert(facts_hold(&f, &back), "%s", text);
        open += f.background < 0 || f.layout < 0 || f.objects[0].colour < 0;
        other.objects[0].kind = (s.objects[0].kind + 1) % KINDS;
        if (s.count == 1) cr_assert_not(facts_hold(&f, &other), "%s", text);
        other = s;
        other.background = (s.background + 1) % BACKGROUNDS;
        if (f.background >= 0) cr_assert_not(facts_hold(&f, &other), "%s", text);
        other = back;
        other.layout = s.layout; // the objects have changed places
        if (s.count == 2 && f.layout >= 0) cr_assert_not(facts_hold(&f, &other), "%s", text);
    }
    cr_assert(open > 1000 && open < 4500);
}

// Whoever reads the caption and whoever looks at the picture answer alike, from either telling.
Test(world, labels_of_caption_and_scene_agree) {
    for (int i = 0; i < 3000; i++) {
        char text[CAPTION_SIZE];
        facts f;
        int seen[LABELS], back[LABELS], read[LABELS];
        scene s = nth((split)(i % SPLITS), i), r = scene_reversed(&s);
        labels_of_scene(&s, seen);
        labels_of_scene(&r, back);
        cr_assert_eq(memcmp(seen, back, sizeof seen), 0);
        caption_full(&s, text);
        cr_assert_eq(caption_parse(text, &f, NULL), OK);
        labels_of_facts(&f, read);
        for (int k = 0; k < LABELS; k++) {
            cr_assert(seen[k] < LABEL_HEAD[k].classes &&
                      seen[k] >= (k >= LABEL_OTHER_KIND && s.count == 1 ? -1 : 0));
            bool size = k == LABEL_SIZE || k == LABEL_OTHER_SIZE; // medium has no word
            if (!size || seen[k] != SIZE_MEDIUM)
                cr_assert_eq(read[k], seen[k], "%s: %s", text, LABEL_HEAD[k].name);
        }
    }
}

Test(world, what_is_no_caption_is_refused) {
    static const char *const bad[] = {
        "",
        "house",
        "a",
        "a red",
        "a red cow",
        "a red house under",
        "a red house on a black",
        "a red house a blue tree",
        "a red house at night at night",
        "a red house to the under a blue tree",
        "a redhousethatgoesonandonandonandon house",
        "\xff\xfe a red house",
        "a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        facts f;
        error err = {0};
        cr_assert_eq(caption_parse(bad[i], &f, &err), ERR_DATA, "%s", bad[i]);
        cr_assert_neq(err.text[0], 0);
    }
}

Test(world, damaged_captions_are_read_without_harm) {
    dice d = dice_new(5, 5);
    for (int i = 0; i < 20000; i++) {
        char text[CAPTION_SIZE];
        facts f;
        scene s = nth(SPLIT_TRAIN, i % 500);
        caption_full(&s, text);
        for (int k = dice_below(&d, 4); k >= 0; k--)
            text[dice_below(&d, (int)strlen(text) + 1)] = (char)dice_below(&d, 256);
        text[CAPTION_SIZE - 1] = 0;
        if (caption_parse(text, &f, NULL) == OK) cr_assert(f.count == 1 || f.count == 2);
    }
}

// ---- vocabulary

Test(world, every_word_of_every_caption_is_one_token) {
    arena a = {0};
    vocab v;
    error err = {0};
    cr_assert_eq(vocab_build(&v, &a, &err), OK, "%s", err.text);
    int most = 0;
    for (int i = 0; i < 5000; i++) {
        char text[CAPTION_SIZE];
        dice d = dice_new(2, (uint64_t)i);
        scene s = nth((split)(i % SPLITS), i);
        caption_write(&s, (caption_style){.leave_out = .2, .synonym = .4, .motion = true}, &d, text);
        int words = 0;
        for (char *rest, *w = strtok_r(text, " ", &rest); w; w = strtok_r(NULL, " ", &rest), words++)
            cr_assert_eq(vocab_word_tokens(&v, w), 1, "%s", w);
        if (words > most) most = words;
    }
    cr_assert_leq(most + 2, VOCAB_CONTEXT);
    cr_assert_gt(vocab_word_tokens(&v, "zebra"), 1);
    cr_assert_eq(vocab_word_tokens(&v, "Red"), -1);
    arena_free(&a);
}

Test(world, vocabulary_has_the_layout_of_clip) {
    arena a = {0};
    vocab v;
    cr_assert_eq(vocab_build(&v, &a, NULL), OK);
    cr_assert_str_eq(v.token[0], "!");
    cr_assert_str_eq(v.token[187], "ÿ"); // 188 visible bytes, then byte 0 as U+0100
    cr_assert_str_eq(v.token[188], "Ā");
    cr_assert_str_eq(v.token[256], "!</w>");
    cr_assert_str_eq(v.token[v.tokens - 2], "<|startoftext|>");
    cr_assert_str_eq(v.token[v.tokens - 1], "<|endoftext|>");
    for (int i = 0; i < v.tokens; i++)
        for (int k = 0; k < i; k++) cr_assert_str_neq(v.token[i], v.token[k]);
    arena_free(&a);
}
