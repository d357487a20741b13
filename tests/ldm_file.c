#include "tests/ldm_file.h"

#include "core/base/arena.h"
#include "core/base/fs.h"
#include "core/base/mem.h"
#include "tests/tiny_model.h"
#include "tests/tools/genweights.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

char folder[64];
listing list;

void ldm_begin(void) {
    strcpy(folder, "/tmp/calotype-XXXXXX");
    cr_assert_not_null(mkdtemp(folder));
    setenv("XDG_CACHE_HOME", folder, 1);
    setenv("XDG_DATA_HOME", folder, 1);
}

void ldm_end(void) {
    remove_tree(folder);
    mem_free(list.text);
}

static void read_row(char *line, row *r) {
    r->part = strsep(&line, "\t");
    r->name = strsep(&line, "\t");
    char *sizes = strsep(&line, "\t");
    r->hash = line;
    for (char *d; (d = strsep(&sizes, "x"));)
        if (strcmp(d, "scalar")) r->shape[r->rank++] = atoll(d);
}

void read_list(const char *name) {
    char path[100];
    size_t n;
    error err = {0};
    snprintf(path, sizeof path, "tests/golden/checkpoint/%s.tsv", name);
    cr_assert_eq(fs_read_file(path, 1 << 20, &list.text, &n, &err), OK, "%s", err.text);
    char *rest = list.text, *first = strsep(&rest, "\n");
    list.type = (dtype)dtype_from_name(first + strlen("type\t"));
    for (char *line; (line = strsep(&rest, "\n")) && *line;) {
        cr_assert_lt(list.n, MAX_ROWS);
        read_row(line, &list.rows[list.n++]);
    }
}

static bool left_out(const changes *c, const row *r) {
    bool out = strcmp(r->part, "file") != 0;
    for (int i = 0; i < MAX_CHANGES && c->leave_out[i]; i++) out = out || strstr(r->name, c->leave_out[i]);
    return out;
}

// ε follows x: in, skip and out carry x and −x in pairs of channels past everything else, and
// silu(x) − silu(−x) = x.
static void follow(const row *r, int64_t count, float *x) {
    static const char *const SILENT[] = {"input_blocks.0.0.", "output_blocks.8.0.skip_connection.",
                                         "output_blocks.8.0.out_layers.3.", "output_blocks.8.1.proj_out.",
                                         "diffusion_model.out."};
    bool silent = false;
    for (size_t i = 0; i < sizeof SILENT / sizeof *SILENT; i++) silent = silent || strstr(r->name, SILENT[i]);
    if (!silent) return;
    memset(x, 0, (size_t)count * sizeof *x);
    int64_t in = r->shape[1], out = r->shape[0];
    for (int64_t k = 0; k < 4; k++) {
        if (strstr(r->name, "input_blocks.0.0.weight")) {
            x[(2 * k * in + k) * 9 + 4] = 1;
            x[((2 * k + 1) * in + k) * 9 + 4] = -1;
        }
        if (strstr(r->name, "skip_connection.weight"))
            for (int64_t c = 2 * k; c < 2 * k + 2; c++) x[c * in + in - out + c] = 1;
        if (strstr(r->name, "out.2.weight")) {
            x[(k * in + 2 * k) * 9 + 4] = 1;
            x[(k * in + 2 * k + 1) * 9 + 4] = -1;
        }
    }
    for (int64_t i = 0; strstr(r->name, "out.0.weight") && i < count; i++) x[i] = 1;
}

// Values of the list's type.
static void *make_values(const row *r, int64_t count, bool follows, arena *a) {
    float *x = arena_alloc(a, (size_t)count * sizeof *x);
    uint16_t *half = arena_alloc(a, (size_t)count * sizeof *half);
    cr_assert(x && half);
    gen_weight(r->name, r->rank, r->shape, x);
    if (follows) follow(r, count, x);
    if (list.type == DT_F32) return x;
    for (int64_t i = 0; i < count; i++) half[i] = list.type == DT_F16 ? f32_to_f16(x[i]) : f32_to_bf16(x[i]);
    return half;
}

const char *write_file(const char *name, const changes *c) {
    static char path[200];
    safetensors_item *items = mem_calloc(MAX_ROWS, sizeof *items);
    arena a = {0};
    error err = {0};
    size_t n = 0;
    for (int i = 0; i < list.n; i++) {
        row r = list.rows[i];
        int64_t count = 1;
        if (left_out(c, &r)) continue;
        if (c->reshape && !strcmp(c->reshape, r.name)) r.shape[c->axis] = c->size;
        for (int k = 0; k < r.rank; k++) count *= r.shape[k];
        if (c->flatten && strstr(r.name, c->flatten) && r.rank == 4) r.rank = 2;
        items[n] = (safetensors_item){.name = r.name, .type = list.type, .ndim = r.rank};
        if (c->strip) items[n].name += strlen(c->strip);
        const char *at = c->from ? strstr(r.name, c->from) : NULL;
        if (at)
            items[n].name =
                arena_printf(&a, "%.*s%s%s", (int)(at - r.name), r.name, c->to, at + strlen(c->from));
        memcpy(items[n].shape, r.shape, sizeof r.shape);
        items[n++].data = make_values(&r, count, c->follows, &a);
    }
    for (int i = 0; i < MAX_CHANGES && c->add[i]; i++)
        items[n++] = (safetensors_item){.name = c->add[i], .type = DT_F32, .ndim = 1, .data = ""};
    snprintf(path, sizeof path, "%s/%s.safetensors", folder, name);
    cr_assert_eq(safetensors_save(path, items, n, &c->metadata, c->metadata.key != NULL, true, &err), OK,
                 "%s", err.text);
    arena_free(&a);
    mem_free(items);
    return path;
}

model *open_changed(const char *name, const changes *c) {
    error err = {0};
    if (!list.n) read_list(name);
    model *m = model_open(write_file(name, c), NULL, &err);
    cr_assert_not_null(m, "%s", err.text);
    return m;
}

void expect_finding(const model *m, const char *what, const char *value) {
    const finding *f;
    size_t n = checkpoint_findings(model_checkpoint(m), &f), i = 0;
    while (i < n && strcmp(f[i].what, what)) i++;
    if (!value) {
        cr_expect_eq(i, n, "%s: %s", what, i < n ? f[i].value : "");
        return;
    }
    cr_assert_lt(i, n, "nothing is said about %s", what);
    cr_expect_str_eq(f[i].value, value);
    cr_expect_gt(strlen(f[i].because), 0);
}

calo_status rewrite(const char *in, const char *out, calo_layout layout, calo_prediction prediction,
                    char message[400]) {
    calo_convert_request r = calo_convert_defaults();
    r.in = in;
    r.out = out;
    r.layout = layout;
    r.prediction = prediction;
    r.vocabulary = "tests/golden/tokenizer";
    return convert_once(&r, message, 400);
}

void rewrites(const char *in, const char *out, calo_layout layout, calo_prediction prediction) {
    char message[400];
    cr_assert_eq(rewrite(in, out, layout, prediction, message), CALO_OK, "%s", message);
}
