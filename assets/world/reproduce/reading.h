// What the recogniser reads in a reproduction's pictures, held against their prompts: the share that shows
// what was asked for.
#pragma once
#include "assets/world/recogniser.h"
#include "assets/world/reproduce/gallery.h"
#include "assets/world/score.h"

// All pictures of a gallery, whose prompts are captions of the world.
status reading_take(recogniser *r, const gallery *g, score_sum *out, error *err);

typedef struct {
    const char *name;
    const gallery *pictures;
} reading_row;

// The table in Markdown, in *table (mem_free): a column for each question, first what the recogniser reads in
// `truth`, true pictures of the same size, so how good the meter is; then the rows. A question that it reads
// right in fewer than 98 % of them (as meter_is_good wants) is left out. Where there is no file `path`, the
// recogniser, the table is a sentence that says so.
status reading_table(const char *path, team *t, const gallery *truth, const reading_row *rows, int n,
                     char **table, error *err);
