#include "cli/jobs.h"

#include "core/calotype.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

// What A1111's "prompts from file" and kohya's scripts call our options.
static const char *const ALIASES[][2] = {{"sampler_name", "sampling-method"},
                                         {"cfg", "cfg-scale"},
                                         {"n_iter", "batch-count"},
                                         {"outpath", "output"},
                                         {"n", "negative-prompt"},
                                         {"w", "width"},
                                         {"h", "height"},
                                         {"s", "steps"},
                                         {"d", "seed"},
                                         {"l", "cfg-scale"},
                                         {"f", "output"}};
enum { N_ALIASES = sizeof ALIASES / sizeof *ALIASES };

// ---- the list

// keys and error are taken over; either is NULL.
static int add(job_lines *jobs, long line, json_t *keys, char *error) {
    if (jobs->n == jobs->room) {
        size_t room = jobs->room ? 2 * jobs->room : 64;
        job_line *more = realloc(jobs->at, room * sizeof *more);
        if (!more) return json_decref(keys), free(error), CALO_ERR_TEMP;
        jobs->at = more;
        jobs->room = room;
    }
    jobs->at[jobs->n++] = (job_line){line, keys, error};
    return 0;
}

__attribute__((format(printf, 3, 4))) static int add_wrong(job_lines *jobs, long line, const char *format,
                                                           ...) {
    char text[400];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    char *error = strdup(text);
    return error ? add(jobs, line, NULL, error) : CALO_ERR_TEMP;
}

void jobs_free(job_lines *jobs) {
    for (size_t i = 0; i < jobs->n; i++) {
        json_decref(jobs->at[i].keys);
        free(jobs->at[i].error);
    }
    free(jobs->at);
    *jobs = (job_lines){0};
}

// ---- keys

// The option's long name; the key itself where there is no such option, which is complained of later.
static const char *long_name(const command_line *known, const char *key) {
    const option *o = options_find(known, key);
    for (int i = 0; !o && i < N_ALIASES; i++)
        if (!strcasecmp(key, ALIASES[i][0])) o = options_find(known, ALIASES[i][1]);
    return o ? o->name : key;
}

// A text as the JSON value that the option asks for; what does not fit stays a text.
static json_t *typed(const command_line *known, const char *name, const char *text) {
    static const char *const YES[] = {"1", "true", "yes", "on", ""}, *const NO[] = {"0", "false", "no",
                                                                                    "off"};
    const option *o = options_find(known, name);
    if (!o || o->kind == OPTION_TEXT || o->kind == OPTION_CHOICE || o->kind == OPTION_SIZE)
        return json_string(text);
    for (size_t i = 0; !option_takes_value(o) && i < sizeof YES / sizeof *YES; i++)
        if (!strcasecmp(text, YES[i])) return json_true();
    for (size_t i = 0; !option_takes_value(o) && i < sizeof NO / sizeof *NO; i++)
        if (!strcasecmp(text, NO[i])) return json_false();
    json_t *number = json_loads(text + (*text == '+'), JSON_DECODE_ANY, NULL);
    if (json_is_number(number)) return number;
    json_decref(number);
    return json_string(text);
}

// ---- JSON lines

// The same object under the options' long names.
static json_t *rename_keys(json_t *from, const command_line *known) {
    json_t *to = json_object(), *v;
    const char *key;
    bool good = to != NULL;
    json_object_foreach(from, key, v) {
        const char *name = long_name(known, key);
        if (!json_is_null(v) && (json_object_get(to, name) || json_object_set(to, name, v))) good = false;
    }
    if (good) return to;
    json_decref(to);
    return NULL;
}

int jobs_add_json(job_lines *jobs, long line, const char *text, size_t n, const command_line *known) {
    json_error_t e;
    if (n > JOBS_MAX_LINE) return add_wrong(jobs, line, "longer than 1 MB");
    json_t *j = json_loadb(text, n, JSON_REJECT_DUPLICATES, &e);
    if (!j && json_error_code(&e) == json_error_out_of_memory) return CALO_ERR_TEMP;
    if (!j) return add_wrong(jobs, line, "column %d: %s", e.column, e.text);
    json_t *keys = json_is_object(j) ? rename_keys(j, known) : NULL;
    bool object = json_is_object(j);
    json_decref(j);
    if (keys) return add(jobs, line, keys, NULL);
    return add_wrong(jobs, line, object ? "an option is given twice" : "not a JSON object");
}

// ---- CSV (RFC 4180)

typedef struct {
    char *text;
    size_t n;
} field;

// Reads one field from *at, unquoted in place; *last: it ends its row. false for a quote that does not end.
static bool next_field(char **at, char *end, field *f, bool *last, long *line) {
    char *p = *at, *to = p;
    f->text = p;
    bool quoted = p < end && *p == '"', closed = !quoted;
    if (quoted) p++;
    for (; p < end; p++) {
        if (quoted && !closed) {
            if (*p == '\n') ++*line;
            if (*p != '"')
                *to++ = *p;
            else if (p + 1 < end && p[1] == '"')
                *to++ = *p++;
            else
                closed = true;
        } else if (*p == ',' || *p == '\n') {
            break;
        } else if (*p != '\r' || (p + 1 < end && p[1] != '\n')) {
            *to++ = *p;
        }
    }
    *last = p >= end || *p == '\n';
    *at = p < end ? p + 1 : end;
    f->n = (size_t)(to - f->text);
    return closed;
}

enum { MAX_COLUMNS = 64 };

typedef struct {
    char *names[MAX_COLUMNS];
    int n;
} header;

static int csv_row(char **at, char *end, field *fields, long *line) {
    bool last = false;
    int n = 0;
    for (; !last; n++) {
        field extra;
        if (!next_field(at, end, n < MAX_COLUMNS ? &fields[n] : &extra, &last, line)) return -1;
    }
    return n;
}

static int add_csv_row(job_lines *jobs, long line, const field *fields, const header *h,
                       const command_line *known) {
    json_t *keys = json_object();
    int code = keys ? 0 : CALO_ERR_TEMP;
    for (int i = 0; i < h->n && !code; i++) {
        if (!fields[i].n) continue;
        if (strlen(fields[i].text) != fields[i].n) {
            json_decref(keys);
            return add_wrong(jobs, line, "a NUL in '%s'", h->names[i]);
        }
        json_t *v = typed(known, h->names[i], fields[i].text);
        if (!v) {
            json_decref(keys);
            return add_wrong(jobs, line, "'%s' is not UTF-8", h->names[i]);
        }
        if (json_object_set_new(keys, h->names[i], v)) code = CALO_ERR_TEMP;
    }
    if (!code) return add(jobs, line, keys, NULL);
    json_decref(keys);
    return code;
}

static int read_header(char **at, char *end, const command_line *known, header *h, long *line, char *message,
                       size_t size) {
    field fields[MAX_COLUMNS];
    h->n = csv_row(at, end, fields, line);
    ++*line;
    if (h->n < 1 || h->n > MAX_COLUMNS) {
        snprintf(message, size, "line 1: not a header of 1 to %d names", MAX_COLUMNS);
        return CALO_ERR_DATA;
    }
    for (int i = 0; i < h->n; i++) {
        fields[i].text[fields[i].n] = 0;
        if (strlen(fields[i].text) != fields[i].n)
            h->names[i] = NULL;
        else
            h->names[i] = (char *)(uintptr_t)long_name(known, fields[i].text);
        for (int k = 0; k < i && h->names[i]; k++)
            if (!strcmp(h->names[k], h->names[i])) h->names[i] = NULL;
        if (!h->names[i] || !*h->names[i]) {
            snprintf(message, size, "line 1: column %d of the header has no name of its own", i + 1);
            return CALO_ERR_DATA;
        }
    }
    return 0;
}

static int parse_csv(char *text, size_t n, const command_line *known, job_lines *jobs, char *message,
                     size_t size) {
    char *at = text, *end = text + n;
    header h;
    long line = 1;
    int code = read_header(&at, end, known, &h, &line, message, size);
    while (at < end && !code) {
        field fields[MAX_COLUMNS];
        long first = line;
        int columns = csv_row(&at, end, fields, &line);
        line++;
        if (columns == 1 && !fields[0].n) continue;
        if (columns < 0)
            code = add_wrong(jobs, first, "a quote that does not end");
        else if (columns != h.n)
            code = add_wrong(jobs, first, "%d fields under a header of %d", columns, h.n);
        else {
            for (int i = 0; i < columns; i++) fields[i].text[fields[i].n] = 0;
            code = add_csv_row(jobs, first, fields, &h, known);
        }
    }
    return code;
}

// ---- a prompt with flags behind it

// The long name of a flag that begins here ("--steps", "-W"), or NULL; *rest is behind it.
static const char *flag_at(const command_line *known, char *s, const char *begin, char **rest,
                           char keep[64]) {
    if (*s != '-' || (s > begin && !isspace((unsigned char)s[-1]))) return NULL;
    bool two = s[1] == '-';
    char *name = s + (two ? 2 : 1);
    size_t n = strcspn(name, " \t=");
    if (!isalpha((unsigned char)*name) || n >= 64 || (!two && n != 1)) return NULL;
    memcpy(keep, name, n);
    keep[n] = 0;
    *rest = name + n + (name[n] == '=');
    if (two) return long_name(known, keep);
    const option *o;
    for (int i = 0; (o = options_at(known, i)); i++)
        if (o->letter == *keep) return o->name;
    return NULL;
}

static char *trim(char *s, char *end) {
    while (end > s && isspace((unsigned char)end[-1])) end--;
    *end = 0;
    return s + strspn(s, " \t");
}

// A quoted value without its quotes, or everything up to the next flag, which kohya does not quote.
static char *value_at(const command_line *known, char *s, char **rest) {
    char keep[64], *ignored, *to, quote;
    s += strspn(s, " \t");
    if (*s == '"' || *s == '\'') {
        quote = *s++;
        char *p = to = s;
        for (; *p && *p != quote; p++) {
            if (*p == '\\' && p[1] && (p[1] == quote || p[1] == '\\')) p++;
            *to++ = *p;
        }
        if (!*p) return NULL;
        *rest = p + 1;
        *to = 0;
        return s;
    }
    char *p = s;
    while (*p && !flag_at(known, p, s, &ignored, keep)) p++;
    *rest = p;
    if (!*p) return trim(s, p);
    p[-(p > s)] = 0; // the blank before the flag
    return trim(s, p - (p > s));
}

// Stores one flag's value, which begins at *at; returns what is wrong.
static const char *store_flag(const command_line *known, const char *name, char **at, json_t *keys) {
    const option *o = options_find(known, name);
    char *value = o && !option_takes_value(o) ? *at + strlen(*at) : value_at(known, *at, at);
    if (!value) return "a quote that does not end";
    if (json_object_get(keys, name)) return "a flag is given twice";
    json_t *v = typed(known, name, value);
    if (!v || json_object_set_new(keys, name, v)) return "not UTF-8";
    *at += strspn(*at, " \t");
    return NULL;
}

static int add_text_line(job_lines *jobs, long line, char *s, const command_line *known) {
    json_t *keys = json_object();
    char keep[64], *at = NULL, *p = s;
    const char *name = NULL, *wrong = NULL;
    if (!keys) return CALO_ERR_TEMP;
    while (*p && !(name = flag_at(known, p, s, &at, keep))) p++;
    if (p > s) {
        if (name) p[-1] = 0; // the blank before it
        char *prompt = trim(s, s + strlen(s));
        if (*prompt && json_object_set_new(keys, "prompt", json_string(prompt))) wrong = "not UTF-8";
    }
    while (name && !wrong) {
        wrong = store_flag(known, name, &at, keys);
        name = wrong || !*at ? NULL : flag_at(known, at, at, &at, keep);
        if (!wrong && !name && *at) wrong = "text behind a flag's value";
    }
    if (!wrong) return add(jobs, line, keys, NULL);
    json_decref(keys);
    return add_wrong(jobs, line, "%s", wrong);
}

// ---- all formats

static int parse_lines(char *text, size_t n, jobs_format format, const command_line *known, job_lines *jobs) {
    long line = 0;
    int code = 0;
    for (char *s = text, *end = text + n; s < end && !code;) {
        char *stop = memchr(s, '\n', (size_t)(end - s)), *next = stop ? stop + 1 : end;
        if (!stop) stop = end;
        if (stop > s && stop[-1] == '\r') stop--;
        *stop = 0;
        line++;
        char *first = s + strspn(s, " \t");
        if (first == stop || (format == JOBS_TEXT && *first == '#')) {
            s = next;
            continue;
        }
        if (strlen(s) != (size_t)(stop - s))
            code = add_wrong(jobs, line, "a NUL in the line");
        else if (stop - s > JOBS_MAX_LINE)
            code = add_wrong(jobs, line, "longer than 1 MB");
        else if (format == JOBS_JSONL)
            code = jobs_add_json(jobs, line, s, (size_t)(stop - s), known);
        else
            code = add_text_line(jobs, line, s, known);
        s = next;
    }
    return code;
}

jobs_format jobs_format_of(const char *name, const char *text, size_t n) {
    const char *dot = strrchr(name, '.');
    if (dot && (!strcasecmp(dot, ".jsonl") || !strcasecmp(dot, ".ndjson") || !strcasecmp(dot, ".json")))
        return JOBS_JSONL;
    if (dot && !strcasecmp(dot, ".csv")) return JOBS_CSV;
    while (n && isspace((unsigned char)*text)) text++, n--;
    return n && *text == '{' && !(dot && !strcasecmp(dot, ".txt")) ? JOBS_JSONL : JOBS_TEXT;
}

int jobs_parse(const char *text, size_t n, jobs_format format, const command_line *known, job_lines *jobs,
               char *message, size_t size) {
    *jobs = (job_lines){0};
    if (n > JOBS_MAX_FILE) {
        snprintf(message, size, "larger than 64 MB");
        return CALO_ERR_DATA;
    }
    if (n >= 3 && !memcmp(text, "\xef\xbb\xbf", 3)) text += 3, n -= 3; // a byte order mark
    char *copy = malloc(n + 1);
    int code = CALO_ERR_TEMP;
    if (copy) {
        memcpy(copy, text, n);
        copy[n] = 0;
        code = format == JOBS_CSV ? parse_csv(copy, n, known, jobs, message, size)
                                  : parse_lines(copy, n, format, known, jobs);
    }
    free(copy);
    if (code == CALO_ERR_TEMP) snprintf(message, size, "out of memory");
    if (code) jobs_free(jobs);
    return code;
}
