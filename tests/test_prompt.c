// Prompts: editing, weights, rows of tokens, emphasis; each beside what was worked out by hand.
#include "core/base/mem.h"
#include "core/models/prompt.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// ---- editing

typedef struct {
    const char *prompt;
    int step;
    const char *text;
} edited_row;

// Of 10 steps, counted from 0.
static const edited_row EDITED[] = {
    {"a cat", 0, "a cat"},
    {"a [cat:dog:4] here", 4, "a cat here"},
    {"a [cat:dog:4] here", 5, "a dog here"},
    {"a [cat:dog:0.45]", 4, "a cat"}, // 4.5 steps are 4
    {"a [cat:dog:0.45]", 5, "a dog"},
    {"a [cat:dog:.5]", 6, "a dog"},
    {"a [cat:dog: 5 ]", 6, "a dog"},
    {"a [cat:dog:99]", 9, "a cat"},
    {"a [cat:dog:-1]", 0, "a dog"},
    {"a [cat:dog:+3]", 4, "a dog"},
    {"a [cat:3]", 3, "a "},
    {"a [cat:3]", 4, "a cat"},
    {"a [cat::3]", 3, "a cat"},
    {"a [cat::3]", 4, "a "},
    {"a [:cat:3]", 4, "a cat"},
    {"[a:[b:c:6]:3]", 3, "a"},
    {"[a:[b:c:6]:3]", 6, "b"},
    {"[a:[b:c:6]:3]", 7, "c"},
    {"[a (b:1.2):c [d]:3]", 3, "a (b:1.2)"},
    {"[a (b:1.2):c [d]:3]", 4, "c [d]"},
    {"x [a|b|c] y", 0, "x a y"},
    {"x [a|b|c] y", 1, "x a y"}, // the first one twice
    {"x [a|b|c] y", 2, "x b y"},
    {"x [a|b|c] y", 3, "x c y"},
    {"x [a|b|c] y", 4, "x a y"},
    {"[a|]", 2, ""},
    {"[|a]", 2, "a"},
    {"[[a|b]:[c|d]:4]", 2, "b"},
    {"[[a|b]:[c|d]:4]", 6, "d"},
    {"(red [fox|cat]:1.2)", 2, "(red cat:1.2)"},
    // What is no editing stays as it is.
    {"[a]", 0, "[a]"},
    {"[a:b]", 0, "[a:b]"},
    {"[a:b:c]", 0, "[a:b:c]"},
    {"[a:b:c:3]", 0, "[a:b:c:3]"},
    {"[a:b:1.2.3]", 0, "[a:b:1.2.3]"},
    {"[a:b:nan]", 0, "[a:b:nan]"},
    {"[a:b:]", 0, "[a:b:]"},
    {"[a:b|c:3]", 0, "[a:b|c:3]"},
    {"[a (b:3]", 5, "[a (b:3]"},
    {"[a) b:3]", 5, "[a) b:3]"},
    {"[([a) b:c:3]", 5, "[([a) b:c:3]"},
    {"a:b:3]", 5, "a:b:3]"},
    {"[a:b:3", 5, "[a:b:3"},
    {"( [a:b:3]", 5, "( b"},
    {"\\[a:b:3\\]", 5, "\\[a:b:3\\]"},
    {"[a\\:x:b\\]:3]", 5, "b\\]"},
    {"[a\\|x|b]", 1, "a\\|x"},
    {"a|b", 5, "a|b"},
    {"a\\", 5, "a\\"},
    {"", 5, ""},
};

Test(prompt, editing_gives_each_step_its_text) {
    for (size_t i = 0; i < sizeof EDITED / sizeof *EDITED; i++) {
        const edited_row *r = &EDITED[i];
        char *text;
        bool edited;
        error err = {0};
        cr_assert_eq(prompt_at_step(r->prompt, r->step, 10, 0, &text, &edited, &err), OK, "%s", err.text);
        cr_expect_str_eq(text, r->text, "%s at step %d: '%s'", r->prompt, r->step, text);
        cr_expect_eq(edited, strcmp(r->prompt, r->text) != 0, "%s", r->prompt);
        mem_free(text);
    }
}

// A second pass of 8 steps after one of 20, by A1111's get_learned_conditioning_prompt_schedules.
Test(prompt, editing_goes_on_in_a_second_pass) {
    static const edited_row ROWS[] = {
        {"[a:b:0.5]", 1, "b"}, {"[a:b:1.5]", 4, "a"}, {"[a:b:1.5]", 5, "b"}, {"[a:b:12]", 0, "b"},
        {"[a:b:23]", 3, "a"},  {"[a:b:23]", 4, "b"},  {"[a|b]", 2, "b"},     {"[a|b]", 3, "a"},
        {"[a:b:2.0]", 7, "a"}, {"[a:b:99]", 7, "a"},
    };
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        char *text;
        bool edited;
        error err = {0};
        cr_assert_eq(prompt_at_step(ROWS[i].prompt, ROWS[i].step, 8, 20, &text, &edited, &err), OK);
        cr_expect_str_eq(text, ROWS[i].text, "%s at step %d: '%s'", ROWS[i].prompt, ROWS[i].step, text);
        mem_free(text);
    }
}

// ---- weights

typedef struct {
    const char *prompt, *parts; // text@weight, separated by bars; / is a break
} weighted_row;

static const weighted_row WEIGHTED[] = {
    {"a cat", "a cat@1"},
    {"", ""},
    {"a (cat) b", "a @1|cat@1.1| b@1"},
    {"a [cat] b", "a @1|cat@0.909091| b@1"},
    {"a (cat:1.3) b", "a @1|cat@1.3| b@1"},
    {"(cat:.5)(dog: -2 )", "cat@0.5|dog@-2"},
    {"((cat))", "cat@1.21"},
    {"((a b:2) c:3)", "a b@6| c@3"},
    {"(a (b [c] d:0.5) e)", "a @1.1|b @0.55|c@0.5| d@0.55| e@1.1"},
    {"([a])", "a@1"},
    {"(a)(b)", "ab@1.1"},
    {"(unbalanced", "unbalanced@1.1"},
    {"a [b (c", "a @1|b @0.909091|c@1"},
    {"a) b] c", "a) b] c@1"},
    {"a:1.3) b", "a:1.3) b@1"},
    {"[a:1.3]", "a:1.3@0.909091"},
    {"(a:1.2.3)", "a:1.2.3@1.1"},
    {"(a:nan)", "a:nan@1.1"},
    {"(a:)", "a:@1.1"},
    {"(a:1.3 b)", "a:1.3 b@1.1"},
    {"(a:b:1.3)", "a:b@1.3"},
    {"\\(a\\) \\[b\\] c\\\\d", "(a) [b] c\\d@1"},
    {"(\\(a\\):2)", "(a)@2"},
    {"a\\b\\", "ab@1"},
    {"()", ""},
    {"a BREAK b", "a@1|/|b@1"},
    {"BREAK", "/"},
    {"a BREAK BREAK b", "a@1|/|/|b@1"},
    {"a\nBREAK\tb", "a@1|/|b@1"},
    {"(a BREAK b:2)", "a@2|/|b@2"},
    {"aBREAK BREAKb BREAK_ break", "aBREAK BREAKb BREAK_ break@1"},
    {"x,BREAK,y", "x,@1|/|,y@1"},
    {"a(BREAK)b", "a@1|/|b@1"},
    {"a，BREAK，b", "a，@1|/|，b@1"},
    {"a。BREAK—b", "a。@1|/|—b@1"},
    {"éBREAK BREAKé BREAK² 字BREAK", "éBREAK BREAKé BREAK² 字BREAK@1"},
    {"\200BREAK ,\200BREAK BREAK\343\200", "\200BREAK ,\200BREAK BREAK\343\200@1"}, // malformed
    {"{a|b} <x:1>", "{a|b} <x:1>@1"},
};

static void describe(const prompt_parts *p, char *out, size_t size) {
    size_t n = 0;
    *out = 0;
    for (size_t i = 0; i < p->n; i++) {
        const prompt_part *part = &p->at[i];
        const char *bar = i ? "|" : "";
        n += (size_t)(part->is_break ? snprintf(out + n, size - n, "%s/", bar)
                                     : snprintf(out + n, size - n, "%s%.*s@%g", bar, (int)part->len,
                                                part->text, part->weight));
    }
}

Test(prompt, brackets_give_weights) {
    for (size_t i = 0; i < sizeof WEIGHTED / sizeof *WEIGHTED; i++) {
        prompt_parts p;
        error err = {0};
        char found[200];
        cr_assert_eq(prompt_parse(WEIGHTED[i].prompt, &p, &err), OK, "%s", err.text);
        describe(&p, found, sizeof found);
        cr_expect_str_eq(found, WEIGHTED[i].parts, "%s gives %s", WEIGHTED[i].prompt, found);
        prompt_parts_free(&p);
    }
}

static void expect_refused(const char *prompt, const char *why) {
    prompt_parts p;
    error err = {0};
    cr_expect_eq(prompt_parse(prompt, &p, &err), ERR_USAGE);
    cr_expect(strstr(err.text, why), "%s", err.text);
    prompt_parts_free(&p);
}

Test(prompt, limits_are_told) {
    char *text = calloc(PROMPT_MAX + 2, 1), *out;
    bool edited;
    error err = {0};
    memset(text, 'a', PROMPT_MAX + 1);
    expect_refused(text, "longer than 65536 bytes");
    cr_expect_eq(prompt_at_step(text, 0, 1, 0, &out, &edited, &err), ERR_USAGE);
    cr_expect(strstr(err.text, "longer than 65536 bytes"));
    memset(text, '[', PROMPT_MAX);
    text[PROMPT_MAX] = 0;
    expect_refused(text, "more than 100 open brackets");
    cr_expect_eq(prompt_at_step(text, 0, 1, 0, &out, &edited, &err), ERR_USAGE);
    cr_expect(strstr(err.text, "more than 100 open brackets"));
    memset(text, '(', PROMPT_MAX);
    expect_refused(text, "more than 100 open brackets");
    text[PROMPT_MAX_DEPTH] = 0;
    expect_refused("(a:1001)", "the weight 1001 in the prompt");
    expect_refused("((a:1000):-1000)", "the weight -1e+06 in the prompt");
    memset(text, '9', 1000);
    memcpy(text, "(a:", 3);
    strcpy(text + 1000, ")"); // beyond what a double holds: no number
    prompt_parts p;
    cr_expect_eq(prompt_parse(text, &p, &err), OK);
    cr_expect_float_eq(p.at[0].weight, 1.1, 1e-12);
    prompt_parts_free(&p);
    free(text);
}

// Nothing of an editing prompt grows with its depth but its brackets, and a parse of 64 KiB is short.
Test(prompt, the_longest_prompts_are_read, .timeout = 10) {
    char *text = calloc(PROMPT_MAX + 1, 1), *out;
    bool edited;
    error err = {0};
    size_t n = 0;
    for (int i = 0; i < PROMPT_MAX_DEPTH; i++) n += (size_t)sprintf(text + n, "[a|");
    for (; n + PROMPT_MAX_DEPTH < PROMPT_MAX; n++) text[n] = "|x"[n % 2];
    memset(text + n, ']', PROMPT_MAX - n);
    cr_expect_eq(prompt_at_step(text, 2, 5, 0, &out, &edited, &err), OK, "%s", err.text);
    cr_expect(edited);
    mem_free(out);
    for (size_t i = 0; i < PROMPT_MAX; i++) text[i] = "(a)"[i % 3];
    prompt_parts p;
    cr_expect_eq(prompt_parse(text, &p, &err), OK);
    cr_expect_eq(p.n, 1);
    prompt_parts_free(&p);
    free(text);
}

// ---- rows of tokens

static tokenizer *open_small(void) {
    error err = {0};
    tokenizer *t = tokenizer_open("tests/golden/tokenizer", &err);
    cr_assert_not_null(t, "%s", err.text);
    return t;
}

static int32_t token_of(const tokenizer *t, const char *word) {
    int32_t *ids, id;
    size_t n;
    cr_assert_eq(tokenizer_encode(t, word, strlen(word), &ids, &n, NULL), OK);
    cr_assert_eq(n, 1, "%s is %zu tokens", word, n);
    id = ids[0];
    mem_free(ids);
    return id;
}

// Repeats "a" n times, with a comma instead of number `comma` counted from 1, and " b" at the end.
static void row_of_a(char *out, int n, int comma) {
    for (int i = 1; i <= n; i++) out += sprintf(out, "%s ", i == comma ? "," : "a");
    strcpy(out, "b");
}

typedef struct {
    int letters, comma;
    int first; // tokens in the first row
} comma_row;

// Rows of 75: of 75 letters and b the last goes to the second row, and with it all behind a comma that is at
// most 20 tokens from the end, itself included.
static const comma_row COMMAS[] = {{75, 0, 75},  {75, 55, 75}, {75, 56, 56},
                                   {75, 70, 70}, {75, 75, 75}, {74, 70, 75}};

Test(prompt, a_full_row_is_broken_at_a_comma_that_is_near) {
    tokenizer *t = open_small();
    int T = (int)tokenizer_vocabulary(t)->max_length;
    int32_t eos = tokenizer_vocabulary(t)->eos, b = token_of(t, "b");
    cr_assert_eq(T, 77);
    for (size_t i = 0; i < sizeof COMMAS / sizeof *COMMAS; i++) {
        const comma_row *c = &COMMAS[i];
        char text[400];
        prompt_rows r;
        error err = {0};
        row_of_a(text, c->letters, c->comma);
        cr_assert_eq(prompt_rows_make(t, text, EMPHASIS_ORIGINAL, &r, &err), OK, "%s", err.text);
        int rows = c->letters < 75 ? 1 : 2, rest = c->letters + 1 - c->first;
        cr_expect_eq(r.n, rows);
        cr_expect_eq(r.ids[c->first + 1], eos, "comma %d", c->comma);
        cr_expect_neq(r.ids[c->first], eos, "comma %d", c->comma);
        if (rows == 2) cr_expect_eq(r.ids[T + rest], b, "comma %d", c->comma);
        if (rows == 2) cr_expect_eq(r.ids[T + rest + 1], eos, "comma %d", c->comma);
        cr_expect_not(r.weighted);
        prompt_rows_free(&r);
    }
    tokenizer_free(t);
}

Test(prompt, tokens_have_the_weights_of_their_text) {
    tokenizer *t = open_small();
    const vocabulary *v = tokenizer_vocabulary(t);
    prompt_rows r;
    int32_t a = token_of(t, "a"), b = token_of(t, "b"), c = token_of(t, "c");
    cr_assert_eq(prompt_rows_make(t, "a (b [c]:1.5) a BREAK (b) c", EMPHASIS_ORIGINAL, &r, NULL), OK);
    int32_t ids[2][7] = {{v->bos, a, b, c, a, v->eos, v->pad},
                         {v->bos, b, c, v->eos, v->pad, v->pad, v->pad}};
    float weights[2][7] = {{1, 1, 1.5f, (float)(1 / 1.1 * 1.5), 1, 1, 1}, {1, 1.1f, 1, 1, 1, 1, 1}};
    cr_expect_eq(r.n, 2);
    cr_expect(r.weighted);
    for (size_t k = 0; k < 2; k++) {
        cr_expect_eq(memcmp(r.ids + k * v->max_length, ids[k], sizeof *ids), 0, "row %zu", k);
        cr_expect_eq(memcmp(r.weights + k * v->max_length, weights[k], sizeof *weights), 0, "row %zu", k);
    }
    prompt_rows_free(&r);
    tokenizer_free(t);
}

// As tokenizer_encode_row gives them: also what NONE makes of brackets, and of a text that is too long.
Test(prompt, plain_texts_are_one_row) {
    tokenizer *t = open_small();
    const vocabulary *v = tokenizer_vocabulary(t);
    char text[400];
    row_of_a(text, 100, 0);
    const struct {
        const char *text;
        emphasis how;
    } cases[] = {{"", EMPHASIS_ORIGINAL},
                 {"a red boat, at sea!", EMPHASIS_COMFY},
                 {"(a:2) [b|c] BREAK", EMPHASIS_NONE},
                 {text, EMPHASIS_NONE}};
    int32_t *row = calloc(v->max_length, sizeof *row);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        prompt_rows r;
        cr_assert_eq(tokenizer_encode_row(t, cases[i].text, strlen(cases[i].text), row, NULL, NULL), OK);
        cr_assert_eq(prompt_rows_make(t, cases[i].text, cases[i].how, &r, NULL), OK);
        cr_expect_eq(r.n, 1, "%s", cases[i].text);
        cr_expect_not(r.weighted);
        cr_expect_eq(memcmp(r.ids, row, v->max_length * sizeof *row), 0, "%s", cases[i].text);
        prompt_rows_free(&r);
    }
    free(row);
    tokenizer_free(t);
}

Test(prompt, breaks_make_rows_and_too_many_are_refused) {
    tokenizer *t = open_small();
    prompt_rows r;
    error err = {0};
    cr_assert_eq(prompt_rows_make(t, "BREAK a BREAK BREAK b BREAK", EMPHASIS_ORIGINAL, &r, &err), OK);
    cr_expect_eq(r.n, 4); // empty, a, empty, b
    prompt_rows_free(&r);
    char text[PROMPT_MAX_ROWS * 6 + 10] = "";
    for (int i = 0; i < PROMPT_MAX_ROWS; i++) strcat(text, "BREAK ");
    cr_expect_eq(prompt_rows_make(t, text, EMPHASIS_ORIGINAL, &r, &err), OK, "%s", err.text);
    cr_expect_eq(r.n, PROMPT_MAX_ROWS);
    prompt_rows_free(&r);
    strcat(text, "b");
    cr_expect_eq(prompt_rows_make(t, text, EMPHASIS_ORIGINAL, &r, &err), ERR_USAGE);
    cr_expect(strstr(err.text, "longer than 64 rows of 75 tokens"), "%s", err.text);
    prompt_rows_free(&r);
    tokenizer_free(t);
}

// ---- emphasis

Test(prompt, emphasis_scales_features) {
    const float start[2][3] = {{1, 2, -9}, {3, 4, -9}}, empty[2][3] = {{1, 1, -9}, {1, 1, -9}},
                weights[] = {1, 2};
    const float expected[][4] = {{1 * 10 / 17.f, 2 * 10 / 17.f, 6 * 10 / 17.f, 8 * 10 / 17.f}, // sum 10 again
                                 {1, 2, 6, 8},
                                 {1, 2, 5, 7}};
    for (int how = EMPHASIS_ORIGINAL; how <= EMPHASIS_COMFY; how++) {
        float x[2][3];
        memcpy(x, start, sizeof x);
        prompt_weigh((emphasis)how, &x[0][0], &empty[0][0], 3, weights, 2, 2);
        for (int i = 0; i < 4; i++)
            cr_expect_float_eq(x[i / 2][i % 2], expected[how][i], 1e-6, "%d, %d", how, i);
        cr_expect_eq(x[0][2], -9); // beside the features
        cr_expect_eq(x[1][2], -9);
    }
}
