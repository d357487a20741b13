// libFuzzer: what a batch finds in its folder as manifest.jsonl. A journal that opens goes on: a job that it
// is told of is done, whatever the lines before, also where the last one is torn, and so it is when the file
// is read again.
#include "cli/journal.h"
#include "tests/fuzz/fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char folder[64], inner[100], manifest[128];

void fuzz_start(void) {
    fuzz_folder(folder);
    snprintf(inner, sizeof inner, "%s/a/b", folder);
    snprintf(manifest, sizeof manifest, "%s/a/b/manifest.jsonl", folder);
}

// NULL only where something failed on request.
static journal *open_journal(void) {
    char message[300];
    journal *j;
    int code = journal_open(inner, &j, message, sizeof message);
    if (code ? j || !*message || !fuzz_failed() : !j) abort();
    return j;
}

static int put(journal *j, const char *status) {
    json_t *line = json_pack("{s:s, s:s}", "id", "1234", "status", status);
    if (!line) abort();
    int code = journal_put(j, line);
    json_decref(line);
    if (code && !fuzz_failed()) abort();
    return code;
}

static void expect(const journal *j, journal_state state) {
    if (journal_of(j, "1234") != state || !journal_line(j, "1234") != (state != JOURNAL_DONE)) abort();
}

static void go_on(journal *j) {
    journal *other = open_journal();
    bool claimed = journal_claim(j, "1234");
    if (other && claimed && journal_claim(other, "1234")) abort();
    if (!claimed && !fuzz_failed()) abort();
    if (!put(j, "failed")) expect(j, JOURNAL_FAILED);
    if (!put(j, "done")) expect(j, JOURNAL_DONE);
    bool done = journal_of(j, "1234") == JOURNAL_DONE;
    if (done && other && !journal_refresh(other)) expect(other, JOURNAL_DONE);
    journal_release(j, "1234");
    journal_close(other);
    other = open_journal();
    if (done && other) expect(other, JOURNAL_DONE);
    journal_close(other);
}

void fuzz_input(const uint8_t *data, size_t n) {
    journal *j = open_journal(); // makes the folders
    journal_close(j);
    fuzz_write(manifest, data, n);
    if ((j = open_journal())) go_on(j);
    journal_close(j);
    unlink(manifest);
}
