// LoRA files merged into a model: the weights that diffusers and peft make of them
// (tests/parity/merge_lora.py), the way back from an extracted LoRA, both layouts, and what is refused.
#include "core/base/mem.h"
#include "core/calotype.h"
#include "core/files/model_dir.h"
#include "core/files/safetensors.h"
#include "tests/tiny_model.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GOLDEN "tests/golden/merge_lora/"

static char base[512], folder[512];

static void begin(void) { tiny_model_settle(base, folder, sizeof folder); }
static void end(void) { tiny_model_remove(base); }

TestSuite(merge_lora, .init = begin, .fini = end);

// ---- converting

static char message[3000];

static calo_status convert(const calo_convert_request *r) { return convert_once(r, message, sizeof message); }

static const char *in_folder(const char *name) {
    static char paths[4][600];
    static int next;
    char *path = paths[next = (next + 1) % 4];
    snprintf(path, sizeof *paths, "%s/%s", folder, name);
    return path;
}

static calo_status merge(const char *in, const char *out, const char *lora, double weight,
                         calo_layout layout) {
    calo_convert_request r = calo_convert_defaults();
    r.in = in;
    r.out = out;
    r.loras = &lora;
    r.lora_weights = &weight;
    r.n_loras = 1;
    r.layout = layout;
    r.vocabulary = "tests/golden/tokenizer";
    r.overwrite = 1;
    return convert(&r);
}

static void merges(const char *in, const char *out, const char *lora, double weight, calo_layout layout) {
    cr_assert_eq(merge(in, out, lora, weight, layout), CALO_OK, "%s", message);
}

static void relayout(const char *in, const char *out, calo_layout layout) {
    calo_convert_request r = calo_convert_defaults();
    r.in = in;
    r.out = out;
    r.layout = layout;
    r.vocabulary = "tests/golden/tokenizer";
    cr_assert_eq(convert(&r), CALO_OK, "%s", message);
}

// ---- tensors

static model_files *open_part(const char *dir, const char *part) {
    char path[700];
    error err = {0};
    snprintf(path, sizeof path, "%s/%s", dir, part);
    model_files *f = model_files_open(path, NULL, &err);
    cr_assert_not_null(f, "%s", err.text);
    return f;
}

static float *read_all(model_tensor t) {
    error err = {0};
    float *x = mem_calloc(t.tensor->count + 1, sizeof *x);
    cr_assert_eq(tensor_file_read_f32(t.file, t.tensor, 0, t.tensor->count, x, &err), OK, "%s", err.text);
    return x;
}

// Of the largest difference between two tensors.
static double distance(model_tensor a, model_tensor b) {
    cr_assert_eq(a.tensor->count, b.tensor->count, "%s", a.tensor->name);
    float *x = read_all(a), *y = read_all(b);
    double most = 0;
    for (uint64_t i = 0; i < a.tensor->count; i++) most = fmax(most, fabs((double)x[i] - y[i]));
    mem_free(x);
    mem_free(y);
    return most;
}

static const char *const PARTS[] = {"unet", "text_encoder", "vae"};

enum { N = sizeof PARTS / sizeof *PARTS };

// The largest difference over all tensors of both models.
static double models_apart(const char *one, const char *other) {
    double most = 0;
    for (int p = 0; p < N; p++) {
        model_files *a = open_part(one, PARTS[p]), *b = open_part(other, PARTS[p]);
        cr_assert_eq(model_files_count(a), model_files_count(b));
        for (size_t i = 0; i < model_files_count(a); i++) {
            model_tensor t;
            cr_assert(model_files_find(b, model_files_at(a, i).tensor->name, &t));
            most = fmax(most, distance(model_files_at(a, i), t));
        }
        model_files_close(a);
        model_files_close(b);
    }
    return most;
}

// ---- what diffusers makes of it

// Weights are below 1 and changes of a tenth: theirs are rounded in floats twice or three times, ours once.
static const double ROUNDING = 3 * 0x1p-24;

static void same_as_diffusers(const char *name) {
    char lora[100], golden[100], part[40];
    snprintf(lora, sizeof lora, GOLDEN "%s.safetensors", name);
    snprintf(golden, sizeof golden, GOLDEN "%s-fused.safetensors", name);
    const char *out = in_folder(name);
    error err = {0};
    size_t changed = 0;
    merges(base, out, lora, 0.7, CALO_LAYOUT_AS_STORED);
    tensor_file *want = tensor_file_open(golden, &err);
    cr_assert_not_null(want, "%s", err.text);
    for (int p = 0; p < N; p++) {
        model_files *before = open_part(base, PARTS[p]), *after = open_part(out, PARTS[p]);
        for (size_t i = 0; i < model_files_count(before); i++) {
            model_tensor t = model_files_at(before, i), now;
            cr_assert(model_files_find(after, t.tensor->name, &now));
            snprintf(part, sizeof part, "%s.", PARTS[p]);
            char full[300];
            snprintf(full, sizeof full, "%s%s", part, t.tensor->name);
            const tensor_entry *fused = tensor_file_find(want, full);
            double moved = distance(t, now);
            changed += fused != NULL;
            if (!fused) {
                cr_expect_eq(moved, 0, "%s: %s changed", name, full);
                continue;
            }
            double off = distance(now, (model_tensor){want, fused});
            cr_expect_gt(moved, 1e-3, "%s: %s", name, full);
            cr_expect_leq(off, ROUNDING, "%s: %s is off by %g", name, full, off);
        }
        model_files_close(before);
        model_files_close(after);
    }
    cr_expect_eq(changed, tensor_file_count(want), "%s", name);
    tensor_file_close(want);
}

Test(merge_lora, kohyas_names) {
    same_as_diffusers("kohya");
    same_as_diffusers("kohya_original");
}

Test(merge_lora, names_of_peft_and_alphas_in_the_metadata) { same_as_diffusers("peft"); }

Test(merge_lora, older_names_of_diffusers) {
    same_as_diffusers("diffusers");
    same_as_diffusers("processors");
}

// ---- there and back

static void extract(const char *tuned, const char *out, int rank, int peft) {
    calo_convert_request r = calo_convert_defaults();
    r.in = tuned;
    r.out = out;
    r.lora_base = base;
    r.lora_rank = rank;
    r.lora_peft = peft;
    r.overwrite = 1;
    cr_assert_eq(convert(&r), CALO_OK, "%s", message);
}

// Two LoRAs of rank 2 and 3 are one of rank 5. Factors are floats, and a change is below 0.5: its sum of five
// products may be off by 5 · 0.5 · 2^-23, and the weight is rounded.
Test(merge_lora, an_extracted_one_gives_the_tuned_model_back) {
    const char *const loras[] = {GOLDEN "kohya.safetensors", GOLDEN "peft.safetensors"};
    calo_convert_request r = calo_convert_defaults();
    const char *tuned = in_folder("tuned"), *lora = in_folder("lora.safetensors");
    r.in = base;
    r.out = tuned;
    r.loras = loras; // once each
    r.n_loras = 2;
    cr_assert_eq(convert(&r), CALO_OK, "%s", message);
    cr_expect_gt(models_apart(base, tuned), 0.01);
    for (int peft = 0; peft < 2; peft++) {
        const char *again = in_folder(peft ? "peft" : "kohya");
        extract(tuned, lora, 5, peft);
        merges(base, again, lora, 1, CALO_LAYOUT_AS_STORED);
        cr_expect_leq(models_apart(tuned, again), 2.5 * 0x1p-23 + 0x1p-24, "%g off",
                      models_apart(tuned, again));
    }
}

// Into one file, and from there into a folder: where names differ, and of SDXL q, k and v in one matrix and
// the projection transposed.
static void both_layouts(const char *model, const char *lora) {
    const char *one = in_folder("one.safetensors"), *direct = in_folder("direct"),
               *around = in_folder("around");
    merges(model, direct, lora, 0.5, CALO_LAYOUT_DIFFUSERS);
    merges(model, one, lora, 0.5, CALO_LAYOUT_SINGLE);
    relayout(one, around, CALO_LAYOUT_DIFFUSERS);
    cr_expect_gt(models_apart(model, direct), 1e-3);
    cr_expect_eq(models_apart(direct, around), 0);
}

Test(merge_lora, into_either_layout) { both_layouts(base, GOLDEN "kohya.safetensors"); }

// Pairs of rank 1 with made-up values for a matrix [O,I].
static int add_pair(safetensors_item *to, char names[2][200], const char *layer, int O, int I) {
    static float values[400];
    cr_assert(O <= 400 && I <= 400);
    for (int i = 0; i < 400; i++) values[i] = 0.1f * sinf((float)(i + 1));
    snprintf(names[0], sizeof names[0], "%s.lora_down.weight", layer);
    snprintf(names[1], sizeof names[1], "%s.lora_up.weight", layer);
    to[0] = (safetensors_item){.name = names[0], .ndim = 2, .shape = {1, I}, .data = values};
    to[1] = (safetensors_item){.name = names[1], .ndim = 2, .shape = {O, 1}, .data = values};
    return 2;
}

static void save(const char *path, const safetensors_item *items, size_t n, const metadata_pair *said) {
    error err = {0};
    cr_assert_eq(safetensors_save(path, items, n, said, said != NULL, true, &err), OK, "%s", err.text);
}

Test(merge_lora, into_either_layout_of_sdxl) {
    static const char *const LAYERS[][2] = {{"lora_te2_text_model_encoder_layers_0_self_attn_k_proj",
                                             "text_model.encoder.layers.0.self_attn.k_proj.weight"},
                                            {"lora_te2_text_projection", "text_projection.weight"},
                                            {"lora_te1_text_model_encoder_layers_0_self_attn_k_proj", NULL}};
    char dir[512], names[3][2][200];
    safetensors_item items[6];
    int n = 0;
    tiny_model_write("sdxl", "eps", dir, sizeof dir);
    model_files *f = open_part(dir, "text_encoder_2"), *g = open_part(dir, "text_encoder");
    for (int i = 0; i < 3; i++) {
        model_tensor t;
        cr_assert(model_files_find(LAYERS[i][1] ? f : g, LAYERS[i][1] ? LAYERS[i][1] : LAYERS[0][1], &t));
        n += add_pair(items + n, names[i], LAYERS[i][0], (int)t.tensor->shape[0], (int)t.tensor->shape[1]);
    }
    model_files_close(f);
    model_files_close(g);
    save(in_folder("xl.safetensors"), items, (size_t)n, NULL);
    both_layouts(dir, in_folder("xl.safetensors"));
    f = open_part(in_folder("direct"), "text_encoder_2");
    g = open_part(in_folder("around"), "text_encoder_2");
    for (int i = 0; i < 2; i++) {
        model_tensor a, b;
        cr_assert(model_files_find(f, LAYERS[i][1], &a) && model_files_find(g, LAYERS[i][1], &b));
        cr_expect_eq(distance(a, b), 0, "%s", LAYERS[i][1]);
    }
    model_files_close(f);
    model_files_close(g);
    tiny_model_remove(dir);
}

// Codes are those of the merged weights.
Test(merge_lora, into_codes_and_halves) {
    calo_convert_request r = calo_convert_defaults();
    const char *lora = GOLDEN "kohya.safetensors", *merged = in_folder("merged"), *half = in_folder("half"),
               *after = in_folder("after");
    merges(base, merged, lora, 1, CALO_LAYOUT_AS_STORED);
    r.in = base;
    r.out = half;
    r.type = CALO_WEIGHTS_F16;
    r.loras = &lora;
    r.n_loras = 1;
    cr_assert_eq(convert(&r), CALO_OK, "%s", message);
    r.in = merged;
    r.out = after;
    r.layout = CALO_LAYOUT_DIFFUSERS;
    r.n_loras = 0;
    cr_assert_eq(convert(&r), CALO_OK, "%s", message);
    cr_expect_leq(models_apart(half, after),
                  0x1p-11); // an f32 between may round the other way: a half's step
}

// ---- what is refused

static void refuses(const char *lora, double weight, calo_status code, const char *says) {
    const char *out = in_folder("refused");
    cr_expect_eq(merge(base, out, lora, weight, CALO_LAYOUT_AS_STORED), code, "%s", message);
    cr_expect(strstr(message, says), "'%s' in: %s", says, message);
    char path[700];
    snprintf(path, sizeof path, "%s/model_index.json", out);
    FILE *f = fopen(path, "r");
    cr_expect_null(f);
    if (f) fclose(f);
}

Test(merge_lora, requests_that_cannot_be) {
    refuses("nowhere.safetensors", 1, CALO_ERR_NOINPUT, "nowhere.safetensors");
    refuses(GOLDEN "kohya.safetensors", NAN, CALO_ERR_USAGE, "no number");
    calo_convert_request r = calo_convert_defaults();
    const char *lora = GOLDEN "kohya.safetensors";
    r.in = base;
    r.out = in_folder("refused");
    r.loras = &lora;
    r.n_loras = -1;
    cr_expect_eq(convert(&r), CALO_ERR_USAGE);
    r.n_loras = 1;
    r.plus = base;
    cr_expect_eq(convert(&r), CALO_ERR_USAGE);
    r.plus = NULL;
    r.lora_base = base;
    cr_expect_eq(convert(&r), CALO_ERR_USAGE);
}

// A name that is not the model's, among some that are.
Test(merge_lora, unknown_tensors_are_listed) {
    char names[2][2][200];
    safetensors_item items[4];
    int n = add_pair(items, names[0], "lora_unet_mid_block_attentions_0_proj_in", 16, 16);
    n += add_pair(items + n, names[1], "lora_unet_single_blocks_0_linear1", 16, 16);
    save(in_folder("other.safetensors"), items, (size_t)n, NULL);
    refuses(in_folder("other.safetensors"), 1, CALO_ERR_DATA,
            "2 of 4 tensors are no part of a LoRA of this model: "
            "'lora_unet_single_blocks_0_linear1.lora_down.weight', "
            "'lora_unet_single_blocks_0_linear1.lora_up.weight'");
}
