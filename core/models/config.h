// What the configuration readers share. A config.json states what a network is; we refuse what we would not
// honour, by name, rather than draw something else than the model meant.
#pragma once
#include "core/base/json.h"

enum { CONFIG_BYTES = 1 << 20 }; // limit of a config.json file

// A field that has one supported value, as JSON text: "false", "0.0", "\"silu\"". NULL: any value.
typedef struct {
    const char *key, *only;
} config_field;

// Checks every key of the object: it is one of `read` (what the caller reads itself; NULL-terminated), or one
// of `fixed` (ended by a NULL key) with its one value, or a remark of the library that wrote the file
// ("_..."), else the error names it. A null that is not the field's only value is an error too, except for
// keys in `nullable`. _class_name must be `class_name` if both are given.
status config_check(js_reader *r, const char *class_name, const char *const *read,
                    const char *const *nullable, const config_field *fixed);

// Lists with one entry for each of n levels; a single value stands for all. Absent: `otherwise` for all.
void config_ints(js_reader *r, const char *key, int n, int64_t *dst, int64_t otherwise, int64_t lo,
                 int64_t hi);
void config_bools(js_reader *r, const char *key, int n, bool *dst, bool otherwise);
// sample_size: one number or a pair (height, width), of which the first one is taken.
int64_t config_sample_size(js_reader *r, int64_t otherwise);
// Index of the string in `names` (NULL-terminated); an unknown one is an error. Absent: `otherwise`.
int config_choice(js_reader *r, const char *key, const char *const *names, int otherwise);
// A list of such strings, at most `max`; the number of entries, 0 if absent.
int config_choices(js_reader *r, const char *key, const char *const *names, int *dst, int max);
// Sets the error "where: 'key' ...", unless one is set already.
void config_wrong(js_reader *r, const char *key, const char *what);
