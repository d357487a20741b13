// Files of torch.save beside what torch says of them (tests/parity/ckpt.py), and what is refused.
#include "core/base/fs.h"
#include "core/base/mem.h"
#include "core/files/model_dir.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#ifdef __has_feature // clang
#define SANITIZED (__has_feature(address_sanitizer) || __has_feature(memory_sanitizer))
#elif defined __SANITIZE_ADDRESS__ // gcc
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

#define GOLDEN "tests/golden/ckpt/"
#define MALFORMED "tests/golden/malformed/ckpt/"

static tensor_file *open_golden(const char *name) {
    error err = {0};
    char path[200];
    snprintf(path, sizeof path, GOLDEN "%s", name);
    tensor_file *f = tensor_file_open(path, &err);
    cr_assert(f, "%s", err.text);
    return f;
}

// ---------------------------------------------------------------- what torch wrote

static void same_tensor(const tensor_file *f, const tensor_file *g, const tensor_entry *want) {
    error err = {0};
    const tensor_entry *t = tensor_file_find(f, want->name);
    cr_assert(t, "%s: no '%s'", tensor_file_path(f), want->name);
    cr_assert_eq(t->type, want->type, "%s is %s", t->name, t->type_name);
    cr_assert_eq(t->ndim, want->ndim);
    cr_assert_arr_eq(t->shape, want->shape, (size_t)t->ndim * sizeof *t->shape, "%s", t->name);
    cr_assert_eq(t->bytes, want->bytes);
    char a[1000], b[1000];
    float x[250], y[250];
    cr_assert_leq(t->count, 250);
    cr_assert_leq(t->bytes, sizeof a);
    cr_assert_eq(tensor_file_read(f, t, 0, t->count, a, &err), OK, "%s", err.text);
    cr_assert_eq(tensor_file_read(g, want, 0, t->count, b, &err), OK, "%s", err.text);
    cr_assert_arr_eq(a, b, t->bytes, "%s: '%s'", tensor_file_path(f), t->name);
    cr_assert_eq(tensor_file_read_f32(f, t, 0, t->count, x, &err), OK, "%s", err.text);
    cr_assert_eq(tensor_file_read_f32(g, want, 0, t->count, y, &err), OK, "%s", err.text);
    cr_assert_arr_eq(x, y, t->count * sizeof *x, "%s: '%s'", tensor_file_path(f), t->name);
}

Test(ckpt, holds_what_torch_put_in) {
    static const char *const NAMES[] = {"types",      "views",   "module", "protocol4",
                                        "parameters", "trainer", "nested"};
    for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++) {
        char name[60];
        snprintf(name, sizeof name, "%s.ckpt", NAMES[i]);
        tensor_file *f = open_golden(name);
        snprintf(name, sizeof name, "%s.safetensors", NAMES[i]);
        tensor_file *g = open_golden(name);
        cr_assert_eq(tensor_file_count(f), tensor_file_count(g), "%s", NAMES[i]);
        for (size_t k = 0; k < tensor_file_count(g); k++) same_tensor(f, g, tensor_file_at(g, k));
        tensor_file_close(f);
        tensor_file_close(g);
    }
}

// Views are read in any part, whether their elements lie together or not.
Test(ckpt, reads_parts_of_views) {
    error err = {0};
    tensor_file *f = open_golden("views.ckpt");
    for (size_t k = 0; k < tensor_file_count(f); k++) {
        const tensor_entry *t = tensor_file_at(f, k);
        float all[250], part[250];
        cr_assert_eq(tensor_file_read_f32(f, t, 0, t->count, all, &err), OK, "%s", err.text);
        for (uint64_t first = 0; first < t->count; first++) {
            uint64_t n = (t->count - first + 1) / 2;
            cr_assert_eq(tensor_file_read_f32(f, t, first, n, part, &err), OK, "%s", err.text);
            cr_assert_arr_eq(part, all + first, n * sizeof *all, "%s from %d", t->name, (int)first);
        }
        cr_assert_eq(tensor_file_read_f32(f, t, 1, t->count, part, &err), ERR_INTERNAL);
    }
    cr_assert(tensor_file_find(f, "transposed")->strided && !tensor_file_find(f, "rows")->strided);
    tensor_file_close(f);
}

Test(ckpt, stands_for_a_network) {
    error err = {0};
    float got[6];
    model_files *m = model_files_open(GOLDEN "module.ckpt", NULL, &err);
    cr_assert(m, "%s", err.text);
    cr_expect_eq(model_files_read_f32(m, "2.weight", 2, (const int64_t[]){2, 3}, got, &err), OK, "%s",
                 err.text);
    cr_expect_eq(model_files_read_f32(m, "2.weight", 2, (const int64_t[]){3, 2}, got, &err), ERR_DATA);
    cr_expect_str_eq(err.text, GOLDEN "module.ckpt: tensor '2.weight' is (2, 3), expected (3, 2)");
    model_files_close(m);
}

// Where a folder has no safetensors, what torch wrote is taken.
Test(ckpt, stands_in_a_folder) {
    char dir[] = P_tmpdir "/calotype-ckpt-XXXXXX", here[4096], to[5000];
    error err = {0};
    cr_assert(mkdtemp(dir) && getcwd(here, sizeof here));
    char *bin = fs_join(dir, "diffusion_pytorch_model.fp16.bin"),
         *whole = fs_join(dir, "model.fp16.safetensors");
    snprintf(to, sizeof to, "%s/" GOLDEN "module.ckpt", here);
    cr_assert_eq(symlink(to, bin), 0);
    cr_expect_null(model_files_open(dir, "bf16", &err));
    cr_expect_eq(err.code, ERR_NOINPUT);
    model_files *m = model_files_open(dir, "fp16", &err);
    cr_assert(m, "%s", err.text);
    cr_expect_str_eq(model_files_path(m), bin);
    model_files_close(m);
    snprintf(to, sizeof to, "%s/" GOLDEN "module.safetensors", here);
    cr_assert_eq(symlink(to, whole), 0);
    m = model_files_open(dir, "fp16", &err);
    cr_assert(m, "%s", err.text);
    cr_expect_str_eq(model_files_path(m), whole);
    model_files_close(m);
    unlink(bin);
    unlink(whole);
    rmdir(dir);
    mem_free(bin);
    mem_free(whole);
}

// ---------------------------------------------------------------- 8-bit floats

static bool same_float(float a, float b) { return (isnan(a) && isnan(b)) || !memcmp(&a, &b, sizeof a); }

Test(ckpt, eight_bit_floats_are_torchs) {
    static const char *const TYPES[] = {"e4m3", "e5m2"};
    tensor_file *f = open_golden("eights.safetensors");
    error err = {0};
    for (int i = 0; i < 2; i++) {
        char name[20];
        float got[256], want[256];
        uint16_t halves[256];
        const tensor_entry *t = tensor_file_find(f, TYPES[i]);
        cr_assert_eq(t->type, i ? DT_F8_E5M2 : DT_F8_E4M3);
        cr_assert_eq(tensor_file_read_f32(f, t, 0, 256, got, &err), OK, "%s", err.text);
        snprintf(name, sizeof name, "%s.f32", TYPES[i]);
        cr_assert_eq(tensor_file_read(f, tensor_file_find(f, name), 0, 256, want, &err), OK);
        snprintf(name, sizeof name, "%s.bf16", TYPES[i]);
        cr_assert_eq(tensor_file_read(f, tensor_file_find(f, name), 0, 256, halves, &err), OK);
        for (int k = 0; k < 256; k++) {
            cr_expect(same_float(got[k], want[k]), "%s %02x: %a, torch %a", TYPES[i], k, got[k], want[k]);
            cr_expect(same_float(bf16_to_f32(f32_to_bf16(got[k])), bf16_to_f32(halves[k])), "%s %02x",
                      TYPES[i], k);
        }
    }
    tensor_file_close(f);
}

// ---------------------------------------------------------------- what is refused

static void refused(const char *path, status code, const char *part) {
    error err = {0};
    cr_expect_null(tensor_file_open(path, &err), "%s", path);
    cr_expect_eq(err.code, code, "%s", err.text);
    cr_expect(strstr(err.text, path) && strstr(err.text, part), "'%s' lacks '%s'", err.text, part);
}

Test(ckpt, the_old_format_is_named) { refused(GOLDEN "old_format.pt", ERR_DATA, "the format before 1.6"); }

// A file of a few bytes does not make us use the gigabytes that it promises.
Test(ckpt, malformed) {
    char **names;
    size_t n;
    error err = {0};
    struct rusage used;
    cr_assert_eq(fs_list(MALFORMED, &names, &n, &err), OK, "%s", err.text);
    for (size_t i = 0; i < n; i++) {
        char *path = fs_join(MALFORMED, names[i]);
        if (strncmp(names[i], "good", 4)) refused(path, ERR_DATA, "");
        mem_free(path);
    }
    cr_expect_geq(n, 150);
    fs_list_free(names, n);
    cr_assert_eq(getrusage(RUSAGE_SELF, &used), 0);
    cr_expect(SANITIZED || used.ru_maxrss < 64 << 10, "%ld KB", used.ru_maxrss);
}

// Cut at any byte it is never taken for whole.
Test(ckpt, cut_short) {
    char path[] = P_tmpdir "/calotype-ckpt-XXXXXX", *data;
    size_t n;
    error err = {0};
    int fd = mkstemp(path);
    cr_assert_geq(fd, 0);
    cr_assert_eq(fs_read_file(GOLDEN "module.ckpt", 1 << 20, &data, &n, &err), OK, "%s", err.text);
    for (size_t i = 0; i < n; i++) {
        cr_assert_eq(fs_write_atomic(path, data, i, true, &err), OK, "%s", err.text);
        cr_expect_null(tensor_file_open(path, &err), "cut at byte %zu of %zu", i, n);
        cr_expect_eq(err.code, ERR_DATA, "%s", err.text);
    }
    mem_free(data);
    remove(path);
}
