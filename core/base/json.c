#include "core/base/json.h"
#include "core/base/fs.h"
#include "core/base/mem.h"

#include <string.h>

// Brackets outside strings. Run before the parser, whose recursion is on our stack.
static bool too_deep(const char *text, size_t n) {
    int depth = 0;
    bool quoted = false;
    for (size_t i = 0; i < n; i++) {
        char c = text[i];
        if (quoted && c == '\\')
            i++;
        else if (c == '"')
            quoted = !quoted;
        else if (!quoted && (c == '{' || c == '['))
            depth++;
        else if (!quoted && (c == '}' || c == ']'))
            depth--;
        if (depth > JS_MAX_DEPTH) return true;
    }
    return false;
}

json_t *js_parse(const char *name, const char *text, size_t n, error *err) {
    if (too_deep(text, n)) {
        fail(err, ERR_DATA, "%s: nested deeper than %d", name, JS_MAX_DEPTH);
        return NULL;
    }
    json_error_t e;
    json_t *j = json_loadb(text, n, JSON_REJECT_DUPLICATES, &e);
    if (!j) {
        status code = json_error_code(&e) == json_error_out_of_memory ? ERR_TEMP : ERR_DATA;
        fail(err, code, "%s:%d:%d: %s", name, e.line, e.column, e.text);
    } else if (!json_is_object(j)) {
        fail(err, ERR_DATA, "%s: not a JSON object", name);
        json_decref(j);
        j = NULL;
    }
    return j;
}

// Python writes a real number without end as Infinity, which JSON does not have: each becomes "null".
static void drop_infinities(char *text, size_t n) {
    static const char INFINITE[] = "Infinity";
    const size_t length = sizeof INFINITE - 1;
    bool quoted = false;
    for (size_t i = 0; i < n; i++) {
        if (quoted && text[i] == '\\')
            i++;
        else if (text[i] == '"')
            quoted = !quoted;
        else if (!quoted && n - i >= length && !memcmp(text + i, INFINITE, length)) {
            memcpy(text + i, "null    ", length);
            if (i && text[i - 1] == '-') text[i - 1] = ' ';
        }
    }
}

json_t *js_load(const char *path, size_t limit, error *err) {
    char *text;
    size_t n;
    if (fs_read_file(path, limit, &text, &n, err)) return NULL;
    drop_infinities(text, n);
    json_t *j = js_parse(path, text, n, err);
    mem_free(text);
    return j;
}

static const char *type_name(const json_t *v) {
    switch (json_typeof(v)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "a list";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
        return "an integer";
    case JSON_REAL:
        return "a number";
    case JSON_TRUE:
    case JSON_FALSE:
        return "a truth value";
    default:
        return "null";
    }
}

// The value, or NULL where the default is to be used.
static const json_t *get(js_reader *r, const char *key) {
    if (r->code) return NULL;
    const json_t *v = json_object_get(r->object, key);
    return v && !json_is_null(v) ? v : NULL;
}

static void wrong_type(js_reader *r, const char *key, const json_t *v, const char *want) {
    r->code = fail(r->err, ERR_DATA, "%s: '%s' is %s, expected %s", r->where, key, type_name(v), want);
}

static int64_t int_value(js_reader *r, const char *key, const json_t *v, int64_t otherwise, int64_t min,
                         int64_t max) {
    if (!json_is_integer(v)) {
        wrong_type(r, key, v, "an integer");
        return otherwise;
    }
    int64_t i = json_integer_value(v);
    if (i >= min && i <= max) return i;
    r->code = fail(r->err, ERR_DATA, "%s: '%s' is %lld, outside %lld to %lld", r->where, key, (long long)i,
                   (long long)min, (long long)max);
    return otherwise;
}

int64_t js_int(js_reader *r, const char *key, int64_t otherwise, int64_t min, int64_t max) {
    const json_t *v = get(r, key);
    return v ? int_value(r, key, v, otherwise, min, max) : otherwise;
}

double js_real(js_reader *r, const char *key, double otherwise, double min, double max) {
    const json_t *v = get(r, key);
    if (!v) return otherwise;
    if (!json_is_number(v)) {
        wrong_type(r, key, v, "a number");
        return otherwise;
    }
    double d = json_number_value(v);
    if (d >= min && d <= max) return d;
    r->code = fail(r->err, ERR_DATA, "%s: '%s' is %g, outside %g to %g", r->where, key, d, min, max);
    return otherwise;
}

bool js_bool(js_reader *r, const char *key, bool otherwise) {
    const json_t *v = get(r, key);
    if (!v) return otherwise;
    if (!json_is_boolean(v)) wrong_type(r, key, v, "true or false");
    return json_is_true(v);
}

const char *js_string(js_reader *r, const char *key, const char *otherwise) {
    const json_t *v = get(r, key);
    if (!v) return otherwise;
    if (json_is_string(v)) return json_string_value(v);
    wrong_type(r, key, v, "a string");
    return otherwise;
}

const json_t *js_array(js_reader *r, const char *key, size_t max) {
    const json_t *v = get(r, key);
    if (!v) return NULL;
    if (!json_is_array(v))
        wrong_type(r, key, v, "a list");
    else if (json_array_size(v) > max)
        r->code = fail(r->err, ERR_DATA, "%s: '%s' has %zu elements, more than %zu", r->where, key,
                       json_array_size(v), max);
    return r->code ? NULL : v;
}

const json_t *js_object(js_reader *r, const char *key) {
    const json_t *v = get(r, key);
    if (!v) return NULL;
    if (!json_is_object(v)) wrong_type(r, key, v, "an object");
    return r->code ? NULL : v;
}

size_t js_ints(js_reader *r, const char *key, int64_t *dst, size_t max, int64_t lo, int64_t hi) {
    const json_t *v = get(r, key);
    if (!v) return 0;
    if (json_is_integer(v)) {
        dst[0] = int_value(r, key, v, lo, lo, hi);
        return 1;
    }
    if (!js_array(r, key, max)) return 0;
    size_t n = json_array_size(v);
    if (!n) r->code = fail(r->err, ERR_DATA, "%s: '%s' is an empty list", r->where, key);
    for (size_t i = 0; i < n; i++) dst[i] = int_value(r, key, json_array_get(v, i), lo, lo, hi);
    return n;
}

status js_only(js_reader *r, const char *const *known) {
    const char *key;
    json_t *value;
    if (r->code) return r->code;
    json_object_foreach((json_t *)r->object, key, value) {
        size_t i = 0;
        while (known[i] && strcmp(known[i], key)) i++;
        if (!known[i]) return r->code = fail(r->err, ERR_DATA, "%s: unknown key '%.100s'", r->where, key);
    }
    return OK;
}
