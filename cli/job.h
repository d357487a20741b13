// A job: one picture to draw, with every choice made, from a line of a file of jobs.
#pragma once
#include "cli/drawing.h"
#include "cli/jobs.h"
#include "cli/shard.h"

typedef struct {
    drawing drawing; // texts belong to `keys` or to the defaults
    const char *output;
} job_options;

// Options that a line may give.
extern const command_line JOB_LINE;

typedef struct {
    long line;
    json_t *keys;
    job_options o;
    char *shape;  // what pictures that are drawn together share; NULL where the options are wrong
    char id[129]; // given, or a hash of everything that makes the picture
    uint64_t seed;
    char *prompt, *negative; // wildcards expanded; negative may be NULL
    char name[256];          // of the file
    int code;                // nonzero: this job cannot be drawn
    char *error;             // why
    bool finished;           // drawn, failed, or done before
} job;

typedef struct {
    job *at;
    size_t n, room;
    json_t *seen; // hash of a job without an id → how often; id → true
} job_list;

typedef struct {
    job_options defaults;
    const char *wildcards, *model;
    bool random; // a job without a seed gets another one each time, not one that follows from its text
} job_rules;

// Adds the pictures that a line asks for. A line that is wrong becomes a job with a code.
int job_list_add(job_list *list, job_line *line, const job_rules *rules);
void job_list_free(job_list *list);
// Forgets all but the part that belongs to `s`.
void job_list_keep(job_list *list, shard s);
// Pictures of equal shape can be drawn together.
bool job_same_shape(const job *a, const job *b);
