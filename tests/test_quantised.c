// Weights as codes: bit for bit what numpy makes of them and reads in them (tests/parity/quantised.py), where
// convert puts them, and networks that are loaded from them.
#include "core/base/mem.h"
#include "core/files/quantised.h"
#include "core/files/safetensors.h"
#include "tests/shell.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define GOLDEN "tests/golden/quantised/"

TestSuite(quantised, .init = shell_begin, .fini = shell_end);

static const char *const FORMATS[] = {"q8", "q4", "q8-balanced", "q4-balanced"};

enum { N_FORMATS = sizeof FORMATS / sizeof *FORMATS };

// A command for each format, its name in place of every %1$s.
static void expect_each(const char *command, int code, const char *out, const char *err) {
    for (int i = 0; i < N_FORMATS; i++) {
        char line[1200];
        snprintf(line, sizeof line, command, FORMATS[i]);
        expect(line, code, out, err);
    }
}

// ---- values

Test(quantised, codes_and_values_are_numpys) {
    expect_each("$C convert -q " GOLDEN "weights.safetensors \"$D/%1$s.safetensors\" --dtype %1$s && "
                "cmp \"$D/%1$s.safetensors\" " GOLDEN "%1$s.safetensors",
                0, NULL, NULL);
    expect_each("$C convert -q " GOLDEN "%1$s.safetensors \"$D/f.safetensors\" --force --dtype f32 && "
                "cmp \"$D/f.safetensors\" " GOLDEN "%1$s-f32.safetensors",
                0, NULL, NULL);
}

// The values are a fixed point: what codes stand for has these codes again, but where f16 rounds a minimum
// away from its group, and where the mean of a bin is not what its values are.
Test(quantised, q8_is_found_again) {
    expect("$C convert -q " GOLDEN "q8-f32.safetensors \"$D/a.safetensors\" --dtype q8 && "
           "$C convert -q \"$D/a.safetensors\" \"$D/b.safetensors\" --dtype f32 && "
           "cmp \"$D/b.safetensors\" " GOLDEN "q8-f32.safetensors",
           0, NULL, NULL);
}

static tensor_file *open_file(const char *path) {
    error err = {0};
    tensor_file *f = tensor_file_open(path, &err);
    cr_assert(f, "%s", err.text);
    return f;
}

// Pieces begin anywhere: between the halves of a byte, inside of groups and rows.
Test(quantised, any_part_can_be_read) {
    for (int i = 0; i < N_FORMATS; i++) {
        char path[100];
        error err = {0};
        snprintf(path, sizeof path, GOLDEN "%s.safetensors", FORMATS[i]);
        tensor_file *f = open_file(path);
        const tensor_entry *t = tensor_file_find(f, "mid_block.resnets.0.conv1.weight");
        cr_assert(t && t->codes && t->count == 18 * 72 && t->shape[1] == 8);
        cr_expect_str_eq(t->type_name, FORMATS[i]);
        float all[18 * 72], some[100];
        double wide[3000];
        cr_assert_eq(tensor_file_read_f32(f, t, 0, t->count, all, &err), OK, "%s", err.text);
        for (uint64_t first = 0; first < t->count; first += 7)
            for (uint64_t n = 0; n <= 100 && first + n <= t->count; n += 33) {
                cr_assert_eq(tensor_file_read_f32(f, t, first, n, some, &err), OK, "%s", err.text);
                cr_assert_arr_eq(some, all + first, n * sizeof *all);
            }
        cr_assert_eq(tensor_file_read_f64(f, t, 1, t->count - 1, wide, &err), OK);
        for (uint64_t k = 1; k < t->count; k++) cr_assert_eq(wide[k - 1], (double)all[k]);
        cr_expect_eq(tensor_file_read_f32(f, t, 1, t->count, all, &err), ERR_INTERNAL);
        tensor_file_close(f);
    }
}

// Over more than one piece of the decoder, and more than are made into codes at once, by any number of
// threads.
Test(quantised, large_matrices) {
    enum { O = 1100, I = 1000 };
    float *v = mem_alloc(O * I * sizeof *v), *again = mem_alloc(O * I * sizeof *again);
    char path[600];
    error err = {0};
    cr_assert(v && again);
    for (int i = 0; i < O * I; i++) v[i] = (float)sin(0.37 * i) * (float)(1 + i / I);
    snprintf(path, sizeof path, "%s/v.safetensors", folder);
    const safetensors_item item = {.name = "x.weight", .ndim = 2, .shape = {O, I}, .data = v};
    cr_assert_eq(safetensors_save(path, &item, 1, NULL, 0, true, &err), OK, "%s", err.text);
    expect("cd \"$D\" && $C convert -q v.safetensors q.safetensors --dtype q8", 0, NULL, NULL);
    snprintf(path, sizeof path, "%s/q.safetensors", folder);
    tensor_file *f = open_file(path);
    cr_assert_eq(tensor_file_read_f32(f, tensor_file_find(f, "x.weight"), 0, O * I, again, &err), OK);
    // Half a step of a row whose largest value is at most its number.
    for (int i = 0; i < O * I; i++) cr_assert_leq(fabsf(v[i] - again[i]), (float)(1 + i / I) * (0.5f / 126));
    tensor_file_close(f);
    mem_free(v);
    mem_free(again);
    expect_each("cd \"$D\" && $C convert -q v.safetensors 1.safetensors --force --dtype %1$s --threads 1 && "
                "$C convert -q v.safetensors 3.safetensors --force --dtype %1$s --threads 3 && "
                "cmp 1.safetensors 3.safetensors",
                0, NULL, NULL);
}

// ---- files

Test(quantised, kept_and_in_shards) {
    expect_each("$C convert -q " GOLDEN "%1$s.safetensors \"$D/k.safetensors\" --force && "
                "cmp \"$D/k.safetensors\" " GOLDEN "%1$s.safetensors",
                0, NULL, NULL);
    expect_each("$C convert -q " GOLDEN
                "%1$s.safetensors \"$D/s.safetensors\" --force --max-shard-size 2k && "
                "$C convert -q \"$D/s.safetensors.index.json\" \"$D/f.safetensors\" --force --dtype f32 && "
                "cmp \"$D/f.safetensors\" " GOLDEN "%1$s-f32.safetensors && rm \"$D\"/s*.safetensors*",
                0, NULL, NULL);
    expect_each("$C convert -q " GOLDEN
                "weights.safetensors \"$D/s.safetensors\" --max-shard-size 2k --dtype %1$s && "
                "$C convert -q \"$D/s.safetensors.index.json\" \"$D/f.safetensors\" --force && "
                "cmp \"$D/f.safetensors\" " GOLDEN "%1$s.safetensors && rm \"$D\"/s*.safetensors*",
                0, NULL, NULL);
}

Test(quantised, one_format_from_another_and_merges) {
    expect("$C convert -q " GOLDEN "q8.safetensors \"$D/a.safetensors\" --dtype q4 && "
           "$C convert -q " GOLDEN "q8-f32.safetensors \"$D/b.safetensors\" --dtype f32 && "
           "$C convert -q \"$D/b.safetensors\" \"$D/c.safetensors\" --dtype q4 && "
           "$C convert -q \"$D/a.safetensors\" \"$D/d.safetensors\" --dtype f32 && "
           "$C convert -q \"$D/c.safetensors\" \"$D/e.safetensors\" --dtype f32 && "
           "cmp \"$D/d.safetensors\" \"$D/e.safetensors\"",
           0, NULL, NULL);
    // all of the other model: the codes of its values
    expect("$C convert -q " GOLDEN "q4.safetensors \"$D/m.safetensors\" --dtype q8 --weight 1 "
           "--merge " GOLDEN "weights.safetensors && $C convert -q \"$D/m.safetensors\" \"$D/n.safetensors\" "
           "--dtype f32 && cmp \"$D/n.safetensors\" " GOLDEN "q8-f32.safetensors",
           0, NULL, NULL);
    expect("$C convert " GOLDEN "q4.safetensors \"$D/x.safetensors\" --merge " GOLDEN "weights.safetensors",
           65, NULL, "is q4; a merge of such needs another type");
}

Test(quantised, inspect_says_so) {
    expect_each("$C inspect -v " GOLDEN "%1$s.safetensors | grep \"%1$s  *.16,64.  down_blocks\"", 0,
                "proj_in.weight", NULL);
    expect("$C inspect " GOLDEN "q4.safetensors", 0, "calotype.quantised: q4", NULL);
}

// ---- what cannot be

static void put(const char *name, const safetensors_item *items, size_t n, const char *format) {
    char path[600];
    error err = {0};
    const metadata_pair pair = {QUANTISED_KEY, format};
    snprintf(path, sizeof path, "%s/%s", folder, name);
    cr_assert_eq(safetensors_save(path, items, n, &pair, format != NULL, true, &err), OK, "%s", err.text);
}

Test(quantised, values_without_codes) {
    static float v[16 * 64];
    const safetensors_item item = {.name = "x.weight", .ndim = 2, .shape = {16, 64}, .data = v};
    const float bad[] = {NAN, INFINITY, -INFINITY, 3e38f};
    for (int i = 0; i < 4; i++) {
        v[70] = bad[i];
        put("v.safetensors", &item, 1, NULL);
        // 3e38 has no scale in f16
        expect("cd \"$D\" && $C convert v.safetensors q.safetensors --dtype q4", 65, NULL,
               "'x.weight' holds values that cannot be quantised");
        cr_expect_not(there("q.safetensors"));
    }
    expect("cd \"$D\" && $C convert v.safetensors q.safetensors --dtype q8", 0, NULL, NULL);
    const safetensors_item ints = {
        .name = "x.weight", .type = DT_U8, .ndim = 2, .shape = {16, 64}, .data = v};
    put("u.safetensors",
        (safetensors_item[]){ints, {.name = "y.weight", .ndim = 2, .shape = {16, 64}, .data = v}}, 2, NULL);
    expect("cd \"$D\" && $C convert u.safetensors q.safetensors --dtype q4", 65, NULL,
           "'x.weight' is U8 already");
    expect("$C convert " GOLDEN "weights.safetensors \"$D/n.safetensors\" --dtype q8 --only conv_in", 65,
           NULL, "no matrix of a UNet or a text encoder to quantise");
}

Test(quantised, scales_that_are_no_numbers) {
    static const int8_t codes[2 * 2] = {1, 2, 3, 4};
    const float scales[][2] = {{1, NAN}, {INFINITY, 1}};
    for (int i = 0; i < 2; i++) {
        const safetensors_item items[] = {
            {.name = "a.weight", .type = DT_I8, .ndim = 2, .shape = {2, 2}, .data = codes},
            {.name = "a.weight_scale", .ndim = 1, .shape = {2}, .data = scales[i]}};
        put("a.safetensors", items, 2, "q8");
        expect("cd \"$D\" && $C convert a.safetensors b.safetensors --dtype f32", 65, NULL,
               "'a.weight_scale' holds a value that is not finite");
    }
}

// ---- networks

Test(quantised, draws) {
    for (int i = 0; i < N_FORMATS; i++) {
        char command[900];
        snprintf(command, sizeof command,
                 "cp -r assets/talbot \"$D/t\" && chmod -R u+w \"$D/t\" && "
                 "$C convert -q --force --dtype %s assets/talbot/unet "
                 "\"$D/t/unet/diffusion_pytorch_model.safetensors\" "
                 "&& $C txt2img -q -m \"$D/t\" -p x --steps 1 -s 1 -o \"$D/x.png\" --force && rm -r \"$D/t\"",
                 FORMATS[i]);
        expect(command, 0, NULL, NULL);
    }
}

// Products in 8 bits: the same pictures for any number of threads and any batch, and another one than without
// them.
Test(quantised, q8_draws_the_same_for_any_threads_and_batch) {
    expect("cp -r assets/talbot \"$D/t\" && chmod -R u+w \"$D/t\" && $C convert -q --force --dtype q8 "
           "assets/talbot/unet "
           "\"$D/t/unet/diffusion_pytorch_model.safetensors\"",
           0, NULL, NULL);
    expect("cd \"$D\" && $C txt2img -q -m t -p x --steps 2 -s 1 -b 2 -t 1 --no-metadata -o a{i}.png && "
           "$C txt2img -q -m t -p x --steps 2 -s 1 -b 2 -t 2 --no-metadata -o b{i}.png && "
           "$C txt2img -q -m t -p x --steps 2 -s 2 -t 2 --no-metadata -o c1.png && ls *.png && "
           "cmp a1.png b1.png && cmp a2.png b2.png && cmp a2.png c1.png",
           0, NULL, NULL);
}

// A whole model in another layout: codes on the way there, numbers on the way back, the same as without the
// way.
Test(quantised, layouts) {
    expect("$C convert -q \"$M\" \"$D/one.safetensors\" --layout single --dtype q8 && "
           "$C inspect -v \"$D/one.safetensors\" | grep 'q8 '",
           0, "model.diffusion_model", NULL);
    expect("$C convert -q \"$D/one.safetensors\" \"$D/back\" --layout diffusers --clip-vocab "
           "tests/golden/tokenizer && "
           "$C inspect -v \"$D/back/unet/diffusion_pytorch_model.safetensors\" | grep -c -e 'q8 ' -e _scale",
           1, "0", NULL);
    expect("for n in unet text_encoder; do f=$(basename \"$D\"/back/$n/*.safetensors); "
           "$C convert -q \"$M/$n\" \"$D/a.safetensors\" --force --dtype q8 && "
           "$C convert -q \"$D/a.safetensors\" \"$D/b.safetensors\" --force --dtype f32 && "
           "$C convert -q \"$D/back/$n/$f\" \"$D/c.safetensors\" --force --dtype f32; "
           "h=$(head -c 8 \"$D/b.safetensors\" | od -An -tu8); "
           "g=$(head -c 8 \"$D/c.safetensors\" | od -An -tu8); tail -c +$((9 + h)) \"$D/b.safetensors\" "
           ">\"$D/b\"; "
           "tail -c +$((9 + g)) \"$D/c.safetensors\" | cmp - \"$D/b\" || exit; done",
           0, NULL, NULL);
}
