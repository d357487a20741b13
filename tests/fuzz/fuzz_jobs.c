// Fuzz target: files of jobs, from text to pictures with ids, seeds, names and expanded prompts. The first
// byte chooses the format: '0' JSON lines, '1' CSV, '2' prompts with flags.
#include "cli/job.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

// What is promised of a job that can be drawn.
static void check(const job *j) {
    if (j->code && !j->error) abort();
    if (j->code) return;
    if (!*j->id || !j->prompt || !*j->name || *j->name == '.' || strpbrk(j->name, "/\\\n\033")) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (!size) return 0;
    job_lines lines;
    job_list list = {0};
    job_rules rules = {.defaults = {drawing_defaults(), NULL}};
    char message[300] = "";
    rules.defaults.drawing.common.quiet = true;
    int code = jobs_parse((const char *)data + 1, size - 1, (jobs_format)(data[0] % 3), &JOB_LINE, &lines,
                          message, sizeof message);
    if (code && !*message) abort();
    for (size_t i = 0; i < lines.n && list.n < 300; i++) {
        json_t *count = json_object_get(lines.at[i].keys, "batch-count");
        if (json_integer_value(count) > 100)
            json_object_del(lines.at[i].keys, "batch-count"); // slow, not wrong
        if (job_list_add(&list, &lines.at[i], &rules)) abort();
    }
    for (size_t i = 0; i < list.n; i++) check(&list.at[i]);
    jobs_free(&lines);
    job_list_free(&list);
    return 0;
}
