#include "core/models/config.h"

#include <string.h>

void config_wrong(js_reader *r, const char *key, const char *what) {
    if (!r->code) r->code = fail(r->err, ERR_DATA, "%s: '%.100s' %s", r->where, key, what);
}

static bool among(const char *key, const char *const *list) {
    for (; *list; list++)
        if (!strcmp(*list, key)) return true;
    return false;
}

static const config_field *field_of(const config_field *f, const char *key) {
    while (f->key && strcmp(f->key, key)) f++;
    return f->key ? f : NULL;
}

// 1 and 1.0 are the same value.
static bool same_value(const json_t *v, const char *text) {
    json_t *want = json_loads(text, JSON_DECODE_ANY, NULL);
    bool same = json_is_number(want) && json_is_number(v) ? json_number_value(want) == json_number_value(v)
                                                          : want && json_equal(want, v);
    json_decref(want);
    return same;
}

static void check_fixed(js_reader *r, const config_field *f, const json_t *v) {
    if (!f->only || same_value(v, f->only) || r->code) return;
    char *have = json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT);
    r->code = fail(r->err, ERR_DATA, "%s: '%s' is %.100s, which is not supported (only %s)", r->where, f->key,
                   have ? have : "?", f->only);
    free(have);
}

status config_check(js_reader *r, const char *class_name, const char *const *read,
                    const char *const *nullable, const config_field *fixed) {
    const char *name = js_string(r, "_class_name", class_name), *key;
    if (class_name && strcmp(name, class_name))
        config_wrong(r, "_class_name", "names another class of network");
    json_t *v;
    json_object_foreach((json_t *)(uintptr_t)r->object, key, v) {
        const config_field *f = field_of(fixed, key);
        if (f)
            check_fixed(r, f, v);
        else if (!among(key, read) && key[0] != '_')
            config_wrong(r, key, "is not a field that is known here");
        else if (json_is_null(v) && key[0] != '_' && !among(key, nullable))
            config_wrong(r, key, "is null, which is not supported");
    }
    return r->code;
}

void config_ints(js_reader *r, const char *key, int n, int64_t *dst, int64_t otherwise, int64_t lo,
                 int64_t hi) {
    size_t have = js_ints(r, key, dst, (size_t)n, lo, hi);
    if (have > 1 && have != (size_t)n) config_wrong(r, key, "has another length than block_out_channels");
    if (have == 0 || r->code) dst[0] = otherwise;
    for (int i = 1; i < n && (have < 2 || r->code); i++) dst[i] = dst[0];
}

void config_bools(js_reader *r, const char *key, int n, bool *dst, bool otherwise) {
    const json_t *v = json_object_get(r->object, key);
    bool list = json_is_array(v);
    if (list && json_array_size(v) != (size_t)n)
        config_wrong(r, key, "has another length than block_out_channels");
    bool one = list ? otherwise : js_bool(r, key, otherwise);
    for (int i = 0; i < n; i++) {
        const json_t *e = list ? json_array_get(v, (size_t)i) : NULL;
        if (e && !json_is_boolean(e)) config_wrong(r, key, "is not a list of truth values");
        dst[i] = e ? json_is_true(e) : one;
    }
}

int64_t config_sample_size(js_reader *r, int64_t otherwise) {
    int64_t size[2];
    return js_ints(r, "sample_size", size, 2, 1, 1 << 16) ? size[0] : otherwise;
}

static int choice_of(js_reader *r, const char *key, const char *s, const char *const *names) {
    for (int i = 0; names[i]; i++)
        if (!strcmp(names[i], s)) return i;
    if (!r->code)
        r->code = fail(r->err, ERR_DATA, "%s: '%s' is '%.100s', which is not supported", r->where, key, s);
    return 0;
}

int config_choice(js_reader *r, const char *key, const char *const *names, int otherwise) {
    const char *s = js_string(r, key, NULL);
    return s ? choice_of(r, key, s, names) : otherwise;
}

int config_choices(js_reader *r, const char *key, const char *const *names, int *dst, int max) {
    const json_t *a = js_array(r, key, (size_t)max);
    int n = (int)json_array_size(a);
    if (a && !n) config_wrong(r, key, "is an empty list");
    for (int i = 0; i < n; i++) {
        const char *s = json_string_value(json_array_get(a, (size_t)i));
        if (!s) config_wrong(r, key, "is not a list of strings");
        dst[i] = s ? choice_of(r, key, s, names) : 0;
    }
    return n;
}
