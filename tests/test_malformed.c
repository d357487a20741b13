// Bad files as the command line meets them: tests/golden/malformed/cases.tsv, made by
// tests/tools/make_malformed.py. Each is answered with a message, the right exit code, and never a signal.
#include "core/base/clock.h"
#include "core/base/fs.h"
#include "core/base/mem.h"
#include "tests/tiny_model.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define MALFORMED "tests/golden/malformed/"

enum { LIMIT = 10, MAX_WORDS = 16 }; // seconds for a case; words of a command

// A row of the list.
typedef struct {
    char *file, *place, *code, *says, *command, *breaks;
} bad_case;

static char model[512], folder[512], root[PATH_MAX]; // the folder is a fresh one around the model

static void begin(void) {
    tiny_model_settle(model, folder, sizeof folder);
    cr_assert_not_null(getcwd(root, sizeof root));
}

static void end(void) { tiny_model_remove(model); }

TestSuite(malformed, .init = begin, .fini = end);

// ---- a case stands in for a file of the good model, or of the current folder

static void path_of(const bad_case *c, char *path, size_t size) {
    bool inside = !strncmp(c->place, "MODEL/", 6);
    snprintf(path, size, "%s/%s", inside ? model : folder, c->place + (inside ? 6 : 0));
}

// What must be out of the way: the file itself, or the whole file that would win over an index.
static void hidden_by(const char *place, char *path, size_t size) {
    const char *index = strstr(place, ".index.json");
    snprintf(path, size, "%.*s", (int)(index ? (size_t)(index - place) : strlen(place)), place);
}

static void link_case(const char *file, const char *place) {
    char target[PATH_MAX + 600];
    snprintf(target, sizeof target, "%s/" MALFORMED "%s", root, file);
    cr_assert_eq(symlink(target, place), 0, "%s", place);
}

// Where no link is followed.
static void copy_case(const char *file, const char *place) {
    char from[PATH_MAX + 600], *data;
    size_t n;
    error err = {0};
    snprintf(from, sizeof from, MALFORMED "%s", file);
    cr_assert_eq(fs_read_file(from, 1 << 20, &data, &n, &err), OK, "%s", err.text);
    cr_assert_eq(fs_write_atomic(place, data, n, true, &err), OK, "%s", err.text);
    mem_free(data);
}

static const char *output_folder(void) {
    static char path[600];
    snprintf(path, sizeof path, "%s/out", folder);
    return path;
}

static void shard_beside(const char *place, char *path, size_t size) {
    snprintf(path, size, "%.*s/good-1.safetensors", (int)(fs_basename(place) - place - 1), place);
}

static void put_in_place(const bad_case *c) {
    char place[1100], hidden[1100], aside[1110], shard[1130];
    if (!strcmp(c->place, "-")) return;
    path_of(c, place, sizeof place);
    hidden_by(place, hidden, sizeof hidden);
    snprintf(aside, sizeof aside, "%s.good", hidden);
    rename(hidden, aside); // there may be none
    if (!strncmp(c->place, "out/", 4)) cr_assert_eq(fs_mkdirs(output_folder(), NULL), OK);
    if (!strncmp(c->place, "out/", 4) && strrchr(c->file, '.'))
        copy_case(c->file, place);
    else
        link_case(c->file, place);
    if (!strcmp(place, hidden)) return;
    shard_beside(place, shard, sizeof shard);
    link_case("index/good-1.safetensors", shard);
}

static void take_away(const bad_case *c) {
    char place[1100], hidden[1100], aside[1110], shard[1130];
    if (!strcmp(c->place, "-")) return;
    path_of(c, place, sizeof place);
    hidden_by(place, hidden, sizeof hidden);
    snprintf(aside, sizeof aside, "%s.good", hidden);
    shard_beside(place, shard, sizeof shard);
    unlink(shard);
    cr_assert_eq(unlink(place), 0);
    rename(aside, hidden);
}

// ---- running

static char *contents(const char *path) {
    char *data;
    size_t n;
    error err = {0};
    cr_assert_eq(fs_read_file(path, 1 << 20, &data, &n, &err), OK, "%s", err.text);
    return data;
}

// In the child: becomes calotype with the words of the command, in the folder.
static void become(const bad_case *c, const char *said) {
    static char file[PATH_MAX + 600], train[PATH_MAX + 60], jobs[PATH_MAX + 60], wild[PATH_MAX + 60];
    snprintf(file, sizeof file, "%s/" MALFORMED "%s", root, c->file);
    snprintf(train, sizeof train, "%s/" MALFORMED "train.json", root);
    snprintf(jobs, sizeof jobs, "%s/" MALFORMED "jobs.jsonl", root);
    snprintf(wild, sizeof wild, "%s/" MALFORMED "wild.jsonl", root);
    const char *argv[MAX_WORDS + 2] = {CALOTYPE_PROGRAM}, *input = "/dev/null";
    int n = 1;
    for (char *word = strtok(c->command, " "); word && n <= MAX_WORDS; word = strtok(NULL, " ")) {
        if (!strcmp(word, "<"))
            input = file;
        else
            argv[n++] = !strcmp(word, "FILE")    ? file
                        : !strcmp(word, "MODEL") ? model
                        : !strcmp(word, "TRAIN") ? train
                        : !strcmp(word, "JOBS")  ? jobs
                        : !strcmp(word, "WILD")  ? wild
                        : !strcmp(word, "TEXT")  ? contents(file)
                                                 : word;
    }
    alarm(LIMIT);
    if (chdir(folder) || dup2(open(input, O_RDONLY), 0) < 0 || dup2(open("/dev/null", O_WRONLY), 1) < 0 ||
        dup2(open(said, O_WRONLY | O_CREAT | O_TRUNC, 0666), 2) < 0)
        _exit(99);
    execv(CALOTYPE_PROGRAM, (char *const *)(uintptr_t)argv);
    _exit(99);
}

static int run(const bad_case *c, char **message) {
    char said[600];
    snprintf(said, sizeof said, "%s/said", folder);
    fflush(NULL);
    pid_t child = fork();
    cr_assert_geq(child, 0);
    if (!child) become(c, said);
    int ended;
    cr_assert_eq(waitpid(child, &ended, 0), child);
    *message = contents(said);
    return WIFEXITED(ended) ? WEXITSTATUS(ended) : -WTERMSIG(ended);
}

// Whether the message is of use: one line of ours, without control characters, that names the file or the
// place.
static bool is_clear(const bad_case *c, const char *message) {
    const char *name = fs_basename(strcmp(c->place, "-") ? c->place : c->file);
    const char *wanted = strcmp(c->says, "-") ? c->says : name;
    if (strncmp(message, "calotype: ", 10) || !strstr(message, wanted)) return false;
    for (const char *p = message; *p; p++)
        if (((unsigned char)*p < 0x20 && *p != '\n') || *p == 0x7f) return false;
    return true;
}

static bool answers(const bad_case *c) {
    char *message, left[600];
    put_in_place(c);
    int code = run(c, &message);
    take_away(c);
    remove_tree(output_folder());
    snprintf(left, sizeof left, "%s/x.png", folder);
    bool good = code == atoi(c->code) && is_clear(c, message) && !fs_exists(left);
    if (!good)
        fprintf(stderr, "%s (%s): exit code %d instead of %s, wanted '%s', said: %s\n", c->file, c->breaks,
                code, c->code, c->says, message);
    mem_free(message);
    return good;
}

static char *field(char **rest) { return strsep(rest, "\t"); }

Test(malformed, every_bad_file_gets_a_clear_answer, .timeout = 1200) {
    char *list = contents(MALFORMED "cases.tsv"), *lines = list;
    int n = 0, bad = 0;
    double all = 0, slowest = 0;
    strsep(&lines, "\n"); // names of the columns
    for (char *line; (line = strsep(&lines, "\n")) && *line; n++) {
        bad_case c = {field(&line), field(&line), field(&line), field(&line), field(&line), field(&line)};
        cr_assert_not_null(c.breaks, "line %d", n + 2);
        double t = clock_seconds();
        bad += !answers(&c);
        t = clock_seconds() - t;
        all += t;
        if (t > slowest) slowest = t;
    }
    fprintf(stderr, "%d bad files: %.0f ms each, at most %.0f ms\n", n, 1e3 * all / n, 1e3 * slowest);
    cr_expect_geq(n, 300);
    cr_expect_eq(bad, 0, "%d of %d bad files are not answered as they should", bad, n);
    mem_free(list);
}
