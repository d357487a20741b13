// JSON files of others: configurations, indices, jobs. Parsing is jansson's; these helpers add limits and
// errors that name the file and the key.
#pragma once
#include "core/base/status.h"

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

enum { JS_MAX_DEPTH = 64 };

// The text must be one object without duplicate keys, nested at most JS_MAX_DEPTH deep. Errors read
// "name:line:column: ...". NULL on failure; release with json_decref.
json_t *js_parse(const char *name, const char *text, size_t n, error *err);
// Of a file, at most `limit` bytes. Infinity and -Infinity, as diffusers says lambda_min_clipped, are null.
json_t *js_load(const char *path, size_t limit, error *err);

// Reads the keys of one object. The first error stays in `err` and `code`, later reads give their default, so
// that a list of reads needs one check at its end.
typedef struct {
    const json_t *object;
    const char *where; // file, and path of the object inside it
    error *err;
    status code;
} js_reader;

// An absent key gives `otherwise`; so does a null, as configurations write "not set". A number outside
// [min, max] or a wrong type is ERR_DATA.
int64_t js_int(js_reader *r, const char *key, int64_t otherwise, int64_t min, int64_t max);
double js_real(js_reader *r, const char *key, double otherwise, double min, double max);
bool js_bool(js_reader *r, const char *key, bool otherwise);
const char *js_string(js_reader *r, const char *key, const char *otherwise); // belongs to the object
const json_t *js_array(js_reader *r, const char *key, size_t max);           // NULL if absent
const json_t *js_object(js_reader *r, const char *key);                      // NULL if absent
// A list of 1 to `max` integers, or one integer that stands for a list of one; 0 if absent.
size_t js_ints(js_reader *r, const char *key, int64_t *dst, size_t max, int64_t lo, int64_t hi);
// Any key that is not in the NULL-terminated list is an error.
status js_only(js_reader *r, const char *const *known);
