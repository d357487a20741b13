// calotype convert: bit for bit what torch makes of the weights, in and out of shards, and what it says.
#include "core/base/dtype.h"
#include "core/base/fs.h"
#include "core/calotype.h"
#include "core/files/safetensors.h"
#include "tests/shell.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GOLDEN "tests/golden/ckpt/"

TestSuite(convert, .init = shell_begin, .fini = shell_end);

// ---- values

// Converts, and compares the whole file with torch's.
static void same(const char *in, const char *options, const char *golden) {
    char command[600];
    snprintf(command, sizeof command,
             "$C convert " GOLDEN "%s \"$D/x.safetensors\" --force -q %s && cmp \"$D/x.safetensors\" " GOLDEN
             "%s.safetensors",
             in, options, golden);
    expect(command, 0, NULL, NULL);
}

Test(convert, files_of_torch_become_its_safetensors) {
    static const char *const NAMES[] = {"types", "views", "module", "protocol4", "parameters", "trainer"};
    for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++) {
        char in[60];
        snprintf(in, sizeof in, "%s.ckpt", NAMES[i]);
        same(in, "", NAMES[i]);
        snprintf(in, sizeof in, "%s.safetensors", NAMES[i]);
        same(in, "", NAMES[i]); // and from itself
    }
}

Test(convert, types_are_rounded_as_torch_rounds) {
    same("model_a.ckpt", "--dtype f16", "to_f16");
    same("model_a.ckpt", "--dtype bf16", "to_bf16");
    same("model_a.ckpt", "--dtype f32", "to_f32");
    same("to_f16.safetensors", "--dtype f16", "to_f16");
    expect("$C convert " GOLDEN "model_a.ckpt \"$D/y.safetensors\" --type f16", 0, "y.safetensors",
           "warning: tensor 'w': 2 values are too large for F16 and became infinite");
}

// From 16 bits to 32 and back nothing is lost.
Test(convert, goes_there_and_back) {
    static const char *const TYPES[] = {"f16", "bf16"};
    for (int i = 0; i < 2; i++) {
        char command[900];
        snprintf(command, sizeof command,
                 "$C convert -q \"$M/unet\" \"$D/a.safetensors\" --dtype %s && "
                 "$C convert -q \"$D/a.safetensors\" \"$D/b.safetensors\" --dtype f32 && "
                 "$C convert -q \"$D/b.safetensors\" \"$D/c.safetensors\" --dtype %s && "
                 "cmp \"$D/a.safetensors\" \"$D/c.safetensors\" && rm \"$D\"/?.safetensors",
                 TYPES[i], TYPES[i]);
        expect(command, 0, NULL, NULL);
    }
}

Test(convert, merges_are_torchs) {
    same("model_a.ckpt", "--merge " GOLDEN "model_b.ckpt --weight 0.3", "merge");
    same("model_a.ckpt", "--merge " GOLDEN "model_b.ckpt --minus " GOLDEN "model_c.ckpt --weight 1",
         "difference");
    expect("$C convert " GOLDEN "model_a.ckpt \"$D/y.safetensors\" --merge " GOLDEN "model_b.ckpt", 0, NULL,
           "warning: 2 of 5 tensors are not in every model and stay as they are");
    expect("$C convert " GOLDEN "types.ckpt \"$D/f8.safetensors\" --merge " GOLDEN "types.ckpt", 65, NULL,
           "tensor 'e4m3' is F8_E4M3");
    expect("$C convert " GOLDEN "types.ckpt \"$D/f8.safetensors\" --merge " GOLDEN "types.ckpt --dtype f32",
           0, NULL, NULL);
}

static void put(const char *name, const safetensors_item *items, size_t n) {
    char path[600];
    error err = {0};
    snprintf(path, sizeof path, "%s/%s", folder, name);
    cr_assert_eq(safetensors_save(path, items, n, NULL, 0, true, &err), OK, "%s", err.text);
}

Test(convert, models_that_do_not_fit) {
    float v[4] = {1, 2, 3, 4};
    put("a.safetensors", &(safetensors_item){.name = "x", .ndim = 2, .shape = {2, 2}, .data = v}, 1);
    put("b.safetensors", &(safetensors_item){.name = "x", .ndim = 2, .shape = {1, 4}, .data = v}, 1);
    expect("cd \"$D\" && $C convert a.safetensors c.safetensors --merge b.safetensors", 65, NULL,
           "b.safetensors: tensor 'x' is (1, 4), expected (2, 2)");
    cr_expect_not(there("c.safetensors"));
    expect("$C convert " GOLDEN "views.ckpt \"$D/z.safetensors\" -q --merge " GOLDEN "model_b.ckpt", 65, NULL,
           "views.ckpt: none of its tensors has a name that is also in " GOLDEN "model_b.ckpt;");
    put("d.safetensors", &(safetensors_item){.name = "y", .ndim = 1, .shape = {4}, .data = v}, 1);
    expect("cd \"$D\" && $C convert a.safetensors c.safetensors --merge a.safetensors --minus d.safetensors",
           65, NULL, "also in a.safetensors and d.safetensors;");
    cr_expect_not(there("z.safetensors") || there("c.safetensors"));
}

// An inpainting model of 9 channels and others of 4: those that all have are merged, in pieces of any length.
Test(convert, further_input_channels_stay) {
    enum { OUT = 70, WIDE = 9, LESS = 4, KERNEL = 9, ROW = WIDE * KERNEL, COMMON = LESS * KERNEL };
    static float in[OUT * ROW], plus[OUT * COMMON], minus[OUT * COMMON], got[OUT * ROW];
    char path[600];
    error err = {0};
    for (int i = 0; i < OUT * ROW; i++) in[i] = (float)(i % 1000);
    for (int i = 0; i < OUT * COMMON; i++) plus[i] = (float)(i % 77), minus[i] = (float)(i % 13);
    safetensors_item item = {.name = "w", .ndim = 4, .shape = {OUT, WIDE, 3, 3}, .data = in};
    put("in.safetensors", &item, 1);
    item.shape[1] = LESS;
    put("plus.safetensors", (item.data = plus, &item), 1);
    put("minus.safetensors", (item.data = minus, &item), 1);
    expect("cd \"$D\" && $C convert in.safetensors x.safetensors --merge plus.safetensors --minus "
           "minus.safetensors --weight 2",
           0, NULL, "'w': the first 4 of its 9 input channels are merged");
    snprintf(path, sizeof path, "%s/x.safetensors", folder);
    tensor_file *f = tensor_file_open(path, &err);
    cr_assert(f, "%s", err.text);
    cr_assert_eq(tensor_file_read_f32(f, tensor_file_find(f, "w"), 0, OUT * ROW, got, &err), OK, "%s",
                 err.text);
    for (int i = 0; i < OUT * ROW; i++) {
        int k = i / ROW * COMMON + i % ROW;
        float want = i % ROW < COMMON ? in[i] + 2 * (plus[k] - minus[k]) : in[i];
        cr_assert_eq(got[i], want, "%d: %g, not %g", i, got[i], want);
    }
    tensor_file_close(f);
    expect("cd \"$D\" && $C convert plus.safetensors y.safetensors --merge in.safetensors", 65, NULL,
           "in.safetensors: tensor 'w' is (70, 9, 3, 3), expected (70, 4, 3, 3)");
    expect("cd \"$D\" && $C convert in.safetensors y.safetensors --merge in.safetensors --minus "
           "plus.safetensors",
           65, NULL, "plus.safetensors: tensor 'w' is (70, 4, 3, 3), expected (70, 9, 3, 3)");
}

// A double is rounded once, not first to a float: both lie just above the middle of two neighbours.
Test(convert, doubles_are_rounded_once) {
    const double above[3] = {1 + 0x1p-11 + 0x1p-40, -1 - 0x1p-11 - 0x1p-40, 1 + 0x1p-11};
    uint16_t h[3];
    dtype_from_f64(DT_F16, above, h, 3);
    cr_expect_eq(f16_to_f32(h[0]), 1 + 0x1p-10f);
    cr_expect_eq(f16_to_f32(h[1]), -1 - 0x1p-10f);
    cr_expect_eq(f16_to_f32(h[2]), 1.f);
    const double below[3] = {1 + 0x1p-7 + 0x1p-8 - 0x1p-40, 1 + 0x1p-8 + 0x1p-40, 0x1.ffp127};
    dtype_from_f64(DT_BF16, below, h, 3);
    cr_expect_eq(bf16_to_f32(h[0]), 1 + 0x1p-7f);
    cr_expect_eq(bf16_to_f32(h[1]), 1 + 0x1p-7f);
    cr_expect(__builtin_isinf(bf16_to_f32(h[2])));
}

// ---- scaled 8-bit floats

Test(convert, scaled_eight_bit_floats) {
    const uint8_t w[4] = {0x38, 0xb8, 0x40, 0x08}; // 1, -1, 2, 2^-6 in E4M3
    const float scale = 0.3f, want[4] = {0.3f, -0.3f, 0.6f, 0.3f / 64};
    float got[4];
    error err = {0};
    char path[600];
    const safetensors_item items[] = {
        {.name = "l.weight", .type = DT_F8_E4M3, .ndim = 2, .shape = {2, 2}, .data = w},
        {.name = "l.scale_weight", .ndim = 1, .shape = {1}, .data = &scale},
        {.name = "l.scale_input", .ndim = 1, .shape = {1}, .data = &scale},
        {.name = "scaled_fp8", .type = DT_F8_E4M3, .ndim = 1, .shape = {2}, .data = w},
        {.name = "plain.weight", .type = DT_F8_E4M3, .ndim = 1, .shape = {2}, .data = w},
    };
    put("a.safetensors", items, 5);
    expect("cd \"$D\" && $C convert a.safetensors b.safetensors --dtype f32 && $C inspect b.safetensors", 0,
           "2 tensors, 6 values", NULL);
    snprintf(path, sizeof path, "%s/b.safetensors", folder);
    tensor_file *f = tensor_file_open(path, &err);
    cr_assert(f, "%s", err.text);
    cr_assert_eq(tensor_file_read_f32(f, tensor_file_find(f, "l.weight"), 0, 4, got, &err), OK, "%s",
                 err.text);
    cr_expect_arr_eq(got, want, sizeof want);
    cr_assert_eq(tensor_file_read_f32(f, tensor_file_find(f, "plain.weight"), 0, 2, got, &err), OK);
    cr_expect_eq(got[1], -1.f);
    tensor_file_close(f);
    expect("cd \"$D\" && $C convert -q a.safetensors c.safetensors && cmp a.safetensors c.safetensors", 0,
           NULL, NULL);

    const float rows[2] = {1, 2};
    const safetensors_item by_rows[] = {items[0],
                                        {.name = "l.scale_weight", .ndim = 2, .shape = {2, 1}, .data = rows}};
    put("d.safetensors", by_rows, 2);
    expect("cd \"$D\" && $C convert d.safetensors e.safetensors --dtype f32", 65, NULL,
           "'l.weight' is scaled fp8 with 2 scales");
}

// ---- files

Test(convert, shards_and_one_file) {
    expect("$C convert \"$M/unet\" \"$D/one.safetensors\"", 0, "one.safetensors", NULL);
    expect("cmp \"$D/one.safetensors\" \"$M/unet/diffusion_pytorch_model.safetensors\"", 0, NULL, NULL);
    expect("$C convert \"$D/one.safetensors\" \"$D/s.safetensors\" --max-shard-size 20k", 0,
           "s.safetensors.index.json", NULL);
    expect("ls \"$D\"/s-00001-of-0*.safetensors \"$D\"/s-00002-of-0*.safetensors", 0, NULL, NULL);
    expect("$C convert \"$D/s.safetensors.index.json\" \"$D/two.safetensors\" && "
           "cmp \"$D/one.safetensors\" \"$D/two.safetensors\"",
           0, NULL, NULL);
    // the shards stand for the network
    expect(
        "mv \"$M/unet/diffusion_pytorch_model.safetensors\" \"$D/away\" && "
        "$C convert -q \"$D/away\" \"$M/unet/diffusion_pytorch_model.safetensors\" --max-shard-size 50k && "
        "$C txt2img -q -m \"$M\" -p x --steps 1 -s 1 -o \"$D/x.png\"",
        0, NULL, NULL);
}

Test(convert, part_of_a_file) {
    expect("$C convert " GOLDEN "types.ckpt \"$D/r.safetensors\" --only scalar,random. && "
           "$C inspect \"$D/r.safetensors\"",
           0, "7 tensors", NULL);
    expect("$C convert " GOLDEN "types.ckpt \"$D/s.safetensors\" --only none,nothing", 65, NULL,
           "no tensor whose name begins with none,nothing");
}

Test(convert, nothing_is_replaced_unasked) {
    expect("echo mine >\"$D/a.safetensors\"; $C convert " GOLDEN "views.ckpt \"$D/a.safetensors\"", 73, NULL,
           "a.safetensors: exists already");
    expect("cat \"$D/a.safetensors\"", 0, "mine", NULL);
    expect("$C convert " GOLDEN "views.ckpt \"$D/a.safetensors\" --force --json", 0, "\"event\":\"done\"",
           NULL);
    // onto itself
    expect("$C convert \"$D/a.safetensors\" \"$D/a.safetensors\" --force && "
           "cmp \"$D/a.safetensors\" " GOLDEN "views.safetensors",
           0, NULL, NULL);
}

// ---- layouts

Test(convert, layouts) {
    expect("$C convert \"$M\" \"$D/one.safetensors\" --layout single -q --json", 0, "\"event\":\"done\"",
           NULL);
    expect(
        "$C convert \"$D/one.safetensors\" \"$D/new\" --layout diffusers --clip-vocab tests/golden/tokenizer "
        "--max-shard-size 50k",
        0, "/new\n", NULL);
    expect("ls \"$D/new/unet\"", 0, "diffusion_pytorch_model.safetensors.index.json", NULL);
    expect("cmp tests/golden/tokenizer/vocab.json \"$D/new/tokenizer/vocab.json\"", 0, NULL, NULL);
    expect("$C inspect -m \"$D/new\"", 0, "StableDiffusionPipeline", NULL);
    expect("ls -A \"$D\" | grep -c tmp", 1, "0", NULL);
    expect("$C convert \"$M\" \"$D/half.safetensors\" --layout single --dtype f16 && $C inspect "
           "\"$D/half.safetensors\"",
           0, "F16", NULL);
    expect("cd \"$D\" && XDG_DATA_HOME=/nowhere $C convert one.safetensors bare --layout diffusers", 0, NULL,
           "there is no vocabulary, so the tokenizer is left out");
    expect("cd \"$D\" && $C convert one.safetensors v --layout diffusers --prediction v -q && cat "
           "v/scheduler/*.json",
           0, "\"prediction_type\": \"v_prediction\"", NULL);
}

Test(convert, layouts_are_for_whole_models_and_new_folders) {
    expect("$C convert \"$M\" \"$D\" --layout diffusers", 73, NULL, "exists already");
    expect("touch \"$D/file\"; $C convert \"$M\" \"$D/file\" --layout diffusers --force", 73, NULL,
           "exists already");
    expect("$C convert \"$M\" \"$D/one\" --layout single", 2, NULL, "is called NAME.safetensors");
    expect("$C convert \"$M\" \"$D/x\" --layout diffusers --only unet", 2, NULL, "for whole models");
    expect("$C convert \"$M\" \"$D/x\" --layout diffusers --merge \"$M\"", 2, NULL, "for whole models");
    expect("$C convert \"$M/unet\" \"$D/x\" --layout diffusers", 66, NULL, "model_index.json");
}

Test(convert, a_lora_is_taken_from_whole_models) {
    expect("$C convert \"$M\" \"$D/x.safetensors\" --extract-lora \"$M\"", 65, NULL,
           "have no layer that differs");
    expect("$C convert \"$M\" \"$D/x.safetensors\" --extract-lora \"$M\" --layout single", 2, NULL,
           "into one file of numbers");
    expect("$C convert \"$M\" \"$D/x.safetensors\" --extract-lora \"$M\" --rank 0", 2, NULL, "rank");
}

#define LORA "tests/golden/merge_lora/"

Test(convert, loras_are_merged) {
    expect("$C convert \"$M\" \"$D/two\" -q --lora " LORA "kohya.safetensors:0.5 --lora " LORA
           "kohya.safetensors:.5 && $C convert \"$M\" \"$D/one\" -q --lora " LORA "kohya.safetensors && "
           "diff -r \"$D/one\" \"$D/two\"",
           0, NULL, NULL);
    expect("$C convert \"$M\" \"$D/none\" -q --lora " LORA "kohya.safetensors:0 && "
           "$C convert \"$M\" \"$D/plain\" -q --layout diffusers && diff -r \"$D/none\" \"$D/plain\" && "
           "! diff -rq \"$D/one\" \"$D/plain\"",
           0, "diffusion_pytorch_model.safetensors differ", NULL);
    expect("cp " LORA
           "peft.safetensors \"$D/a:b\" && $C convert -q \"$M\" \"$D/q.safetensors\" --layout single "
           "--dtype q8 --lora \"$D/a:b\" && $C inspect \"$D/q.safetensors\"",
           0, "calotype.quantised: q8", NULL);
    expect("$C convert \"$M\" \"$D/y\" --lora " LORA "peft.safetensors:1e999", 2, NULL, "no number");
    expect("$C convert \"$M\" \"$D/y\" --lora " LORA "peft.safetensors --only unet", 2, NULL, "whole models");
    expect("CALOTYPE_LORA=nowhere $C convert \"$M\" \"$D/y\"", 66, NULL, "nowhere");
    expect("CALOTYPE_LORA=nowhere $C convert \"$M\" \"$D/y\" --lora " LORA "peft.safetensors", 0, "/y", NULL);
    expect("$C convert \"$M\" \"$D/z\" $(for i in $(seq 33); do echo --lora x; done)", 2, NULL,
           "given more than 32 times");
}

// Killed at any moment, there is a whole folder or none.
Test(convert, a_killed_conversion_leaves_no_half_folder) {
    for (unsigned wait = 2000; wait < 2000000; wait *= 3) {
        bool killed = killed_after("$C convert \"$M\" new --layout diffusers -q", wait);
        if (!there("new")) continue;
        expect("cd \"$D\" && test -s new/unet/config.json && test -s new/vae/config.json && "
               "test -s new/model_index.json && rm -r new",
               0, NULL, NULL);
        if (!killed) return;
    }
}

static int leftovers(void) {
    result r = sh("cd \"$D\" && ls -A | grep -c '^\\.calotype-.*\\.tmp$'");
    int n = atoi(r.out);
    drop(r);
    return n;
}

// Kills a conversion at one moment after another until `seen` tells that it left something behind. The next
// one takes that away, but not what another process (this one) is still writing.
static void cleaned(const char *command, const char *seen) {
    int living = leftovers(), code = 1;
    char whole[300];
    for (unsigned wait = 1000; code; wait = wait > 1000000 ? 1000 : wait * 9 / 8) {
        result r = killed_after(command, wait) ? sh(seen) : (result){.code = 1};
        code = r.code;
        drop(r);
        expect("rm -rf \"$D\"/new*", 0, NULL, NULL);
    }
    cr_expect_eq(leftovers(), living + 1);
    snprintf(whole, sizeof whole, "cd \"$D\" && %s", command);
    expect(whole, 0, NULL, NULL);
    cr_expect_eq(leftovers(), living);
}

Test(convert, what_a_killed_conversion_left_is_removed, .timeout = 120) {
    char file[600], dir[600];
    error err = {0};
    snprintf(file, sizeof file, "%s/alive.safetensors", folder);
    snprintf(dir, sizeof dir, "%s/alive", folder);
    fs_writer *w = fs_writer_open(file, false, &err);
    fs_folder *f = fs_folder_new(dir, &err);
    cr_assert(w && f, "%s", err.text);
    cr_expect_eq(leftovers(), 2);
    cleaned("$C convert \"$M\" new/ --layout diffusers --max-shard-size 10k -q",
            "ls \"$D\"/.cal*.tmp/unet/*.safetensors");
    cleaned("$C convert \"$M/unet\" new.safetensors --max-shard-size 10k -q",
            "test $(ls -A \"$D\" | grep -c ^.cal) = 3");
    cr_expect_eq(fs_writer_commit(w, &err), OK, "%s", err.text);
    cr_expect_eq(fs_folder_commit(f, &err), OK, "%s", err.text);
    cr_expect(there("alive") && there("alive.safetensors") && !leftovers());
}

Test(convert, usage) {
    expect("$C convert a.ckpt", 2, NULL, "convert needs a file to read and one to write");
    expect("$C convert a.ckpt b.ckpt", 2, NULL, "what is written is called NAME.safetensors");
    expect("$C convert a.ckpt b.safetensors", 66, NULL, "a.ckpt");
    expect("$C convert a.ckpt b.safetensors --minus c", 2, NULL, "--minus needs --merge");
    expect("$C convert a.ckpt b.safetensors --weight 0.5", 2, NULL, "--weight needs --merge");
    expect("$C convert a.ckpt b.safetensors --vae c", 2, NULL, "--vae needs --layout or --lora");
    expect("$C convert a.ckpt b.safetensors --clip-vocab c --layout keep", 2, NULL, "--clip-vocab needs");
    expect("$C convert a.ckpt b.safetensors --prediction v --extract-lora c", 2, NULL, "--prediction needs");
    expect("$C convert a.ckpt b.safetensors --rank 4", 2, NULL, "--rank needs --extract-lora");
    expect("$C convert a.ckpt b.safetensors --clamp 1", 2, NULL, "--clamp needs --extract-lora");
    expect("$C convert a.ckpt b.safetensors --lora-names kohya", 2, NULL,
           "--lora-names needs --extract-lora");
    // said to all commands
    expect("CALOTYPE_VAE=c CALOTYPE_PREDICTION=v CALOTYPE_RANK=4 $C convert " GOLDEN
           "views.ckpt \"$D/v.safetensors\"",
           0, "v.safetensors", NULL);
    for (const char *const *bad = (const char *const[]){"0", "-1", "5X", "5GB", "G", "nan", "", NULL}; *bad;
         bad++) {
        char command[100];
        snprintf(command, sizeof command, "$C convert a b.safetensors --max-shard-size '%s'", *bad);
        expect(command, 2, NULL, "not a size such as 5G");
    }
    expect("$C convert " GOLDEN "old_format.pt \"$D/o.safetensors\"", 65, NULL, "the format before 1.6");
}

Test(convert, requests_are_checked) {
    calo_context *ctx;
    cr_assert_eq(calo_context_new(NULL, &ctx), CALO_OK);
    calo_convert_request r = calo_convert_defaults();
    cr_expect_eq(calo_convert(ctx, &r), CALO_ERR_USAGE);
    r.in = r.out = "x.safetensors";
    r.type = (calo_weights_type)9;
    cr_expect_eq(calo_convert(ctx, &r), CALO_ERR_USAGE);
    r.type = CALO_WEIGHTS_F32;
    r.max_shard = -1;
    cr_expect_eq(calo_convert(ctx, &r), CALO_ERR_USAGE);
    r.max_shard = 0;
    r.minus = "y";
    cr_expect_eq(calo_convert(ctx, &r), CALO_ERR_USAGE);
    r.minus = NULL;
    r.layout = (calo_layout)9;
    cr_expect_eq(calo_convert(ctx, &r), CALO_ERR_USAGE);
    r.layout = CALO_LAYOUT_SINGLE;
    r.prediction = CALO_PREDICT_X0;
    cr_expect_eq(calo_convert(ctx, &r), CALO_ERR_USAGE);
    r.size = 3;
    cr_expect_eq(calo_convert(ctx, &r), CALO_ERR_USAGE);
    calo_context_free(ctx);
}
