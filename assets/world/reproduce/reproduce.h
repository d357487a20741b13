// `calotype reproduce`: a paper's claims in miniature, from scratch. One system a file, one row in the table
// of reproduce.c.
#pragma once
#include "core/calotype.h"

// An hour; minutes; seconds, which are for tests of the machinery and show nothing.
typedef enum { REPRODUCE_FULL, REPRODUCE_QUICK, REPRODUCE_TINY } reproduce_size;

typedef struct {
    const char *out;        // folder for models, table and pictures; a run that was stopped goes on there
    const char *docs;       // Markdown file to write the page into, its pictures beside it; NULL: none
    const char *recogniser; // its weights, for scoring; what is not there leaves the scores out
    reproduce_size size;
    int threads; // 0: one for each core
    uint64_t seed;
    calo_precision precision; // of training; pictures are drawn in f32
    void (*log)(void *user, const char *text);
    int (*cancelled)(void *user);
    void *user;
} reproduce_request;

typedef struct {
    int claims, broken; // and of these not holding
    int unexpected;     // whose outcome is not the known one (claims.h)
    char *table;        // of claims, and of what the recogniser reads; Markdown; calo_free
    char message[1000]; // of a failure
} reproduce_result;

extern const char REPRODUCE_RECOGNISER[]; // where the weights are in a checkout

// Row i of the systems, NULL behind the last.
const char *reproduce_name(int i);
calo_status reproduce(const char *name, const reproduce_request *request, reproduce_result *result);
