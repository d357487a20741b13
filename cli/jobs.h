// Files of jobs: JSON lines, CSV with a header row, or one prompt a line with flags behind it. Whatever the
// format, a job becomes a JSON object whose keys are long names of options.
#pragma once
#include "cli/options.h"

typedef enum { JOBS_JSONL, JOBS_CSV, JOBS_TEXT } jobs_format;

typedef struct {
    long line;    // counted from 1
    json_t *keys; // NULL for a line that says nothing usable
    char *error;  // why
} job_line;

typedef struct {
    job_line *at;
    size_t n, room;
} job_lines;

enum { JOBS_MAX_FILE = 1 << 26, JOBS_MAX_LINE = 1 << 20 };

// By the extension of the file's name, or by its first character.
jobs_format jobs_format_of(const char *name, const char *text, size_t n);
// `known` has the options that a job may give; "id" is always allowed. Lines that are wrong are in the list
// too, with the reason. Returns 0, or an exit code when memory is short or the file as a whole is not usable
// (`message`).
int jobs_parse(const char *text, size_t n, jobs_format format, const command_line *known, job_lines *jobs,
               char *message, size_t size);
// One JSON line.
int jobs_add_json(job_lines *jobs, long line, const char *text, size_t n, const command_line *known);
void jobs_free(job_lines *jobs);
