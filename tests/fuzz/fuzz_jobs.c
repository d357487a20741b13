// Fuzz target: files of jobs, from text to pictures with ids, seeds, names and expanded prompts. The first
// byte chooses the format: '0' JSON lines, '1' CSV, '2' prompts with flags. The rest is also what __self__
// chooses a line of; __x__ has two lines, __none__ has none, and __folder__ is no file.
#include "cli/job.h"
#include "tests/fuzz/fuzz.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { MAX_PICTURES = 300 }; // more is slow, not wrong

static char wildcards[64];

static const char *wildcard(const char *name) {
    static char path[100];
    snprintf(path, sizeof path, "%s/%s.txt", wildcards, name);
    return path;
}

void fuzz_start(void) {
    fuzz_folder(wildcards);
    fuzz_write(wildcard("x"), "red\n{blue|green}\n", 17);
    fuzz_write(wildcard("none"), "# nothing\n\n", 11);
    if (mkdir(wildcard("folder"), 0700)) abort();
}

// What is promised of a job that can be drawn.
static void check(const job *j) {
    if (j->code && !j->error && !fuzz_failed()) abort();
    if (j->code) return;
    if (!*j->id || !j->prompt || !*j->name || *j->name == '.' || strpbrk(j->name, "/\\\n\033")) abort();
}

// Two shards have every job once.
static void look_at(job_list *list, bool second) {
    size_t n = list->n;
    for (size_t i = 0; i < n; i++) {
        const job *j = &list->at[i];
        check(j);
        if (!j->code && !job_same_shape(j, j)) abort();
        if (i && !j->code && !j[-1].code) job_same_shape(j, j - 1);
    }
    job_list_keep(list, (shard){second, 2});
    if (list->n != (n + !second) / 2) abort();
}

static void make_jobs(const job_lines *lines, const job_rules *rules) {
    job_list list = {0};
    int code = 0;
    for (size_t i = 0; i < lines->n && list.n < MAX_PICTURES && !code; i++)
        code = job_list_add(&list, &lines->at[i], rules);
    if (code && !fuzz_failed()) abort();
    if (!code) look_at(&list, rules->random);
    job_list_free(&list);
}

static void limit_counts(job_lines *lines) {
    for (size_t i = 0; i < lines->n; i++) {
        long long n = json_integer_value(json_object_get(lines->at[i].keys, "batch-count"));
        if (n > 100) json_object_del(lines->at[i].keys, "batch-count");
    }
}

static void guess_format(const char *text, size_t n) {
    static const char *const NAMES[] = {"x", "x.JSONL", "x.ndjson", "x.json", "x.csv", "x.txt", "x.y"};
    for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++)
        if (jobs_format_of(NAMES[i], text, n) > JOBS_TEXT) abort();
}

void fuzz_input(const uint8_t *data, size_t size) {
    if (!size) return;
    const char *text = (const char *)data + 1;
    job_lines lines;
    char message[300] = "";
    job_options plain = {drawing_defaults(), NULL}, other = {drawing_defaults(), "{seed}-{id}.webp"};
    plain.drawing.common.quiet = other.drawing.common.quiet = true;
    other.drawing.sampler = "ddim";
    other.drawing.negative = "dull __x__";
    guess_format(text, size - 1);
    fuzz_write(wildcard("self"), text, size - 1);
    int code =
        jobs_parse(text, size - 1, (jobs_format)(data[0] % 3), &JOB_LINE, &lines, message, sizeof message);
    if (code && !*message) abort();
    limit_counts(&lines);
    make_jobs(&lines, &(job_rules){.defaults = plain});
    make_jobs(&lines,
              &(job_rules){.defaults = other, .wildcards = wildcards, .model = "model", .random = true});
    jobs_free(&lines);
}
