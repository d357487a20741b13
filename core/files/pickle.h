// Python pickles, read as data: a pickle is a program for a stack machine that may name any function of any
// module and call it. Here nothing is ever called. A global must be in the caller's table, and the row says
// what a call of it leaves on the stack: a dictionary, a note of the call for the caller to read, or nothing
// of interest. Every other global, call, or state set on an object is an error that names it.
//
// Opcodes: those that Python's picklers write in protocols 2 to 5 for such data (Lib/pickletools.py describes
// each). All work and memory grow with the pickle's bytes, values that are named twice are shared, and
// nothing recurses.
#pragma once
#include "core/base/arena.h"
#include "core/base/status.h"

#include <stddef.h>
#include <stdint.h>

typedef enum {
    PICKLE_OTHER,      // None, a truth value, a real number, bytes, a set, what PICKLE_DROPPED left
    PICKLE_INT,        // of at most 64 bits
    PICKLE_TEXT,       // the bytes of a string, as the file has them
    PICKLE_TUPLE,      // items
    PICKLE_LIST,       // items
    PICKLE_DICT,       // items with keys
    PICKLE_GLOBAL,     // a row of the table
    PICKLE_CALL,       // of a row with PICKLE_NOTED, with its arguments
    PICKLE_PERSISTENT, // something outside the pickle: items[0] says what
} pickle_kind;

// What a call leaves.
typedef enum { PICKLE_REFUSED, PICKLE_NOTED, PICKLE_EMPTY_DICT, PICKLE_DROPPED } pickle_result;

typedef struct {
    const char *module, *name;
    pickle_result call;
    int id, detail; // the caller's
} pickle_global;

typedef struct pickle_value pickle_value;
typedef struct pickle_item pickle_item;

struct pickle_item {
    const pickle_value *key, *value; // key: of dictionaries
    pickle_item *next;
};

struct pickle_value {
    pickle_kind kind;
    const pickle_global *global; // GLOBAL, CALL
    union {
        int64_t integer;
        struct {
            const char *text; // inside the pickle, without a NUL
            size_t length;
        };
        struct {
            pickle_item *items, *last; // CALL: its arguments
            size_t count;
        };
    };
};

// `globals` ends with a row without a name. `name` begins the messages, which tell the byte of the pickle.
// The value lives in `mem` and points into `data`; lists and dictionaries may contain themselves. NULL on
// failure.
const pickle_value *pickle_read(const char *name, const void *data, size_t n, const pickle_global *globals,
                                arena *mem, error *err);
