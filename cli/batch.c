// calotype batch: many pictures from a file of jobs, or from lines on standard input.
#include "cli/commands.h"
#include "cli/digest.h"
#include "cli/files.h"
#include "cli/job.h"
#include "cli/journal.h"
#include "cli/leftovers.h"
#include "cli/text.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

typedef struct {
    drawing drawing; // what a job does not say
    const char *folder, *name, *wildcards, *shard;
    int together;
    bool worker, strict, force;
} options;

#define AT(field) offsetof(options, field)
static const option OPTIONS[] = {
    {'o', "output", OPTION_TEXT, AT(folder), "DIR",
     "folder of the pictures and of manifest.jsonl (pictures)"},
    {0, "name", OPTION_TEXT, AT(name), "NAME", "of a picture; {id} and {seed} are filled in ({id}.png)"},
    {0, "wildcards", OPTION_TEXT, AT(wildcards), "DIR", "where __name__ in a prompt finds name.txt"},
    {0, "shard", OPTION_TEXT, AT(shard), "I/N", "part I (1 to N) of N only; /N: which one, the cluster says"},
    {0, "worker", OPTION_FLAG, AT(worker), NULL, "take JSON lines on standard input, answer each with one"},
    {0, "together", OPTION_INT, AT(together), "N", "pictures of equal shape drawn at once (8)", 1, 64},
    {0, "strict", OPTION_FLAG, AT(strict), NULL, "stop at the first job that fails"},
    {0, "force", OPTION_FLAG, AT(force), NULL, "replace existing files"},
    {0}};

const command_line BATCH_LINE = {
    "batch",
    "JOBS [-o DIR] [OPTION...]",
    "Draws the pictures of a file of jobs. Run again, it draws what is left.",
    "JOBS: JSON lines, CSV with a header, or one prompt a line with flags behind it; - is standard input. "
    "The\n"
    "keys are the long names of txt2img's options, and \"id\"; the options here stand for what a job leaves\n"
    "open. {a|b} and __name__ in prompts are chosen by the seed. Several processes may work on one folder.\n"
    "Exit codes: 0 all done, 1 some jobs failed, 75 some failed for want of memory or disk.",
    {OPTIONS, DRAWING_OPTIONS, MODEL_OPTIONS, COMMON_OPTIONS},
    1};

typedef struct {
    session s;
    const options *o;
    const char *source; // of the jobs, for messages
    calo_model *model, *refiner;
    char *refined_by; // name of the refiner that is open
    journal *journal;
    job_list list;
    job_rules rules;
    size_t done, failed, before;
    bool may_retry; // a job failed for want of memory or disk
    int code;       // nonzero: the run ends with it
} batch;

// ---- results

static int hash_file(const char *path, digest *d) {
    int fd = file_open(AT_FDCWD, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    int wrong = fd < 0 ? errno : digest_file(fd, d);
    if (fd >= 0) close(fd);
    errno = wrong; // for the message
    return wrong ? file_code(wrong, CALO_ERR_IO) : 0;
}

static void print_line(const json_t *line) {
    json_dumpf(line, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9));
    putchar('\n');
    fflush(stdout);
}

// Journal first, then what people and programs read.
static int report(batch *b, job *j, json_t *line, const char *path) {
    int code = line ? journal_put(b->journal, line) : (errno = ENOMEM, CALO_ERR_TEMP);
    session_clear(&b->s);
    if (code) {
        b->code = session_fail(&b->s, code, "%s/manifest.jsonl: cannot be written: %s", b->o->folder,
                               strerror(errno));
    } else {
        if (b->o->worker || b->o->drawing.common.json)
            print_line(line);
        else if (path)
            puts(path), fflush(stdout);
        j->finished = true;
    }
    json_decref(line);
    return code;
}

static void fail_job(batch *b, job *j, int code, const char *text) {
    char clean[2000];
    snprintf(clean, sizeof clean, "%s", text);
    text_tame(clean);
    b->failed++;
    if (code == CALO_ERR_TEMP || code == CALO_ERR_IO) b->may_retry = true;
    session_clear(&b->s);
    fprintf(stderr, "calotype: ");
    text_print(stderr, b->source);
    fprintf(stderr, ": %s\n", clean);
    json_t *line = json_pack("{s:s, s:s, s:I, s:i, s:s}", "id", j->id, "status", "failed", "line",
                             (json_int_t)j->line, "code", code, "error", clean);
    if (!line) // what a hostile line said is not UTF-8
        line = json_pack("{s:s, s:s, s:I, s:i}", "id", j->id, "status", "failed", "line", (json_int_t)j->line,
                         "code", code);
    report(b, j, line, NULL);
    if (b->o->strict && !b->code) b->code = code;
}

static json_t *done_line(const job *j, const calo_image *im, const char *sha256, double seconds,
                         size_t together) {
    json_t *line =
        json_pack("{s:s, s:s, s:I, s:s, s:s, s:I, s:i, s:i, s:s}", "id", j->id, "status", "done", "line",
                  (json_int_t)j->line, "file", j->name, "sha256", sha256, "seed", (json_int_t)j->seed,
                  "width", im->width, "height", im->height, "prompt", j->prompt);
    if (!line) return NULL;
    if (j->negative) json_object_set_new(line, "negative_prompt", json_string(j->negative));
    if (strcmp(j->prompt, j->o.drawing.prompt) != 0)
        json_object_set_new(line, "template", json_string(j->o.drawing.prompt));
    json_object_set_new(line, "seconds", json_real(seconds));
    json_object_set_new(line, "together", json_integer((json_int_t)together));
    return line;
}

// ---- files

// A file of that name may be this very picture, drawn by a process that was killed before it could say so. It
// is drawn beside it, under a name of the job that this process has claimed: if it is killed in turn, the
// next one draws over that.
static calo_status is_ours(batch *b, const job *j, const calo_image *im, const char *path,
                           const calo_save_options *save) {
    char temp[PATH_MAX];
    digest ours, theirs;
    calo_save_options over = *save;
    over.overwrite = true;
    int n = snprintf(temp, sizeof temp, "%s/.calotype-%016" PRIx64 "%s", b->o->folder, journal_number(j->id),
                     strrchr(path, '.'));
    if (n >= (int)sizeof temp) return CALO_ERR_CANTCREAT;
    calo_status s = calo_image_save(b->s.ctx, im, temp, &over);
    if (!s && (hash_file(temp, &ours) || hash_file(path, &theirs)))
        s = CALO_ERR_IO;
    else if (!s && strcmp(ours.hex, theirs.hex) != 0)
        s = CALO_ERR_CANTCREAT;
    unlink(temp);
    return s;
}

static calo_status save_picture(batch *b, const job *j, const calo_image *im, const char *path) {
    calo_save_options save = drawing_save_options(&j->o.drawing, b->o->force);
    struct stat st;
    calo_status s = calo_image_save(b->s.ctx, im, path, &save);
    if (s == CALO_ERR_CANTCREAT && !save.overwrite && !lstat(path, &st) && S_ISREG(st.st_mode))
        s = is_ours(b, j, im, path, &save);
    return s;
}

// ---- drawing

typedef struct {
    batch *b;
    job **jobs;
    size_t n, at;
    double begun; // seconds of the session
} group;

// Ends the run: what this job met, the next one would meet too.
static calo_status cannot_write(batch *b, const char *path, calo_status s, const char *why) {
    b->code = session_fail(&b->s, (int)s, "%s: cannot be written: %s", path, why);
    return s;
}

static calo_status receive(void *user, const calo_image *im) {
    group *g = user;
    batch *b = g->b;
    job *j = g->jobs[g->at++];
    char path[PATH_MAX], text[PATH_MAX + 100];
    digest sha256;
    struct stat st;
    if (snprintf(path, sizeof path, "%s/%s", b->o->folder, j->name) >= (int)sizeof path)
        return cannot_write(b, b->o->folder, CALO_ERR_CANTCREAT, strerror(ENAMETOOLONG));
    calo_status s = save_picture(b, j, im, path);
    if (s == CALO_ERR_CANTCREAT && !lstat(path, &st)) {
        snprintf(text, sizeof text, "line %ld: %s: another file is there (--force replaces it)", j->line,
                 path);
        fail_job(b, j, (int)s, text);
        return b->code ? CALO_ERR_CANCELLED : CALO_OK;
    }
    if (s) return cannot_write(b, path, s, calo_message(b->s.ctx));
    int code = hash_file(path, &sha256);
    if (code) return cannot_write(b, path, (calo_status)code, strerror(errno));
    b->done++;
    double t = session_seconds(&b->s);
    json_t *line = done_line(j, im, sha256.hex, t - g->begun, g->n);
    g->begun = t;
    report(b, j, line, path);
    return b->code ? CALO_ERR_CANCELLED : CALO_OK;
}

// The refiner stays open until a job names another. Returns an exit code and why.
static int open_refiner(batch *b, const drawing *d, char *message, size_t size) {
    if (!d->refiner || (b->refiner && !strcmp(b->refined_by, d->refiner))) return 0;
    calo_model_free(b->refiner);
    free(b->refined_by);
    b->refiner = NULL;
    b->refined_by = strdup(d->refiner);
    int code = b->refined_by ? (int)drawing_open_refiner(b->s.ctx, d, &b->refiner) : CALO_ERR_TEMP;
    if (code) snprintf(message, size, "%s", b->refined_by ? calo_message(b->s.ctx) : "out of memory");
    return code;
}

static void draw(batch *b, job **jobs, size_t n) {
    const char *prompts[64], *negatives[64];
    uint64_t seeds[64];
    group g = {b, jobs, n, 0, session_seconds(&b->s)};
    calo_txt2img_request r = drawing_request(&jobs[0]->o.drawing);
    for (size_t i = 0; i < n; i++) {
        prompts[i] = jobs[i]->prompt;
        negatives[i] = jobs[i]->negative;
        seeds[i] = jobs[i]->seed;
    }
    r.prompts = prompts;
    r.negative_prompts = negatives;
    r.seeds = seeds;
    r.count = (int)n;
    r.on_image = receive;
    r.user = &g;
    b->s.first = (int)(b->done + b->failed);
    b->s.images = (int)(b->list.n - b->before);
    char text[1200], why[1024];
    drawing_pictures pictures;
    int code = drawing_load_pictures(b->s.ctx, &jobs[0]->o.drawing, &r, &pictures, why, sizeof why);
    if (!code) code = open_refiner(b, &jobs[0]->o.drawing, why, sizeof why);
    if (jobs[0]->o.drawing.refiner) r.refiner = b->refiner;
    calo_status s = code ? CALO_OK : calo_txt2img(b->model, &r, NULL);
    drawing_free_pictures(&pictures);
    for (size_t i = 0; code && i < n; i++) { // of equal shape, so they name the same
        snprintf(text, sizeof text, "line %ld: %s", jobs[i]->line, why);
        fail_job(b, jobs[i], code, text);
    }
    if (!s || b->code) return;
    if (s == CALO_ERR_CANCELLED) {
        b->code = session_end(&b->s, s);
    } else if (n > 1) { // one of them spoils the others: each alone
        for (size_t i = g.at; i < n && !b->code; i++) draw(b, &jobs[i], 1);
    } else {
        snprintf(text, sizeof text, "line %ld: %s", jobs[0]->line, calo_message(b->s.ctx));
        fail_job(b, jobs[0], (int)s, text);
    }
}

// ---- which job is next

static bool picture_is_there(const batch *b, const json_t *line) {
    char path[PATH_MAX];
    struct stat st;
    const char *file = json_string_value(json_object_get(line, "file"));
    return file && !strchr(file, '/') &&
           snprintf(path, sizeof path, "%s/%s", b->o->folder, file) < (int)sizeof path && !lstat(path, &st);
}

// Whether the journal knows how this job ended. A worker answers with what it says, and tries again what has
// failed.
static bool settled(batch *b, job *j) {
    const json_t *line = journal_line(b->journal, j->id);
    journal_state state = journal_of(b->journal, j->id);
    if (state == JOURNAL_DONE && picture_is_there(b, line)) {
        b->before++;
        if (b->o->worker) print_line(line);
    } else if (state == JOURNAL_FAILED && !b->o->worker) {
        b->failed++;
    } else {
        return false;
    }
    return j->finished = true;
}

typedef enum { CLAIMED, SETTLED, BUSY } claim_result;

static claim_result claim(batch *b, job *j) {
    if (settled(b, j)) return SETTLED;
    if (!journal_claim(b->journal, j->id)) return BUSY;
    int code = journal_refresh(b->journal);
    if (code) b->code = session_fail(&b->s, code, "%s/manifest.jsonl: cannot be read", b->o->folder);
    if (!code && !settled(b, j)) return CLAIMED;
    journal_release(b->journal, j->id);
    return SETTLED;
}

// Claims the first open job and those behind it that can be drawn with it.
static size_t next_group(batch *b, job **jobs, size_t first, bool *busy) {
    size_t n = 0;
    for (size_t i = first; i < b->list.n && n < (size_t)b->o->together && !b->code; i++) {
        job *j = &b->list.at[i];
        if (j->finished || (n && (j->code || jobs[0]->code || !job_same_shape(jobs[0], j)))) continue;
        claim_result r = claim(b, j);
        if (r == CLAIMED) jobs[n++] = j;
        if (r == BUSY) *busy = true;
    }
    return n;
}

// Other processes have what is left: they finish it, or die and leave it to us.
static void wait_for_others(batch *b) {
    nanosleep(&(struct timespec){0, 50000000}, NULL);
    int code = journal_refresh(b->journal);
    if (code) b->code = session_fail(&b->s, code, "%s/manifest.jsonl: cannot be read", b->o->folder);
}

static void work_on(batch *b, job **jobs, size_t n) {
    if (!n)
        wait_for_others(b);
    else if (jobs[0]->code)
        fail_job(b, jobs[0], jobs[0]->code, jobs[0]->error ? jobs[0]->error : "out of memory");
    else
        draw(b, jobs, n);
}

static void run_jobs(batch *b) {
    job *jobs[64];
    size_t first = 0;
    while (!b->code) {
        bool busy = false;
        while (first < b->list.n && b->list.at[first].finished) first++;
        size_t n = next_group(b, jobs, first, &busy);
        if (!n && !busy) return;
        if (!b->code) work_on(b, jobs, n);
        for (size_t i = 0; i < n; i++) journal_release(b->journal, jobs[i]->id);
        if (session_stopped() && !b->code) b->code = session_end(&b->s, CALO_ERR_CANCELLED);
    }
}

static int outcome(const batch *b) {
    return b->code ? b->code : b->may_retry ? CALO_ERR_TEMP : b->failed ? 1 : 0;
}

// ---- a file of jobs

static char *read_all(batch *b, const char *path, size_t *n) {
    char *text = NULL;
    int fd = strcmp(path, "-") ? file_open(AT_FDCWD, path, O_RDONLY | O_CLOEXEC) : STDIN_FILENO;
    int wrong = fd < 0 ? errno : file_read(fd, JOBS_MAX_FILE, &text, n);
    if (fd > STDIN_FILENO) close(fd);
    if (session_stopped())
        b->code = session_end(&b->s, CALO_ERR_CANCELLED);
    else if (wrong)
        b->code = session_fail(&b->s, file_code(wrong, CALO_ERR_NOINPUT), "%s: cannot be read: %s", b->source,
                               strerror(wrong));
    if (b->code) free(text), text = NULL;
    return text;
}

static void read_jobs(batch *b, const char *path) {
    size_t n;
    char message[300] = "", *text = read_all(b, path, &n);
    job_lines lines = {0};
    if (!text) return;
    int code = jobs_parse(text, n, jobs_format_of(path, text, n), &JOB_LINE, &lines, message, sizeof message);
    free(text);
    if (!code && !lines.n) code = CALO_ERR_DATA, snprintf(message, sizeof message, "no job in it");
    if (code) b->code = session_fail(&b->s, code, "%s: %s", b->source, message);
    for (size_t i = 0; i < lines.n && !code; i++) code = job_list_add(&b->list, &lines.at[i], &b->rules);
    jobs_free(&lines);
    if (code && !b->code) b->code = session_fail(&b->s, code, "%s: out of memory", b->source);
}

static int run_file(batch *b, const char *path) {
    shard s;
    char message[200];
    if (shard_choose(b->o->shard, &s, message, sizeof message))
        return session_fail(&b->s, CALO_ERR_USAGE, "%s", message);
    read_jobs(b, path);
    if (s.count > 1) {
        session_say(&b->s, "part %ld of %ld", s.rank + 1, s.count);
        if (!b->code) job_list_keep(&b->list, s);
    }
    if (!b->code) run_jobs(b);
    session_say(&b->s, "%zu drawn, %zu done before, %zu failed, %zu left, %.2f s", b->done, b->before,
                b->failed, b->list.n - b->done - b->before - b->failed, session_seconds(&b->s));
    return outcome(b);
}

// ---- lines on standard input

static void answer(batch *b, long number, const char *text, size_t n) {
    job_lines lines = {0};
    int code = jobs_add_json(&lines, number, text, n, &JOB_LINE);
    for (size_t i = 0; i < lines.n && !code; i++) code = job_list_add(&b->list, &lines.at[i], &b->rules);
    jobs_free(&lines);
    if (code)
        b->code = session_fail(&b->s, code, "line %ld: out of memory", number);
    else
        run_jobs(b);
    job_list_free(&b->list);
}

// A line without its end, or as much of it as shows that it is too long. -1 behind the last, and when the
// reading fails or a signal ends it.
static ssize_t read_line(char text[JOBS_MAX_LINE + 1]) {
    size_t n = 0;
    int c;
    while ((c = getc(stdin)) != EOF && c != '\n')
        if (n <= JOBS_MAX_LINE) text[n++] = (char)c;
    if (c == EOF && (!n || ferror(stdin))) return -1;
    while (n && text[n - 1] == '\r') n--;
    return (ssize_t)n;
}

static int run_worker(batch *b) {
    char *text = malloc(JOBS_MAX_LINE + 1);
    ssize_t n;
    if (!text) return session_fail(&b->s, CALO_ERR_TEMP, "out of memory");
    for (long line = 1; !b->code && !session_stopped() && (n = read_line(text)) >= 0; line++)
        if (n) answer(b, line, text, (size_t)n);
    if (session_stopped() && !b->code)
        b->code = session_end(&b->s, CALO_ERR_CANCELLED);
    else if (!b->code && ferror(stdin))
        b->code = session_fail(&b->s, CALO_ERR_IO, "standard input: %s", strerror(errno));
    free(text);
    return outcome(b);
}

// ----

static int work(batch *b, int operands, char **argv) {
    char message[PATH_MAX + 100];
    if (b->o->worker ? operands : operands != 1)
        return session_fail(&b->s, CALO_ERR_USAGE,
                            b->o->worker ? "--worker takes its jobs on standard input"
                                         : "which jobs? Name a file, or - for standard input");
    b->source = operands && strcmp(*argv, "-") ? *argv : "standard input";
    int code = session_model(&b->s, &b->model);
    if (!code) drawing_settle(&b->rules.defaults.drawing, b->model);
    if (!code && (code = open_refiner(b, &b->o->drawing, message, sizeof message)))
        session_fail(&b->s, code, "%s", message);
    if (!code && (code = journal_open(b->o->folder, &b->journal, message, sizeof message)))
        session_fail(&b->s, code, "%s", message);
    if (!code && *message) session_say(&b->s, "calotype: warning: %s", message);
    if (!code) leftovers_remove(b->o->folder, 0);
    if (!code) code = b->o->worker ? run_worker(b) : run_file(b, argv[0]);
    job_list_free(&b->list);
    journal_close(b->journal);
    calo_model_free(b->refiner);
    free(b->refined_by);
    calo_model_free(b->model);
    return code;
}

int cmd_batch(int argc, char **argv) {
    options o = {.drawing = drawing_defaults(), .folder = "pictures", .together = 8};
    drawing_leave_open(&o.drawing);
    int n = session_options(&BATCH_LINE, &o.drawing.common, argc, argv);
    if (n < 0) return options_code(n);
    common shown = o.drawing.common;
    shown.quiet = shown.quiet || o.worker;
    if (o.worker) shown.json = false; // standard output has one line for each job
    batch b = {.o = &o, .rules = {{o.drawing, o.name}, o.wildcards, o.drawing.common.model, o.worker}};
    int code = session_open(&b.s, &shown, CALO_PRECISION_AUTO, CALO_LOG_WARN);
    if (!code) code = work(&b, n, argv);
    session_close(&b.s);
    return code;
}
