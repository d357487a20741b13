#include "core/base/fs.h"
#include "core/base/json.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "core/files/safetensors.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

// A fresh folder for one test; Criterion runs each test in its own process.
static char dir[64];
static void enter(void) {
    strcpy(dir, "/tmp/calotype-test-XXXXXX");
    cr_assert(mkdtemp(dir));
}
static void leave(void) {
    char **names;
    size_t n;
    cr_assert_eq(fs_list(dir, &names, &n, NULL), OK);
    for (size_t i = 0; i < n; i++) {
        char *p = fs_join(dir, names[i]);
        if (remove(p)) cr_assert_fail("%s is left", p);
        mem_free(p);
    }
    fs_list_free(names, n);
    cr_assert_eq(rmdir(dir), 0);
}
static const char *in_dir(const char *name) {
    static char path[2][512];
    static int turn;
    turn ^= 1;
    snprintf(path[turn], sizeof path[turn], "%s/%s", dir, name);
    return path[turn];
}

TestSuite(files, .init = enter, .fini = leave);

static void expect(error *err, status code, const char *part) {
    cr_assert_eq(err->code, code, "code %d, expected %d: %s", err->code, code, err->text);
    cr_assert(strstr(err->text, part), "'%s' lacks '%s'", err->text, part);
}

// ---------------------------------------------------------------- fs

Test(files, paths) {
    const char *join[][3] = {{"a", "b", "a/b"},
                             {"a/", "b", "a/b"},
                             {"/", "b", "/b"},
                             {"", "b", "b"},
                             {"a", "/etc/passwd", "a/etc/passwd"}};
    for (size_t i = 0; i < sizeof join / sizeof *join; i++) {
        char *p = fs_join(join[i][0], join[i][1]);
        cr_assert_str_eq(p, join[i][2]);
        mem_free(p);
    }
    const char *split[][4] = {{"a/b.png", "a", "b.png", "png"},
                              {"x", ".", "x", ""},
                              {"/x", "/", "x", ""},
                              {"a//.b", "a", ".b", ""},
                              {"a.b/c", "a.b", "c", ""}};
    for (size_t i = 0; i < sizeof split / sizeof *split; i++) {
        char *p = fs_dirname(split[i][0]);
        cr_assert_str_eq(p, split[i][1]);
        mem_free(p);
        cr_assert_str_eq(fs_basename(split[i][0]), split[i][2]);
        cr_assert_str_eq(fs_extension(split[i][0]), split[i][3]);
    }
    const char *bad[] = {"", ".", "..", "a/b", "/", "../x"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) cr_assert_not(fs_is_plain_name(bad[i]));
    cr_assert(fs_is_plain_name("..."));
}

Test(files, read_file_has_a_limit) {
    error err = {0};
    char *data;
    size_t n;
    cr_assert_eq(fs_write_atomic(in_dir("f"), "hello", 5, false, &err), OK);
    cr_assert_eq(fs_read_file(in_dir("f"), 5, &data, &n, &err), OK);
    cr_assert_eq(n, 5);
    cr_assert_str_eq(data, "hello");
    mem_free(data);
    cr_assert_eq(fs_read_file(in_dir("f"), 4, &data, &n, &err), ERR_DATA);
    expect(&err, ERR_DATA, "limit of 4");
    cr_assert_eq(fs_read_file(in_dir("none"), 4, &data, &n, &err), ERR_NOINPUT);
    cr_assert_eq(fs_read_file(dir, 4, &data, &n, &err), ERR_NOINPUT);
}

Test(files, atomic_write_keeps_what_it_may_not_replace) {
    error err = {0};
    char *data;
    size_t n;
    cr_assert_eq(fs_write_atomic(in_dir("f"), "old", 3, false, &err), OK);
    cr_assert_eq(fs_write_atomic(in_dir("f"), "new", 3, false, &err), ERR_CANTCREAT);
    expect(&err, ERR_CANTCREAT, "exists already");

    // The name may be taken while we write.
    fs_writer *w = fs_writer_open(in_dir("g"), false, &err);
    cr_assert_eq(fs_writer_put(w, "late", 4, &err), OK);
    cr_assert_eq(fs_write_atomic(in_dir("g"), "first", 5, false, &err), OK);
    cr_assert_eq(fs_writer_commit(w, &err), ERR_CANTCREAT);
    cr_assert_eq(fs_read_file(in_dir("g"), 100, &data, &n, &err), OK);
    cr_assert_str_eq(data, "first");
    mem_free(data);

    cr_assert_eq(fs_write_atomic(in_dir("f"), "new", 3, true, &err), OK);
    cr_assert_eq(fs_read_file(in_dir("f"), 100, &data, &n, &err), OK);
    cr_assert_str_eq(data, "new");
    mem_free(data);
    cr_assert_eq(fs_write_atomic(dir, "x", 1, true, &err), ERR_CANTCREAT);
    cr_assert_eq(fs_write_atomic("/dev/null", "x", 1, true, &err), ERR_CANTCREAT);
    cr_assert_eq(fs_write_atomic(in_dir("no/such"), "x", 1, true, &err), ERR_CANTCREAT);
    cr_assert_eq(fs_write_atomic(in_dir(""), "x", 1, true, &err), ERR_CANTCREAT);
    struct stat s;
    cr_assert_eq(stat("/dev/null", &s), 0);
    cr_assert(S_ISCHR(s.st_mode));
}

Test(files, folders_are_listed_bytewise) {
    error err = {0};
    const char *names[] = {"b", "a", "B", "\xc3\xa9", "a.b"}, *sorted[] = {"B", "a", "a.b", "b", "\xc3\xa9"};
    for (int i = 0; i < 5; i++) cr_assert_eq(fs_write_atomic(in_dir(names[i]), "", 0, false, &err), OK);
    char **list;
    size_t n;
    cr_assert_eq(fs_list(dir, &list, &n, &err), OK);
    cr_assert_eq(n, 5);
    for (int i = 0; i < 5; i++) cr_assert_str_eq(list[i], sorted[i]);
    fs_list_free(list, n);
    cr_assert_eq(fs_mkdirs(in_dir("x/y/z"), &err), OK);
    cr_assert_eq(fs_mkdirs(in_dir("x/y/z"), &err), OK);
    cr_assert(fs_is_dir(in_dir("x/y/z")));
    cr_assert_eq(fs_mkdirs(in_dir("a/q"), &err), ERR_CANTCREAT);
    rmdir(in_dir("x/y/z"));
    rmdir(in_dir("x/y"));
}

// ---------------------------------------------------------------- json, log

Test(files, json_names_place_and_key) {
    error err = {0};
    cr_assert_null(js_parse("c.json", "{\n \"a\": }", 9, &err));
    expect(&err, ERR_DATA, "c.json:2:");
    cr_assert_null(js_parse("c.json", "{\"a\":1,\"a\":2}", 13, &err));
    expect(&err, ERR_DATA, "duplicate");
    char deep[200] = "{\"a\":";
    memset(deep + 5, '[', 100);
    cr_assert_null(js_parse("c.json", deep, 105, &err));
    expect(&err, ERR_DATA, "deeper");

    const char *text =
        "{\"i\": 5, \"x\": 0.5, \"s\": \"t\", \"b\": true, \"n\": null, \"l\": [1, 2], \"br\": \"[[[\"}";
    json_t *j = js_parse("c.json", text, strlen(text), &err);
    js_reader r = {j, "c.json", &err, OK};
    cr_assert_eq(js_int(&r, "i", 1, 0, 9), 5);
    cr_assert_eq(js_int(&r, "n", 7, 0, 9), 7);
    cr_assert_eq(js_int(&r, "absent", 8, 0, 9), 8);
    cr_assert_eq(js_real(&r, "x", 1, 0, 1), 0.5);
    cr_assert_eq(js_real(&r, "i", 1, 0, 9), 5);
    cr_assert_str_eq(js_string(&r, "s", "-"), "t");
    cr_assert(js_bool(&r, "b", false));
    int64_t l[2];
    cr_assert_eq(js_ints(&r, "l", l, 2, 0, 9), 2);
    cr_assert_eq(l[1], 2);
    cr_assert_eq(js_ints(&r, "i", l, 2, 0, 9), 1);
    cr_assert_eq(r.code, OK);
    cr_assert_eq(js_int(&r, "i", 1, 6, 9), 1);
    expect(&err, ERR_DATA, "c.json: 'i' is 5, outside 6 to 9");
    cr_assert_eq(js_int(&r, "s", 3, 6, 9), 3); // the first error stays
    expect(&err, ERR_DATA, "'i'");
    r.code = OK;
    js_string(&r, "l", "");
    expect(&err, ERR_DATA, "'l' is a list, expected a string");
    const char *const known[] = {"i", "x", "s", "b", "n", "l", NULL};
    r.code = OK;
    cr_assert_eq(js_only(&r, known), ERR_DATA);
    expect(&err, ERR_DATA, "unknown key 'br'");
    json_decref(j);
}

static void keep(void *user, log_level level, const char *text) { sprintf(user, "%d %s", level, text); }

Test(files, log_passes_its_level_and_no_control_characters) {
    char got[100] = "";
    log_sink sink = {keep, got, LOG_LEVEL_INFO};
    log_put(&sink, LOG_LEVEL_DEBUG, "x");
    cr_assert_str_empty(got);
    log_put(&sink, LOG_LEVEL_WARN, "tensor '%s'", "\033[2J");
    cr_assert_str_eq(got, "1 tensor '?[2J'");
    log_put(NULL, LOG_LEVEL_ERROR, "x");
}

// ---------------------------------------------------------------- safetensors

static status give(void *user, uint64_t offset, void *dst, size_t bytes, error *err) {
    (void)err;
    memcpy(dst, (const char *)user + offset, bytes);
    return OK;
}

Test(files, safetensors_round_trip) {
    error err = {0};
    float a[6] = {1, -2, 3, 4, 5, 6.5f};
    uint16_t h[40000];
    for (int i = 0; i < 40000; i++) h[i] = f32_to_bf16((float)(i % 256));
    safetensors_item items[] = {
        {"b", DT_BF16, 2, {200, 200}, NULL, give, h},
        {"a", DT_F32, 2, {2, 3}, a, NULL, NULL},
        {"none", DT_F32, 2, {0, 7}, a, NULL, NULL},
        {"scalar", DT_F32, 0, {0}, a + 5, NULL, NULL},
    };
    safetensors_pair meta[] = {{"k", "v"}, {"format", "pt"}};
    cr_assert_eq(safetensors_save(in_dir("m.safetensors"), items, 4, meta, 2, false, &err), OK, "%s",
                 err.text);
    safetensors *st = safetensors_open(in_dir("m.safetensors"), &err);
    cr_assert(st, "%s", err.text);
    cr_assert_eq(safetensors_count(st), 4);
    cr_assert_eq(safetensors_metadata_count(st), 2);
    cr_assert_str_eq(safetensors_metadata(st, "format"), "pt");
    cr_assert_null(safetensors_metadata(st, "nothing"));
    cr_assert_null(safetensors_find(st, "c"));
    cr_assert_eq(safetensors_find(st, "none")->count, 0);
    cr_assert_eq(safetensors_find(st, "scalar")->count, 1);
    const safetensors_tensor *t = safetensors_find(st, "b");
    cr_assert_eq(t->type, DT_BF16);
    float *f = mem_alloc(40000 * sizeof *f);
    cr_assert_eq(safetensors_read_f32(st, t, 0, 40000, f, &err), OK);
    for (int i = 0; i < 40000; i++) cr_assert_eq(f[i], (float)(i % 256));
    cr_assert_eq(safetensors_read_f32(st, t, 33333, 300, f, &err), OK); // rows of their own
    for (int i = 0; i < 300; i++) cr_assert_eq(f[i], (float)((33333 + i) % 256));
    cr_assert_eq(safetensors_read_f32(st, t, 39999, 2, f, &err), ERR_INTERNAL);
    cr_assert_eq(safetensors_read_f32(st, t, UINT64_MAX, 2, f, &err), ERR_INTERNAL);
    cr_assert_eq(safetensors_read(st, safetensors_find(st, "a"), 1, 2, f, &err), OK);
    cr_assert_eq(f[1], 3.f);

    // A file cut short under our hands is an error, not a SIGBUS.
    cr_assert_eq(truncate(in_dir("m.safetensors"), 1000), 0);
    cr_assert_eq(safetensors_read_f32(st, t, 0, 40000, f, &err), ERR_DATA);
    expect(&err, ERR_DATA, "tensor 'b'");
    mem_free(f);
    safetensors_close(st);
}
