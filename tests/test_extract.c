// A LoRA out of two models: the factors of matrices against numpy's singular values, and of a model whose
// difference is known.
#include "core/base/fs.h"
#include "core/base/low_rank.h"
#include "core/base/mem.h"
#include "core/calotype.h"
#include "core/files/model_dir.h"
#include "core/files/safetensors.h"
#include "tests/golden/low_rank.h"
#include "tests/tiny_model.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

// ---- matrices

enum { MAX_SIDE = 96 };

static double decaying(int64_t i, int64_t j) { return 1 / (1 + pow((double)i - 0.6 * (double)j, 2) / 4); }
static double flat(int64_t i, int64_t j) {
    return cos((double)(i * i) * 0.37 + (double)j * 1.9 + (double)(i * j) * 0.11);
}

// Fills D [O,I] and gives |D − up·down|, with the singular values found.
static double left_over(double (*element)(int64_t, int64_t), int64_t O, int64_t I, int R, double *sigma) {
    static double D[MAX_SIDE * MAX_SIDE], up[MAX_SIDE * MAX_SIDE], down[MAX_SIDE * MAX_SIDE];
    error err = {0};
    double sum = 0;
    team *t = team_new(2);
    for (int64_t i = 0; i < O * I; i++) D[i] = element(i / I, i % I);
    cr_assert_eq(low_rank(D, O, I, R, up, down, sigma, t, &err), OK, "%s", err.text);
    for (int64_t i = 0; i < O * I; i++) {
        double d = D[i];
        for (int r = 0; r < R; r++) d -= up[i / I * R + r] * down[r * I + i % I];
        sum += d * d;
    }
    team_free(t);
    return sqrt(sum);
}

// Of the best approximation what is left over is what the other singular values amount to.
static double best_left(const double *sigma, int n, int R) {
    double sum = 0;
    for (int i = R; i < n; i++) sum += sigma[i] * sigma[i];
    return sqrt(sum);
}

Test(extract, singular_values_are_numpys) {
    double sigma[MAX_SIDE];
    if (!low_rank_available()) return;
    for (int R = 1; R <= 24; R += 23) {
        double left = left_over(decaying, 48, 80, R, sigma);
        for (int r = 0; r < R; r++) cr_expect_float_eq(sigma[r], DECAYING[r], 1e-10 * DECAYING[0], "%d", r);
        cr_expect_float_eq(left, best_left(DECAYING, 48, R), 1e-10 * DECAYING[0]);
    }
    // its transpose has the same
    left_over(decaying, 80, 48, 8, sigma);
    cr_expect_gt(sigma[0], 0);
}

// Where they hardly fall, those past the last one asked for may be mixed in: hardly worse than the best.
Test(extract, flat_spectra_lose_little) {
    double sigma[MAX_SIDE];
    if (!low_rank_available()) return;
    double left = left_over(flat, 64, 96, 12, sigma), best = best_left(FLAT, 64, 12);
    cr_expect_leq(left, 1.002 * best, "%g, at best %g", left, best);
    cr_expect_geq(left, (1 - 1e-9) * best);
    left = left_over(flat, 64, 96, 64, sigma); // nothing is left
    cr_expect_lt(left, 1e-11 * FLAT[0]);
    for (int r = 0; r < 64; r++) cr_expect_float_eq(sigma[r], FLAT[r], 1e-11 * FLAT[0]);
}

// ---- models

enum { RANK = 2 };

static char base[512], tuned[512], folder[512], lora[600];

// What is learned: up·down of rank 2, of the size that training makes.
static double learned(int64_t o, int64_t i) {
    return 0.02 * (sin(0.3 * (double)o + 1) * cos(0.7 * (double)i) +
                   0.5 * cos(1.1 * (double)o) * sin(0.2 * (double)(i + 1)));
}

// Adds it to tensors of a component whose names hold one of these words.
static void learn(const char *component, const char *const *words) {
    char path[700];
    error err = {0};
    snprintf(path, sizeof path, "%s/%s", tuned, component);
    model_files *f = model_files_open(path, NULL, &err);
    cr_assert_not_null(f, "%s", err.text);
    size_t n = model_files_count(f);
    safetensors_item *items = mem_calloc(n, sizeof *items);
    for (size_t k = 0; k < n; k++) {
        model_tensor t = model_files_at(f, k);
        float *x = mem_calloc(t.tensor->count, sizeof *x);
        cr_assert_eq(tensor_file_read_f32(t.file, t.tensor, 0, t.tensor->count, x, &err), OK);
        int64_t I = t.tensor->ndim > 1 ? (int64_t)t.tensor->count / t.tensor->shape[0] : 0;
        for (const char *const *w = words; *w && I; w++)
            for (int64_t i = 0; strstr(t.tensor->name, *w) && i < (int64_t)t.tensor->count; i++)
                x[i] = (float)(x[i] + learned(i / I, i % I));
        items[k] = (safetensors_item){.name = t.tensor->name, .ndim = t.tensor->ndim, .data = x};
        memcpy(items[k].shape, t.tensor->shape, sizeof items[k].shape);
    }
    cr_assert_eq(safetensors_save(model_files_path(f), items, n, NULL, 0, true, &err), OK, "%s", err.text);
    for (size_t k = 0; k < n; k++) mem_free((void *)(uintptr_t)items[k].data);
    mem_free(items);
    model_files_close(f);
}

static void begin(void) {
    static const char *const UNET[] = {"down_blocks.0.resnets.0.conv1.weight",
                                       "mid_block.attentions.0.proj_in.weight",
                                       "mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight", NULL};
    static const char *const TEXT[] = {"layers.0.mlp.fc1.weight", NULL};
    tiny_model_settle(base, folder, sizeof folder);
    tiny_model_write("sd", "v", tuned, sizeof tuned);
    snprintf(lora, sizeof lora, "%s/lora.safetensors", folder);
    learn("unet", UNET);
    learn("text_encoder", TEXT);
}

static void end(void) {
    tiny_model_remove(base);
    tiny_model_remove(tuned);
}

TestSuite(extract_model, .init = begin, .fini = end);

static calo_status extract(const char *from, int rank, double clamp, int peft, char message[400]) {
    calo_convert_request r = calo_convert_defaults();
    r.in = from;
    r.out = lora;
    r.lora_base = base;
    r.lora_rank = rank;
    r.lora_clamp = clamp;
    r.lora_peft = peft;
    r.overwrite = 1;
    return convert_once(&r, message, 400);
}

static void extracts(int rank, double clamp, int peft) {
    char message[400];
    cr_assert_eq(extract(tuned, rank, clamp, peft, message), CALO_OK, "%s", message);
}

static float *read_all(const tensor_file *f, const char *name, const char *ending, const tensor_entry **t) {
    char full[300];
    error err = {0};
    snprintf(full, sizeof full, "%s%s", name, ending);
    cr_assert_not_null(*t = tensor_file_find(f, full), "%s", full);
    float *x = mem_calloc((*t)->count, sizeof *x);
    cr_assert_eq(tensor_file_read_f32(f, *t, 0, (*t)->count, x, &err), OK, "%s", err.text);
    return x;
}

// |up·down − learned| / |learned|
static double distance(const tensor_file *f, const char *name, const char *up_name, const char *down_name) {
    const tensor_entry *a, *b;
    float *up = read_all(f, name, up_name, &a), *down = read_all(f, name, down_name, &b);
    int64_t O = a->shape[0], R = a->shape[1], I = (int64_t)b->count / R;
    double off = 0, size = 0;
    cr_assert_eq(b->shape[0], R);
    for (int64_t i = 0; i < O * I; i++) {
        double sum = 0, want = learned(i / I, i % I);
        for (int64_t r = 0; r < R; r++) sum += (double)up[i / I * R + r] * down[r * I + i % I];
        off += (sum - want) * (sum - want);
        size += want * want;
    }
    mem_free(up);
    mem_free(down);
    return sqrt(off / size);
}

static tensor_file *open_lora(size_t tensors) {
    error err = {0};
    tensor_file *f = tensor_file_open(lora, &err);
    cr_assert_not_null(f, "%s", err.text);
    cr_expect_eq(tensor_file_count(f), tensors);
    return f;
}

// The sum of a weight of size 1 and the difference is rounded to 2^-24 of it: to about 1e-5 of a difference
// of a hundredth, and half of it is left outside of the two directions.
Test(extract_model, what_was_learned_comes_back) {
    static const char *const SITES[] = {"lora_unet_down_blocks_0_resnets_0_conv1",
                                        "lora_unet_mid_block_attentions_0_proj_in",
                                        "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k",
                                        "lora_te_text_model_encoder_layers_0_mlp_fc1"};
    extracts(RANK, 1, 0);
    tensor_file *f = open_lora(3 * 4); // and nothing of what did not change
    for (int i = 0; i < 4; i++) {
        const tensor_entry *t;
        double off = distance(f, SITES[i], ".lora_up.weight", ".lora_down.weight");
        float *alpha = read_all(f, SITES[i], ".alpha", &t);
        cr_expect_lt(off, 1e-4, "%s: %g", SITES[i], off);
        cr_expect(t->ndim == 0 && *alpha == RANK);
        mem_free(alpha);
    }
    cr_expect_str_eq(tensor_file_metadata(f, "ss_network_dim"), "2");
    const tensor_entry *down =
        tensor_file_find(f, "lora_unet_down_blocks_0_resnets_0_conv1.lora_down.weight");
    cr_expect(down->ndim == 4 && down->shape[0] == RANK && down->shape[3] == 3);
    tensor_file_close(f);
    extracts(1, 1, 0); // one direction of two
    f = open_lora(3 * 4);
    cr_expect_gt(distance(f, SITES[2], ".lora_up.weight", ".lora_down.weight"), 0.1);
    tensor_file_close(f);
}

Test(extract_model, names_of_peft) {
    extracts(RANK, 1, 1);
    tensor_file *f = open_lora(2 * 4);
    cr_expect_lt(
        distance(f, "text_encoder.text_model.encoder.layers.0.mlp.fc1", ".lora_B.weight", ".lora_A.weight"),
        1e-4);
    cr_expect_lt(distance(f, "unet.mid_block.attentions.0.proj_in", ".lora_B.weight", ".lora_A.weight"),
                 1e-4);
    tensor_file_close(f);
}

// The values of both factors beyond the quantile are the quantile.
Test(extract_model, outliers_are_clamped) {
    static const char SITE[] = "lora_te_text_model_encoder_layers_0_mlp_fc1";
    const tensor_entry *t;
    float most = 0;
    int at_most = 0;
    extracts(RANK, 0.5, 0);
    tensor_file *f = open_lora(3 * 4);
    float *x[2] = {read_all(f, SITE, ".lora_up.weight", &t), read_all(f, SITE, ".lora_down.weight", &t)};
    int n = (int)t->count;
    for (int i = 0; i < n; i++) most = fmaxf(most, fabsf(x[1][i]));
    for (int i = 0; i < n; i++) at_most += fabsf(x[1][i]) == most;
    cr_expect_gt(at_most, n / 10);
    mem_free(x[0]);
    mem_free(x[1]);
    tensor_file_close(f);
}

static void refuses(const char *from, int rank, double clamp, calo_status code, const char *says) {
    char message[400];
    cr_expect_eq(extract(from, rank, clamp, 0, message), code);
    cr_expect(strstr(message, says), "%s", message);
}

Test(extract_model, what_is_refused) {
    char other[512];
    refuses(base, RANK, 1, CALO_ERR_DATA, "have no layer that differs");
    refuses(tuned, 0, 1, CALO_ERR_USAGE, "rank");
    refuses(tuned, RANK, 0, CALO_ERR_USAGE, "quantile");
    refuses("/nowhere", RANK, 1, CALO_ERR_NOINPUT, "nowhere");
    tiny_model_write("sdxl", "v", other, sizeof other);
    refuses(other, RANK, 1, CALO_ERR_DATA, "expected");
    tiny_model_remove(other);
    tiny_model_spoil(tuned, "unet", "mid_block.attentions.0.proj_in.weight", NAN);
    refuses(tuned, RANK, 1, CALO_ERR_DATA, "holds a nan");
}
