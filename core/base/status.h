// Status codes and the one way errors travel.
//
// Every function that can fail takes an `error *` last and returns a `status` (or NULL). The code says what a
// program should do, the text says what a person should do: it names the file, the tensor and the way out.
#pragma once
#include <stdbool.h>

// Values are the exit codes of the command line (BSD sysexits where one fits).
typedef enum {
    OK = 0,
    ERR_USAGE = 2,      // wrong call or flag
    ERR_DATA = 65,      // bad input or model file: permanent
    ERR_NOINPUT = 66,   // input missing or unreadable
    ERR_INTERNAL = 70,  // a bug in calotype
    ERR_CANTCREAT = 73, // output cannot be created
    ERR_IO = 74,        // reading or writing failed half way
    ERR_TEMP = 75,      // out of memory, disk full: may work later
    ERR_CANCELLED = 130 // stopped by the user
} status;

typedef struct {
    status code;
    char text[3000]; // UTF-8, no trailing newline
} error;

// Sets code and text and returns code. `err` may be NULL.
status fail(error *err, status code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
// Puts "fmt: " before the text of an error that is already set and returns its code.
status fail_in(error *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

// Hands a failure on to the caller.
#define TRY(x)                                                                                               \
    do {                                                                                                     \
        status try_ = (x);                                                                                   \
        if (try_) return try_;                                                                               \
    } while (0)
