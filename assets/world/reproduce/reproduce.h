// `calotype reproduce`: a paper's claims in miniature, from scratch. One system a file, one row in the table
// of reproduce.c.
#pragma once
#include "core/calotype.h"

typedef struct {
    const char *out;  // folder for models, table.md and strip.png; a run that was stopped goes on there
    const char *docs; // Markdown file to write the table into, its strip beside it; NULL: none
    int quick;        // minutes instead of an hour, and only the claims that show by then
    int threads;      // 0: one for each core
    uint64_t seed;
    void (*log)(void *user, const char *text);
    int (*cancelled)(void *user);
    void *user;
} reproduce_request;

typedef struct {
    int claims, broken; // measured, and of these not holding
    char *table;        // Markdown; calo_free
    char message[1000]; // of a failure
} reproduce_result;

// Row i of the systems, NULL behind the last.
const char *reproduce_name(int i);
calo_status reproduce(const char *name, const reproduce_request *request, reproduce_result *result);
