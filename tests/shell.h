// A program as a user types it into a shell, beside a tiny model in a fresh folder.
#pragma once
#include <stdbool.h>

// Names for C and, as $D and $M, for the shell.
extern char folder[512], model[512];

void shell_begin(void);
void shell_end(void);

typedef struct {
    int code; // 128 + signal if that ended it
    char *out, *err;
} result;

// Runs a shell command in which $C is calotype, $E the example.
result sh(const char *command);
void drop(result r);
// Checks its exit code and that it printed these texts; NULL is fine.
void expect(const char *command, int code, const char *out, const char *err);

// Runs one command, begun in the folder, and kills it (SIGKILL) after so long. false: it had ended with code
// 0 before.
bool killed_after(const char *command, unsigned microseconds);

// Of a file of the folder; mem_free.
char *contents(const char *name);
bool there(const char *name);
// Writes a small picture of that name into the folder, with a text.
void save_with_text(const char *name, const char *key, const char *text);
