#include "core/base/fs.h"
#include "core/base/json.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "core/files/image.h"
#include "core/files/model_dir.h"
#include "core/files/safetensors.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifdef __has_feature // clang
#define SANITIZED                                                                                            \
    (__has_feature(address_sanitizer) || __has_feature(memory_sanitizer) || __has_feature(thread_sanitizer))
#elif defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__ // gcc
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

// A fresh folder for one test; Criterion runs each test in its own process.
static char dir[64];
static void enter(void) {
    strcpy(dir, P_tmpdir "/calotype-test-XXXXXX");
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

// The system calls that fs.c makes come here first (the library is linked statically). An armed fault hits
// the next call of its kind once, or halves what each of them moves.
static struct {
    long call; // SYS_..., 0: none
    int code;  // errno; 0: a short count
} fault;

static bool hit(long call) {
    if (fault.call != call || !fault.code) return false;
    errno = fault.code;
    fault.call = 0;
    return true;
}
static size_t part(long call, size_t n) { return fault.call == call && n > 1 ? n / 2 : n; }

ssize_t write(int fd, const void *p, size_t n) {
    return hit(SYS_write) ? -1 : syscall(SYS_write, fd, p, part(SYS_write, n));
}
ssize_t pread(int fd, void *p, size_t n, off_t at) {
    return hit(SYS_pread64) ? -1 : syscall(SYS_pread64, fd, p, part(SYS_pread64, n), at);
}
int fsync(int fd) { return hit(SYS_fsync) ? -1 : (int)syscall(SYS_fsync, fd); }
int rename(const char *a, const char *b) {
    return hit(SYS_renameat2) ? -1 : (int)syscall(SYS_renameat2, AT_FDCWD, a, AT_FDCWD, b, 0);
}

Test(files, faults_while_writing_leave_the_old_file) {
    const struct {
        long call;
        int code;
        status expected;
    } faults[] = {
        {SYS_write, EIO, ERR_IO},
        {SYS_write, ENOSPC, ERR_TEMP},
        {SYS_write, EDQUOT, ERR_TEMP},
        {SYS_write, EINTR, OK},
        {SYS_write, 0, OK},
        {SYS_fsync, EIO, ERR_IO},
        {SYS_fsync, ENOSPC, ERR_TEMP},
        {SYS_fsync, EINTR, OK},
        {SYS_renameat2, EACCES, ERR_CANTCREAT},
        {SYS_renameat2, EIO, ERR_IO},
        {SYS_renameat2, EROFS, ERR_CANTCREAT},
    };
    error err = {0};
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        char *data;
        size_t n;
        cr_assert_eq(fs_write_atomic(in_dir("f"), "old", 3, true, &err), OK);
        fault.call = faults[i].call;
        fault.code = faults[i].code;
        status s = fs_write_atomic(in_dir("f"), "new text", 8, true, &err);
        fault.call = 0;
        cr_assert_eq(s, faults[i].expected, "case %zu: %d %s", i, s, err.text);
        cr_assert_eq(fs_read_file(in_dir("f"), 100, &data, &n, &err), OK);
        cr_assert_str_eq(data, s ? "old" : "new text", "case %zu", i);
        mem_free(data);
        char **names;
        cr_assert_eq(fs_list(dir, &names, &n, &err), OK);
        cr_assert_eq(n, 1, "case %zu leaves %s", i, names[0]);
        fs_list_free(names, n);
    }
}

Test(files, faults_while_reading) {
    error err = {0};
    char got[9] = "";
    uint64_t size;
    cr_assert_eq(fs_write_atomic(in_dir("f"), "new text", 8, true, &err), OK);
    int fd = fs_open_read(in_dir("f"), &size, &err);
    cr_assert_eq(size, 8);
    fault.call = SYS_pread64, fault.code = EIO;
    cr_assert_eq(fs_read_at(fd, "f", 0, got, 8, &err), ERR_IO);
    for (int k = 0; k < 2; k++) {
        memset(got, 0, 8);
        fault.call = SYS_pread64, fault.code = k ? EINTR : 0;
        cr_assert_eq(fs_read_at(fd, "f", 0, got, 8, &err), OK);
        cr_assert_str_eq(got, "new text");
    }
    fault.call = 0;
    cr_assert_eq(fs_read_at(fd, "f", 4, got, 8, &err), ERR_DATA);
    close(fd);
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

Test(files, json_of_python_may_be_infinite) {
    error err = {0};
    const char text[] =
        "{\"low\": -Infinity, \"high\":Infinity, \"s\": \"-Infinity \\\"Infinity\", \"l\": [1, -Infinity]}";
    const char *path = in_dir("scheduler_config.json");
    cr_assert_eq(fs_write_atomic(path, text, strlen(text), false, &err), OK);
    json_t *j = js_load(path, 1000, &err);
    cr_assert(j, "%s", err.text);
    cr_assert(json_is_null(json_object_get(j, "low")) && json_is_null(json_object_get(j, "high")));
    cr_assert_str_eq(json_string_value(json_object_get(j, "s")), "-Infinity \"Infinity");
    cr_assert(json_is_null(json_array_get(json_object_get(j, "l"), 1)));
    json_decref(j);
    cr_assert_eq(fs_write_atomic(path, "{\"a\": 1Infinity}", 16, true, &err), OK);
    cr_assert_null(js_load(path, 1000, &err));
    expect(&err, ERR_DATA, "scheduler_config.json:1:");
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
    metadata_pair meta[] = {{"k", "v"}, {"format", "pt"}};
    cr_assert_eq(safetensors_save(in_dir("m.safetensors"), items, 4, meta, 2, false, &err), OK, "%s",
                 err.text);
    tensor_file *st = tensor_file_open(in_dir("m.safetensors"), &err);
    cr_assert(st, "%s", err.text);
    cr_assert_eq(tensor_file_count(st), 4);
    cr_assert_eq(tensor_file_metadata_count(st), 2);
    cr_assert_str_eq(tensor_file_metadata(st, "format"), "pt");
    cr_assert_null(tensor_file_metadata(st, "nothing"));
    cr_assert_null(tensor_file_find(st, "c"));
    cr_assert_eq(tensor_file_find(st, "none")->count, 0);
    cr_assert_eq(tensor_file_find(st, "scalar")->count, 1);
    const tensor_entry *t = tensor_file_find(st, "b");
    cr_assert_eq(t->type, DT_BF16);
    float *f = mem_alloc(40000 * sizeof *f);
    cr_assert_eq(tensor_file_read_f32(st, t, 0, 40000, f, &err), OK);
    for (int i = 0; i < 40000; i++) cr_assert_eq(f[i], (float)(i % 256));
    cr_assert_eq(tensor_file_read_f32(st, t, 33333, 300, f, &err), OK); // rows of their own
    for (int i = 0; i < 300; i++) cr_assert_eq(f[i], (float)((33333 + i) % 256));
    cr_assert_eq(tensor_file_read_f32(st, t, 39999, 2, f, &err), ERR_INTERNAL);
    cr_assert_eq(tensor_file_read_f32(st, t, UINT64_MAX, 2, f, &err), ERR_INTERNAL);
    cr_assert_eq(tensor_file_read(st, tensor_file_find(st, "a"), 1, 2, f, &err), OK);
    cr_assert_eq(f[1], 3.f);

    // A file cut short under our hands is an error, not a SIGBUS.
    cr_assert_eq(truncate(in_dir("m.safetensors"), 1000), 0);
    cr_assert_eq(tensor_file_read_f32(st, t, 0, 40000, f, &err), ERR_DATA);
    expect(&err, ERR_DATA, "tensor 'b'");
    mem_free(f);
    tensor_file_close(st);
}

// ---------------------------------------------------------------- against the reference libraries

#define GOLDEN "tests/golden/files/"

static tensor_file *open_golden(const char *path) {
    error err = {0};
    tensor_file *st = tensor_file_open(path, &err);
    cr_assert(st, "%s (run from the repository's root)", err.text);
    return st;
}

static void assert_same_file(const char *a, const char *b) {
    char *x, *y;
    size_t n, m;
    error err = {0};
    cr_assert_eq(fs_read_file(a, 1 << 20, &x, &n, &err), OK, "%s", err.text);
    cr_assert_eq(fs_read_file(b, 1 << 20, &y, &m, &err), OK, "%s", err.text);
    cr_assert_eq(n, m, "%s and %s differ in length: %zu, %zu", a, b, n, m);
    cr_assert_arr_eq(x, y, n, "%s and %s differ", a, b);
    mem_free(x);
    mem_free(y);
}

Test(files, safetensors_reads_every_type_of_the_reference) {
    error err = {0};
    tensor_file *st = open_golden(GOLDEN "python.safetensors"),
                *f32 = open_golden(GOLDEN "python_f32.safetensors");
    cr_assert_eq(tensor_file_count(st), 18);
    for (size_t i = 0; i < tensor_file_count(f32); i++) {
        const tensor_entry *want = tensor_file_at(f32, i), *t = tensor_file_find(st, want->name);
        float a[6], b[6];
        cr_assert(t, "%s", want->name);
        cr_assert_leq(t->count, 6);
        cr_assert_eq(tensor_file_read_f32(f32, want, 0, want->count, a, &err), OK, "%s", err.text);
        cr_assert_eq(tensor_file_read_f32(st, t, 0, t->count, b, &err), OK, "%s", err.text);
        cr_assert_arr_eq(a, b, t->count * sizeof *a, "%s", t->name);
    }
    tensor_file_close(st);
    tensor_file_close(f32);
}

// Byte for byte the reference's file, which is the strongest way to say that the reference reads ours.
Test(files, safetensors_writes_what_the_reference_writes) {
    error err = {0};
    tensor_file *st = open_golden(GOLDEN "python.safetensors");
    size_t n = tensor_file_count(st);
    safetensors_item items[32];
    char values[32][64];
    for (size_t i = 0; i < n; i++) {
        const tensor_entry *t = tensor_file_at(st, n - 1 - i);
        items[i] =
            (safetensors_item){.name = t->name, .type = (dtype)t->type, .ndim = t->ndim, .data = values[i]};
        memcpy(items[i].shape, t->shape, sizeof t->shape);
        cr_assert_leq(t->bytes, sizeof values[i]);
        cr_assert_eq(tensor_file_read(st, t, 0, t->count, values[i], &err), OK, "%s", err.text);
    }
    metadata_pair meta = tensor_file_metadata_at(st, 0);
    cr_assert_eq(safetensors_save(in_dir("c.safetensors"), items, n, &meta, 1, false, &err), OK, "%s",
                 err.text);
    assert_same_file(in_dir("c.safetensors"), GOLDEN "python.safetensors");
    items[0].name = items[1].name;
    cr_assert_eq(safetensors_save(in_dir("d.safetensors"), items, n, NULL, 0, false, &err), ERR_INTERNAL);
    expect(&err, ERR_INTERNAL, "twice");
    tensor_file_close(st);
}

// The picture that a golden file keeps as a tensor [h, w, c] of bytes.
static image golden_image(const tensor_file *st, const char *name) {
    error err = {0};
    image im;
    const tensor_entry *t = tensor_file_find(st, name);
    cr_assert(t && t->type == DT_U8 && t->ndim == 3, "%s", name);
    cr_assert_eq(image_alloc(&im, (int)t->shape[1], (int)t->shape[0], (int)t->shape[2], &err), OK);
    cr_assert_eq(tensor_file_read(st, t, 0, t->count, im.px, &err), OK);
    return im;
}

static void assert_same_image(const image *a, const image *b, const char *what) {
    cr_assert(a->w == b->w && a->h == b->h && a->c == b->c, "%s: %dx%dx%d, expected %dx%dx%d", what, a->w,
              a->h, a->c, b->w, b->h, b->c);
    for (int i = 0; i < a->w * a->h * a->c; i++)
        cr_assert_eq(a->px[i], b->px[i], "%s: byte %d is %d, expected %d", what, i, a->px[i], b->px[i]);
}

Test(files, resize_is_pillows) {
    tensor_file *st = open_golden(GOLDEN "resize.safetensors");
    const char *const filters[] = {"box", "bilinear", "bicubic", "lanczos"};
    int checked = 0;
    for (size_t i = 0; i < tensor_file_count(st); i++) {
        const char *name = tensor_file_at(st, i)->name;
        char mode[8], filter[16];
        int w, h, f = 0;
        if (sscanf(name, "%7s %15s %d %d", mode, filter, &w, &h) != 4) continue;
        while (strcmp(filters[f], filter)) f++;
        image src = golden_image(st, mode), want = golden_image(st, name), got;
        cr_assert_eq(image_resize(&src, w, h, (resize_filter)f, &got, NULL), OK);
        assert_same_image(&got, &want, name);
        image_free(&src);
        image_free(&want);
        image_free(&got);
        checked++;
    }
    cr_assert_eq(checked, 60);
    tensor_file_close(st);
}

// JPEG's and WebP's decoders are the same integer arithmetic in every build of their libraries.
Test(files, images_read_as_pillow_reads_them) {
    error err = {0};
    tensor_file *st = open_golden(GOLDEN "images.safetensors");
    for (size_t i = 0; i < tensor_file_count(st); i++) {
        const char *name = tensor_file_at(st, i)->name;
        if (!strcmp(name, "luma")) continue;
        char path[100];
        snprintf(path, sizeof path, GOLDEN "%s", name);
        image want = golden_image(st, name), got;
        cr_assert_eq(image_load(path, &got, &err), OK, "%s", err.text);
        assert_same_image(&got, &want, name);
        image_free(&want);
        image_free(&got);
    }
    image rgb = golden_image(st, "rgb.png"), want = golden_image(st, "luma"), got;
    cr_assert_eq(image_channels(&rgb, 1, &got, &err), OK);
    assert_same_image(&got, &want, "luma");
    image_free(&rgb);
    image_free(&want);
    image_free(&got);
    tensor_file_close(st);
}

#define TEXT                                                                                                 \
    "a cat, Gr\xc3\xb6\xc3\x9f"                                                                              \
    "e 7\nNegative prompt: dog\nSteps: 20"
#define WIDE TEXT " \xe7\x8c\xab \xf0\x9f\x90\x88"

static image_texts texts_of(const char *path) {
    error err = {0};
    char *file;
    size_t n;
    image_texts t;
    cr_assert_eq(fs_read_file(path, 1 << 20, &file, &n, &err), OK, "%s", err.text);
    cr_assert_eq(image_read_texts(file, n, path, &t, &err), OK, "%s", err.text);
    mem_free(file);
    return t;
}

Test(files, texts_written_by_pillow_are_read) {
    const char *const png[][2] = {{"parameters", TEXT}, {"wide", WIDE}, {"zipped", NULL}, {"izip", WIDE}};
    image_texts t = texts_of(GOLDEN "texts.png");
    cr_assert_eq(t.n, 4);
    for (size_t i = 0; i < 4; i++) {
        cr_assert_str_eq(t.at[i].key, png[i][0]);
        if (png[i][1]) cr_assert_str_eq(t.at[i].text, png[i][1]);
    }
    cr_assert_eq(strspn(t.at[2].text, "z"), 3000);
    image_texts_free(&t);
    const char *const exif[][2] = {
        {"texts_be.jpg", WIDE}, {"texts_le.webp", WIDE}, {"texts_ascii.jpg", "plain"}};
    for (size_t i = 0; i < 3; i++) {
        char path[100];
        snprintf(path, sizeof path, GOLDEN "%s", exif[i][0]);
        t = texts_of(path);
        cr_assert_eq(t.n, 1, "%s", path);
        cr_assert_str_eq(t.at[0].text, exif[i][1]);
        image_texts_free(&t);
    }
    t = texts_of(GOLDEN "rgb.bmp");
    cr_assert_eq(t.n, 0);
}

Test(files, images_and_texts_come_back) {
    error err = {0};
    tensor_file *st = open_golden(GOLDEN "images.safetensors");
    const image_text texts[] = {{"parameters", WIDE}, {"plain", TEXT}};
    const char *const names[] = {"rgb.png", "rgba.png", "grey.png"};
    for (int i = 0; i < 3; i++) {
        image im = golden_image(st, names[i]), got;
        const image_options o = {.texts = texts, .n_texts = 2};
        cr_assert_eq(image_save(in_dir("o.png"), &im, &o, true, &err), OK, "%s", err.text);
        cr_assert_eq(image_load(in_dir("o.png"), &got, &err), OK, "%s", err.text);
        assert_same_image(&got, &im, names[i]);
        image_free(&got);
        cr_assert_eq(image_save(in_dir("p.PNG"), &im, &o, true, &err), OK);
        assert_same_file(in_dir("o.png"), in_dir("p.PNG"));
        image_texts t = texts_of(in_dir("o.png"));
        cr_assert_eq(t.n, 2);
        for (size_t k = 0; k < 2; k++) {
            cr_assert_str_eq(t.at[k].key, texts[k].key);
            cr_assert_str_eq(t.at[k].text, texts[k].text);
        }
        image_texts_free(&t);

        cr_assert_eq(image_save(in_dir("o.webp"), &im, &o, true, &err), OK, "%s", err.text);
        cr_assert_eq(image_load(in_dir("o.webp"), &got, &err), OK, "%s", err.text);
        for (int k = 0; k < im.w * im.h; k++)
            for (int c = 0; c < got.c; c++)
                cr_assert_eq(got.px[k * got.c + c], im.px[k * im.c + (im.c == 1 ? 0 : c)], "%s as WebP",
                             names[i]);
        image_free(&got);

        // Quality 95 with full colour: the quantiser's steps are at most 10 (luma) and 12 (chroma), so that
        // the mean error stays well under half the largest step.
        cr_assert_eq(image_save(in_dir("o.jpg"), &im, &o, true, &err), OK, "%s", err.text);
        cr_assert_eq(image_load(in_dir("o.jpg"), &got, &err), OK, "%s", err.text);
        cr_assert_eq(got.c, im.c == 1 ? 1 : 3);
        double sum = 0;
        for (int k = 0; k < im.w * im.h; k++)
            for (int c = 0; c < got.c; c++) sum += abs(got.px[k * got.c + c] - im.px[k * im.c + c]);
        cr_assert_lt(sum / (im.w * im.h * got.c), 6., "%s", names[i]);
        image_free(&got);
        for (int k = 0; k < 2; k++) {
            t = texts_of(in_dir(k ? "o.jpg" : "o.webp"));
            cr_assert_eq(t.n, 1);
            cr_assert_str_eq(t.at[0].text, WIDE);
            image_texts_free(&t);
        }
        image_free(&im);
    }
    tensor_file_close(st);
}

Test(files, images_refuse_what_they_cannot_store) {
    error err = {0};
    image im;
    cr_assert_eq(image_alloc(&im, 16385, 1, 3, &err), ERR_DATA);
    cr_assert_eq(image_alloc(&im, 16384, 16385, 3, &err), ERR_DATA);
    cr_assert_eq(image_alloc(&im, 0, 1, 3, &err), ERR_DATA);
    cr_assert_eq(image_alloc(&im, 2, 2, 3, &err), OK);
    memset(im.px, 7, 12);
    image_options o = {.texts = &(image_text){"parameters", "\xff"}, .n_texts = 1};
    cr_assert_eq(image_save(in_dir("a.png"), &im, &o, false, &err), ERR_DATA);
    expect(&err, ERR_DATA, "UTF-8");
    o.texts = &(image_text){" two  spaces", "x"};
    cr_assert_eq(image_save(in_dir("a.png"), &im, &o, false, &err), ERR_USAGE);
    cr_assert_eq(image_save(in_dir("a.gif"), &im, &o, false, &err), ERR_USAGE);
    char *much = mem_alloc(40001);
    memset(much, 'x', 40000);
    much[40000] = 0;
    o.texts = &(image_text){"parameters", much};
    cr_assert_eq(image_save(in_dir("a.jpg"), &im, &o, false, &err), ERR_DATA);
    expect(&err, ERR_DATA, "65533");
    o.n_texts = 0;
    cr_assert_eq(image_save(in_dir("a.png"), &im, &o, false, &err), OK);
    cr_assert_eq(image_save(in_dir("a.png"), &im, &o, false, &err), ERR_CANTCREAT);
    mem_free(much);
    image_free(&im);
}

// ---------------------------------------------------------------- malformed files
// (tests/tools/make_malformed.py; test_malformed.c sends all of them through the command line)

#define MALFORMED "tests/golden/malformed/"

static status open_safetensors(const char *path, error *err) {
    tensor_file *st = tensor_file_open(path, err);
    tensor_file_close(st);
    return st ? OK : err->code;
}

static status use_tensor(const char *path, error *err) {
    char value[4];
    tensor_file *st = tensor_file_open(path, err);
    cr_assert(st, "%s", err->text);
    status s = tensor_file_read(st, tensor_file_find(st, "a"), 0, 1, value, err);
    tensor_file_close(st);
    return s;
}

static status open_index(const char *path, error *err) {
    if (!strcmp(fs_extension(path), "safetensors")) return ERR_DATA; // the good shard beside them
    model_files *m = model_files_open(path, NULL, err);
    model_files_close(m);
    return m ? OK : err->code;
}

static status open_pipeline(const char *path, error *err) {
    model_index *x = model_index_open(path, err);
    model_index_close(x);
    return x ? OK : err->code;
}

static status open_image(const char *path, error *err) {
    image im;
    status s = image_load(path, &im, err);
    cr_assert(s ? !im.px : im.px != NULL);
    image_free(&im);
    return s;
}

// Every file of a folder is refused with a text and the code that its name promises. All failures are listed.
static int refuse_all(const char *folder, status (*open)(const char *path, error *err)) {
    char **names, wrong[4000] = "";
    size_t n;
    error err = {0};
    cr_assert_eq(fs_list(folder, &names, &n, &err), OK, "%s", err.text);
    for (size_t i = 0; i < n; i++) {
        char *path = fs_join(folder, names[i]);
        status want = strncmp(names[i], "noinput-", 8) ? ERR_DATA : ERR_NOINPUT, got;
        err = (error){.text = "-"};
        got = open(path, &err);
        if (got != want || !*err.text) {
            size_t at = strlen(wrong);
            snprintf(wrong + at, sizeof wrong - at, "\n%s: %d (%s)", names[i], got, err.text);
        }
        mem_free(path);
    }
    fs_list_free(names, n);
    cr_assert_str_empty(wrong, "%s", wrong);
    return (int)n;
}

Test(files, malformed_safetensors) {
    cr_assert_geq(refuse_all(MALFORMED "safetensors", open_safetensors), 90);
}
Test(files, malformed_use) { cr_assert_geq(refuse_all(MALFORMED "used", use_tensor), 4); }
Test(files, malformed_index) { cr_assert_geq(refuse_all(MALFORMED "index", open_index), 20); }
Test(files, malformed_pipeline) { cr_assert_geq(refuse_all(MALFORMED "pipeline", open_pipeline), 10); }
Test(files, malformed_images) {
    cr_assert_geq(refuse_all(MALFORMED "image", open_image), 90);
#if !SANITIZED
    struct rusage used; // a header of a few bytes does not make us use its gigabytes
    cr_assert_eq(getrusage(RUSAGE_SELF, &used), 0);
    cr_assert_lt(used.ru_maxrss, 64 << 10, "%ld KB", used.ru_maxrss);
#endif
}

// Cut at every byte, a file is never taken for whole: a safetensors file by its length, a picture once its
// header promises more. What may be missing without harm is an end mark.
static void refuse_cuts(const char *path, status (*open)(const char *path, error *err), size_t spare) {
    char *data;
    size_t n;
    error err = {0};
    cr_assert_eq(fs_read_file(path, 1 << 20, &data, &n, &err), OK, "%s", err.text);
    for (size_t i = 0; i + spare < n; i++) {
        cr_assert_eq(fs_write_atomic(in_dir("cut"), data, i, true, &err), OK);
        cr_assert_eq(open(in_dir("cut"), &err), ERR_DATA, "%s cut at byte %zu of %zu", path, i, n);
    }
    mem_free(data);
}

Test(files, cut_safetensors) { refuse_cuts(GOLDEN "python.safetensors", open_safetensors, 0); }
Test(files, cut_png) { refuse_cuts(GOLDEN "palette_alpha.png", open_image, 0); }
Test(files, cut_jpeg) { refuse_cuts(GOLDEN "rgb444.jpg", open_image, 2); }
Test(files, cut_webp) { refuse_cuts(GOLDEN "lossless.webp", open_image, 1); }
Test(files, cut_bmp) { refuse_cuts(GOLDEN "palette.bmp", open_image, 1); }

// ---------------------------------------------------------------- model folders

static void save_one(const char *path, const char *name, dtype type, int64_t rows, const void *data) {
    error err = {0};
    safetensors_item it = {.name = name, .type = type, .ndim = 2, .shape = {rows, 2}, .data = data};
    cr_assert_eq(safetensors_save(path, &it, 1, NULL, 0, false, &err), OK, "%s", err.text);
}

Test(files, model_folder_and_shards) {
    error err = {0};
    const float a[4] = {1, 2, 3, 4};
    const uint16_t b[4] = {f32_to_f16(5), f32_to_f16(6), f32_to_f16(7), f32_to_f16(8)};
    const int64_t shape[2] = {2, 2}, other[1] = {4};
    float got[4];
    cr_assert_null(model_files_open(dir, NULL, &err));
    expect(&err, ERR_NOINPUT, "no weights");
    save_one(in_dir("model.safetensors"), "a", DT_F32, 2, a);
    save_one(in_dir("model.fp16.safetensors"), "a", DT_F16, 2, b);

    model_files *m = model_files_open(dir, NULL, &err);
    cr_assert(m, "%s", err.text);
    cr_assert_eq(model_files_read_f32(m, "a", 2, shape, got, &err), OK, "%s", err.text);
    cr_assert_eq(got[3], 4.f);
    cr_assert_eq(model_files_read_f32(m, "a", 1, other, got, &err), ERR_DATA);
    expect(&err, ERR_DATA, "model.safetensors: tensor 'a' is (2, 2), expected (4)");
    cr_assert_eq(model_files_read_f32(m, "x", 1, other, got, &err), ERR_DATA);
    expect(&err, ERR_DATA, "model.safetensors: tensor 'x' (4) is missing");
    model_files_close(m);

    m = model_files_open(dir, "fp16", &err);
    cr_assert_eq(model_files_read_f32(m, "a", 2, shape, got, &err), OK, "%s", err.text);
    cr_assert_eq(got[3], 8.f);
    model_files_close(m);
    cr_assert_null(model_files_open(dir, "ema", &err));
    expect(&err, ERR_NOINPUT, "variant ema");

    // Without the plain file the variant that is there stands for it.
    cr_assert_eq(unlink(in_dir("model.safetensors")), 0);
    m = model_files_open(dir, NULL, &err);
    cr_assert(m, "%s", err.text);
    cr_assert_eq(model_files_read_f32(m, "a", 2, shape, got, &err), OK, "%s", err.text);
    cr_assert_eq(got[3], 8.f);
    model_files_close(m);

    // Two shards, the second through a link as in a hub cache. The index wins only where no whole file is.
    save_one(in_dir("s-1.safetensors"), "one", DT_F32, 2, a);
    save_one(in_dir("blob"), "two", DT_F16, 2, b);
    cr_assert_eq(symlink("blob", in_dir("s-2.safetensors")), 0);
    const char index[] = "{\"metadata\":{\"total_size\":24},\"weight_map\":{\"two\":\"s-2.safetensors\","
                         "\"one\":\"s-1.safetensors\"}}";
    const char *path = in_dir("diffusion_pytorch_model.safetensors.index.json");
    cr_assert_eq(fs_write_atomic(path, index, strlen(index), false, &err), OK);
    m = model_files_open(path, NULL, &err);
    cr_assert(m, "%s", err.text);
    cr_assert_eq(model_files_count(m), 2);
    cr_assert_str_eq(model_files_at(m, 1).tensor->name, "two");
    cr_assert_eq(model_files_read_f32(m, "one", 2, shape, got, &err), OK, "%s", err.text);
    cr_assert_eq(got[0], 1.f);
    cr_assert_eq(model_files_read_f32(m, "two", 2, shape, got, &err), OK, "%s", err.text);
    cr_assert_eq(got[0], 5.f);
    cr_assert_not(model_files_find(m, "three", NULL));
    model_files_close(m);

    // An index of a variant, as diffusers spells it, and as it did before.
    static const char *const SPELLINGS[] = {"diffusion_pytorch_model.safetensors.index.fp16.json",
                                            "diffusion_pytorch_model.safetensors.fp16.index.json"};
    cr_assert_eq(unlink(path), 0);
    cr_assert_eq(unlink(in_dir("model.fp16.safetensors")), 0);
    for (int i = 0; i < 2; i++) {
        path = in_dir(SPELLINGS[i]);
        cr_assert_eq(fs_write_atomic(path, index, strlen(index), false, &err), OK);
        m = model_files_open(dir, NULL, &err);
        cr_assert(m, "%s", err.text);
        cr_assert_eq(model_files_count(m), 2);
        model_files_close(m);
        cr_assert_eq(unlink(in_dir(SPELLINGS[i])), 0);
    }
}

Test(files, model_index_lists_components) {
    error err = {0};
    const char text[] = "{\"_class_name\":\"StableDiffusionPipeline\",\"_diffusers_version\":\"0.42\","
                        "\"requires_safety_checker\":false,\"safety_checker\":[null,null],"
                        "\"unet\":[\"diffusers\",\"UNet2DConditionModel\"],"
                        "\"text_encoder\":[\"transformers\",\"CLIPTextModel\"]}";
    cr_assert_eq(fs_write_atomic(in_dir("model_index.json"), text, strlen(text), false, &err), OK);
    model_index *x = model_index_open(dir, &err);
    cr_assert(x, "%s", err.text);
    cr_assert_str_eq(model_index_class(x), "StableDiffusionPipeline");
    cr_assert_eq(model_index_count(x), 2);
    cr_assert_str_eq(model_index_at(x, 0).name, "unet");
    cr_assert_str_eq(model_index_find(x, "text_encoder")->class_name, "CLIPTextModel");
    cr_assert_null(model_index_find(x, "safety_checker"));
    model_index_close(x);
    cr_assert_null(model_index_open(in_dir("none"), &err));
    expect(&err, ERR_NOINPUT, "none/model_index.json");
}
