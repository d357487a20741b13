#include "assets/world/score.h"

#include <stdbool.h>
#include <string.h>

enum { PER_OBJECT = LABEL_OTHER_KIND - LABEL_KIND };

const char *const SCORE_WORD[SCORES] = {
    "object", "color", "size", "background", "light", "count", "place and relation", "everything"};

// The picture told from its other object.
static void exchange(const int seen[LABELS], int out[LABELS]) {
    memcpy(out, seen, LABELS * sizeof *out);
    memcpy(out + LABEL_KIND, seen + LABEL_OTHER_KIND, PER_OBJECT * sizeof *out);
    memcpy(out + LABEL_OTHER_KIND, seen + LABEL_KIND, PER_OBJECT * sizeof *out);
}

static int judge(int stated, int seen) { return stated < 0 ? -1 : stated == seen; }

static int both(int a, int b) { return a < 0 ? b : b < 0 ? a : a && b; }

static score paired(const int stated[LABELS], const int seen[LABELS], bool exchanged) {
    score s;
    for (int i = 0; i < PER_OBJECT; i++) // object, colour, size
        s.of[SCORE_OBJECT + i] = both(judge(stated[LABEL_KIND + i], seen[LABEL_KIND + i]),
                                      judge(stated[LABEL_OTHER_KIND + i], seen[LABEL_OTHER_KIND + i]));
    s.of[SCORE_BACKGROUND] = judge(stated[LABEL_BACKGROUND], seen[LABEL_BACKGROUND]);
    s.of[SCORE_LIGHT] = judge(stated[LABEL_LIGHT], seen[LABEL_LIGHT]);
    s.of[SCORE_COUNT] = judge(stated[LABEL_COUNT], seen[LABEL_COUNT]);
    s.of[SCORE_PLACE] = judge(stated[LABEL_LAYOUT], exchanged ? LAYOUTS : seen[LABEL_LAYOUT]);
    s.of[SCORE_ALL] = 1;
    for (int i = 0; i < SCORE_ALL; i++) s.of[SCORE_ALL] = both(s.of[SCORE_ALL], s.of[i]);
    return s;
}

// Single answers that agree, objects before all else.
static int fit(const int stated[LABELS], const int seen[LABELS]) {
    int sum = 0;
    for (int i = 0; i < PER_OBJECT; i++)
        sum += (i ? 1 : 2 * PER_OBJECT) *
               ((judge(stated[LABEL_KIND + i], seen[LABEL_KIND + i]) == 1) +
                (judge(stated[LABEL_OTHER_KIND + i], seen[LABEL_OTHER_KIND + i]) == 1));
    return sum;
}

score score_labels(const facts *f, const int seen[LABELS]) {
    int stated[LABELS], other[LABELS];
    labels_of_facts(f, stated);
    exchange(seen, other);
    bool exchanged = fit(stated, other) > fit(stated, seen);
    return paired(stated, exchanged ? other : seen, exchanged);
}

void score_add(score_sum *sum, const score *s) {
    for (int i = 0; i < SCORES; i++) {
        sum->stated[i] += s->of[i] >= 0;
        sum->right[i] += s->of[i] == 1;
    }
}

double score_share(const score_sum *sum, int row) {
    return sum->stated[row] ? (double)sum->right[row] / sum->stated[row] : 0;
}
