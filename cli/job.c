#include "cli/job.h"

#include "cli/digest.h"
#include "cli/text.h"
#include "cli/wildcards.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum { MAX_JOBS = 1000000, MAX_ID = 128 };

static const option JOB_OPTIONS[] = {{'o', "output", OPTION_TEXT, offsetof(job_options, output), "NAME",
                                      "name of the file; {id} and {seed} are filled in ({id}.png)"},
                                     {0}};

const command_line JOB_LINE = {"batch", "", "A job.", NULL, {JOB_OPTIONS, DRAWING_OPTIONS}, 0};

// ---- failing

__attribute__((format(printf, 3, 4))) static int wrong(job *j, int code, const char *format, ...) {
    char text[OPTIONS_MESSAGE];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    free(j->error);
    j->error = strdup(text);
    return j->code = code;
}

// ---- identity

// Everything of the drawing but texts and seed. false when memory is short.
static bool make_shape(job *j) {
    const drawing *d = &j->o.drawing;
    return asprintf(&j->shape, "%d %d %d %d %d %d %d %d %.17g %.17g %s", d->width, d->height, d->steps,
                    d->scheduler, d->prediction, d->zero_snr, d->rng, d->no_metadata, d->cfg_scale,
                    d->cfg_rescale, d->sampler ? d->sampler : "") >= 0;
}

bool job_same_shape(const job *a, const job *b) { return !strcmp(a->shape, b->shape); }

// The second of two equal jobs is another job: `occurrence` tells them apart.
static int digest_of(const job *j, const job_rules *rules, long long occurrence, digest *h) {
    char *text;
    const drawing *d = &j->o.drawing;
    if (asprintf(&text, "%s\n%d %lld %lld\n%s\n%s\n%s\n%s", j->shape, d->quality, d->seed, occurrence,
                 rules->model ? rules->model : "", j->o.output ? j->o.output : "",
                 d->negative ? d->negative : "", d->prompt) < 0)
        return CALO_ERR_TEMP;
    *h = digest_text(text);
    free(text);
    return 0;
}

static int given_id(job *j) {
    const json_t *id = json_object_get(j->keys, "id");
    if (json_is_integer(id))
        snprintf(j->id, sizeof j->id, "%" JSON_INTEGER_FORMAT, json_integer_value(id));
    else if (json_is_string(id) && json_string_length(id) >= 1 && json_string_length(id) <= MAX_ID)
        snprintf(j->id, sizeof j->id, "%s", json_string_value(id));
    else if (id)
        return wrong(j, CALO_ERR_DATA, "line %ld: id is not a text of 1 to %d bytes", j->line, MAX_ID);
    return json_object_del(j->keys, "id"), 0;
}

static long long count_of(json_t *seen, const char *key) {
    long long n = json_integer_value(json_object_get(seen, key)) + 1;
    json_object_set_new(seen, key, json_integer(n));
    return n;
}

static int identify(job *j, json_t *seen, const job_rules *rules) {
    unsigned random;
    digest h;
    if (!make_shape(j)) return j->shape = NULL, CALO_ERR_TEMP;
    if (digest_of(j, rules, 0, &h) || digest_of(j, rules, count_of(seen, h.hex), &h)) return CALO_ERR_TEMP;
    long long seed = j->o.drawing.seed;
    bool given = *j->id;
    if (!given) snprintf(j->id, sizeof j->id, "%.16s", h.hex);
    if (seed < 0 && rules->random && getrandom(&random, sizeof random, 0) == sizeof random) seed = random;
    j->seed = seed >= 0 ? (uint64_t)seed : (given ? digest_text(j->id).number : h.number) & 0xffffffff;
    return 0;
}

// ---- the file's name

// A name in the folder and nothing else: no path, nothing hidden, nothing that a shell or a terminal minds.
static int check_name(job *j) {
    const char *p = j->name;
    bool good = *p && *p != '.' && *p != '-' && drawing_has_format(p) && !strpbrk(p, "/\\");
    for (; *p; p++) good = good && !text_control(p);
    if (good) return 0;
    return wrong(j, CALO_ERR_DATA,
                 "line %ld: the output is not the plain name of a .png, .jpg or .webp file in the folder",
                 j->line);
}

static int make_name(job *j) {
    size_t n = 0;
    for (const char *p = j->o.output ? j->o.output : "{id}.png"; *p && n < sizeof j->name;) {
        bool id = !strncmp(p, "{id}", 4), seed = !strncmp(p, "{seed}", 6);
        int put = id     ? snprintf(j->name + n, sizeof j->name - n, "%s", j->id)
                  : seed ? snprintf(j->name + n, sizeof j->name - n, "%llu", (unsigned long long)j->seed)
                         : snprintf(j->name + n, sizeof j->name - n, "%c", *p);
        n += (size_t)put;
        p += id ? 4 : seed ? 6 : 1;
    }
    if (n >= sizeof j->name) // 255 bytes is what file systems take
        return *j->name = 0, wrong(j, CALO_ERR_DATA, "line %ld: the output's name is too long", j->line);
    return check_name(j);
}

// ---- a line

static bool is_utf8(const char *text) {
    json_t *j = json_string(text);
    bool good = j != NULL;
    json_decref(j);
    return good;
}

static int expand(job *j, const job_rules *rules) {
    char message[512];
    const drawing *d = &j->o.drawing;
    int code = wildcards_expand(d->prompt, rules->wildcards, j->seed, &j->prompt, message, sizeof message);
    if (!code && d->negative) // another stream than the prompt's
        code =
            wildcards_expand(d->negative, rules->wildcards, ~j->seed, &j->negative, message, sizeof message);
    if (code) return wrong(j, code, "line %ld: %s", j->line, message);
    if (!is_utf8(j->prompt) || (j->negative && !is_utf8(j->negative)))
        return wrong(j, CALO_ERR_DATA, "line %ld: the prompt is not UTF-8", j->line);
    return 0;
}

static int read_options(job *j, const job_rules *rules) {
    char where[32], message[OPTIONS_MESSAGE];
    snprintf(where, sizeof where, "line %ld", j->line);
    j->o = rules->defaults;
    if (options_json(&JOB_LINE, &j->o, j->keys, where, message))
        return wrong(j, CALO_ERR_DATA, "%s", message);
    if (!j->o.drawing.prompt) return wrong(j, CALO_ERR_DATA, "line %ld: no prompt", j->line);
    return 0;
}

static job *append(job_list *list) {
    if (!list->seen && !(list->seen = json_object())) return NULL;
    if (list->n == list->room) {
        size_t room = list->room ? 2 * list->room : 64;
        job *more = realloc(list->at, room * sizeof *more);
        if (!more) return NULL;
        list->at = more;
        list->room = room;
    }
    return memset(&list->at[list->n++], 0, sizeof(job));
}

// What fails is a job too, so that one process reports it once.
static void identify_wrong(job *j) {
    if (!*j->id) snprintf(j->id, sizeof j->id, "line-%ld", j->line);
}

// Returns nonzero when memory is short.
static int finish(job *j, job_list *list, const job_rules *rules, int index) {
    if (j->o.drawing.count > 1 && *j->id) {
        size_t n = strlen(j->id);
        if (snprintf(j->id + n, sizeof j->id - n, "-%d", index + 1) >= (int)(sizeof j->id - n))
            wrong(j, CALO_ERR_DATA, "line %ld: id is too long", j->line);
    }
    if (j->o.drawing.seed >= 0) j->o.drawing.seed += index;
    if (identify(j, list->seen, rules)) return CALO_ERR_TEMP;
    if (json_object_get(list->seen, j->id)) {
        wrong(j, CALO_ERR_DATA, "line %ld: id '%s' is there already", j->line, j->id);
        snprintf(j->id, sizeof j->id, "line-%ld", j->line);
    } else if (!rules->random) {
        json_object_set_new(list->seen, j->id, json_true());
    }
    if (!j->code) make_name(j);
    if (!j->code) expand(j, rules);
    return 0;
}

int job_list_add(job_list *list, job_line *line, const job_rules *rules) {
    int count = 1;
    for (int i = 0; i < count; i++) {
        job *j = append(list);
        if (!j) return CALO_ERR_TEMP;
        j->line = line->line;
        j->keys = line->keys ? json_deep_copy(line->keys) : NULL;
        if (line->error)
            wrong(j, CALO_ERR_DATA, "line %ld: %s", line->line, line->error);
        else if (!j->keys)
            return CALO_ERR_TEMP;
        else if (!given_id(j) && !read_options(j, rules) && finish(j, list, rules, i))
            return CALO_ERR_TEMP;
        if (!j->code && j->o.drawing.count > 1) count = j->o.drawing.count;
        if (list->n + (size_t)(count - i) > MAX_JOBS) {
            wrong(j, CALO_ERR_DATA, "line %ld: more than %d pictures", line->line, MAX_JOBS);
            count = 1;
        }
        if (j->code) identify_wrong(j);
    }
    return 0;
}

static void job_free(job *j) {
    json_decref(j->keys);
    free(j->shape);
    free(j->prompt);
    free(j->negative);
    free(j->error);
}

void job_list_keep(job_list *list, shard s) {
    size_t n = 0;
    for (size_t i = 0; i < list->n; i++) {
        if ((long)(i % (size_t)s.count) == s.rank)
            list->at[n++] = list->at[i];
        else
            job_free(&list->at[i]);
    }
    list->n = n;
}

void job_list_free(job_list *list) {
    for (size_t i = 0; i < list->n; i++) job_free(&list->at[i]);
    free(list->at);
    json_decref(list->seen);
    *list = (job_list){0};
}
