// The journal of a batch: manifest.jsonl in the folder of the pictures, one JSON object for each job that is
// done or has failed, appended and synced. The last line of a job counts; a torn line does not.
//
// A job is claimed by a lock on one byte of that file, whose place is a hash of the job's id. The system
// drops the locks of a process that ends, however it ends, so a claim is never stale. Locks are of open files
// (F_OFD_SETLK): they work between processes of one machine, and over NFS 4 between machines.
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct journal journal;

typedef enum {
    JOURNAL_OPEN,   // nothing is known, or it failed before this journal was opened
    JOURNAL_DONE,   // a picture is there
    JOURNAL_FAILED, // failed since, here or in another process
} journal_state;

// Makes the folder and the file where missing. Returns an exit code and what is wrong; with 0, `message` is
// empty, or tells of lines that count for nothing.
int journal_open(const char *dir, journal **j, char *message, size_t size);
void journal_close(journal *j); // NULL is fine
// Reads what other processes have added.
int journal_refresh(journal *j);
journal_state journal_of(const journal *j, const char *id);
const json_t *journal_line(const journal *j, const char *id); // of a job that is done; NULL if none
// false: another process works on it. After a claim, refresh and ask again: it may have just finished.
bool journal_claim(journal *j, const char *id);
void journal_release(journal *j, const char *id);
// The place of that byte: a number that belongs to the job.
uint64_t journal_number(const char *id);
// Appends a line with keys "id" and "status". Returns an exit code.
int journal_put(journal *j, json_t *line);
