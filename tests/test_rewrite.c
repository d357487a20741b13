// Models rewritten in the other layout: files to folders and back, and what cannot be.
#include "core/base/fs.h"
#include "core/base/mem.h"
#include "core/files/safetensors.h"
#include "tests/ldm_file.h"
#include "tests/tiny_model.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

TestSuite(rewrite, .init = ldm_begin, .fini = ldm_end, .timeout = 300);

// All tensors of a file are in the other, of the same type, shape and bytes, and `more` besides.
static void same_tensors(const char *one, const char *other, size_t more) {
    error err = {0};
    model_files *a = model_files_open(one, NULL, &err), *b = model_files_open(other, NULL, &err);
    cr_assert(a && b, "%s", err.text);
    cr_expect_eq(model_files_count(a) + more, model_files_count(b), "%s, %s", one, other);
    for (size_t i = 0; i < model_files_count(a); i++) {
        model_tensor x = model_files_at(a, i), y;
        const tensor_entry *t = x.tensor;
        cr_assert_eq(model_files_need(b, t->name, t->ndim, t->shape, &y, &err), OK, "%s", err.text);
        cr_assert_eq(t->type, y.tensor->type, "%s", t->name);
        char *p = mem_alloc(t->bytes), *q = mem_alloc(t->bytes);
        cr_assert_eq(tensor_file_read(x.file, t, 0, t->count, p, &err), OK);
        cr_assert_eq(tensor_file_read(y.file, y.tensor, 0, t->count, q, &err), OK);
        cr_expect_arr_eq(p, q, t->bytes, "%s", t->name);
        mem_free(p);
        mem_free(q);
    }
    model_files_close(a);
    model_files_close(b);
}

static void same_folders(const char *one, const char *other) {
    for (model_part p = 0; p < N_PARTS; p++) {
        char a[300], b[300];
        snprintf(a, sizeof a, "%s/%s", one, model_part_name(p));
        snprintf(b, sizeof b, "%s/%s", other, model_part_name(p));
        cr_expect_eq(fs_is_dir(a), fs_is_dir(b), "%s", b);
        if (fs_is_dir(a)) same_tensors(a, b, 0);
    }
}

static void networks_fit(const char *path, model_part without) {
    static const model_part PARTS[N_NETS] = {PART_TEXT_ENCODER, PART_TEXT_ENCODER_2, PART_UNET, PART_VAE,
                                             PART_VAE};
    error err = {0};
    model *m = model_open(path, NULL, &err);
    cr_assert_not_null(m, "%s", err.text);
    for (network net = 0; net < N_NETS; net++)
        if (PARTS[net] != without) cr_expect_eq(model_check(m, net, &err), OK, "%s", err.text);
    model_free(m);
}

// A file, a folder, a file, a folder.
static void there_and_back(const char *name, const changes *c, model_part without) {
    char file[200], dir[200], back[200], again[200];
    if (!list.n) read_list(name);
    strcpy(file, write_file(name, c));
    snprintf(dir, sizeof dir, "%s/a", folder);
    snprintf(back, sizeof back, "%s/back.safetensors", folder);
    snprintf(again, sizeof again, "%s/b/", folder);
    rewrites(file, dir, CALO_LAYOUT_DIFFUSERS, CALO_PREDICT_EPS);
    networks_fit(dir, without);
    rewrites(dir, back, CALO_LAYOUT_SINGLE, CALO_PREDICT_AUTO);
    same_tensors(back, file, 0);
    rewrites(back, again, CALO_LAYOUT_DIFFUSERS, CALO_PREDICT_AUTO);
    same_folders(dir, again);
    remove_tree(dir);
    remove_tree(again);
    cr_assert_eq(unlink(back), 0);
}

Test(rewrite, sd1_goes_to_a_folder_and_back) {
    const char *in = "model.diffusion_model.input_blocks.0.0.weight";
    there_and_back("sd1", &(changes){0}, PART_TEXT_ENCODER_2);
    there_and_back("sd1", &(changes){.reshape = in, .axis = 1, .size = 9}, PART_TEXT_ENCODER_2);
    there_and_back("sd1", &(changes){.reshape = in, .axis = 1, .size = 8}, PART_TEXT_ENCODER_2);
}

Test(rewrite, sd2_goes_to_a_folder_and_back) { there_and_back("sd2", &(changes){0}, PART_TEXT_ENCODER_2); }

Test(rewrite, sdxl_goes_to_a_folder_and_back) {
    const changes pruned = {
        .leave_out = {"middle_block.1.", "middle_block.2.", "output_blocks.1.1.transformer_blocks.1."}};
    there_and_back("sdxl", &(changes){0}, N_PARTS);
    there_and_back("sdxl", &pruned, N_PARTS);
}

// Its one text encoder has the place of SDXL's first; the numbers beside the text are five.
Test(rewrite, the_refiner_goes_to_a_folder_and_back) {
    const changes c = {.leave_out = {"conditioner.embedders.0."},
                       .from = "conditioner.embedders.1.model.",
                       .to = "conditioner.embedders.0.model.",
                       .reshape = "model.diffusion_model.label_emb.0.0.weight",
                       .axis = 1,
                       .size = 128 + 5 * 256};
    there_and_back("sdxl", &c, PART_TEXT_ENCODER);
    error err = {0};
    model *m = model_open(write_file("sdxl", &c), NULL, &err);
    cr_assert_not_null(m, "%s", err.text);
    cr_expect(model_is_refiner(m));
    cr_expect_eq(model_unet(m, &err)->time_ids, TIME_IDS_SCORE, "%s", err.text);
    expect_finding(m, "kind", "SDXL refiner");
    expect_finding(m, "task", REFINER_TASK);
    model_free(m);
}

Test(rewrite, a_folder_goes_to_a_file_and_back) {
    static const char *const NAMES[] = {"sd", "sdxl"};
    for (int i = 0; i < 2; i++) {
        char dir[200], file[200], again[200];
        tiny_model_write(NAMES[i], i ? "v" : "eps", dir, sizeof dir);
        snprintf(file, sizeof file, "%s/%s.safetensors", folder, NAMES[i]);
        snprintf(again, sizeof again, "%s/%s", folder, NAMES[i]);
        rewrites(dir, file, CALO_LAYOUT_SINGLE, CALO_PREDICT_AUTO);
        rewrites(file, again, CALO_LAYOUT_DIFFUSERS, CALO_PREDICT_AUTO);
        same_folders(dir, again);
        error err = {0};
        model *m = model_open(file, NULL, &err);
        cr_assert_not_null(m, "%s", err.text);
        expect_finding(m, "prediction", i ? "v_prediction" : "epsilon");
        model_free(m);
        tiny_model_remove(dir);
    }
}

// They become what the scheduler's file says, and are made of it again.
Test(rewrite, marks_go_to_a_folder_and_back) {
    char file[200], dir[200], back[200];
    read_list("sdxl");
    strcpy(file, write_file("sdxl", &(changes){.add = {"v_pred", "ztsnr"}}));
    snprintf(dir, sizeof dir, "%s/a", folder);
    snprintf(back, sizeof back, "%s/back.safetensors", folder);
    rewrites(file, dir, CALO_LAYOUT_DIFFUSERS, CALO_PREDICT_AUTO);
    rewrites(dir, back, CALO_LAYOUT_SINGLE, CALO_PREDICT_AUTO);
    same_tensors(file, back, 0);
}

// Where nothing in the file says what SD 2 predicts, the new files say what the UNet was found to.
Test(rewrite, sd2_is_asked_before_its_files_are_written) {
    char file[200], out[200];
    error err = {0};
    read_list("sd2");
    strcpy(file, write_file("sd2", &(changes){0}));
    snprintf(out, sizeof out, "%s/out.safetensors", folder);
    rewrites(file, out, CALO_LAYOUT_SINGLE, CALO_PREDICT_AUTO);
    model *m = model_open(out, NULL, &err);
    cr_assert_not_null(m, "%s", err.text);
    expect_finding(m, "prediction", "v_prediction");
    model_free(m);
}

static void not_rewritten(const char *in, calo_layout layout, const char *says) {
    char out[200], message[400];
    snprintf(out, sizeof out, "%s/out.safetensors", folder);
    cr_expect_eq(rewrite(in, out, layout, CALO_PREDICT_EPS, message), CALO_ERR_DATA);
    cr_expect(strstr(message, says), "%s", message);
    cr_expect_not(fs_exists(out));
}

Test(rewrite, files_that_cannot_become_a_folder_leave_none) {
    read_list("sd1");
    const changes twice = {.add = {"cond_stage_model.transformer.encoder.layers.0.layer_norm1.bias"}};
    not_rewritten(write_file("twice", &twice), CALO_LAYOUT_DIFFUSERS, "are the same tensor of the network");
    not_rewritten(write_file("bare", &(changes){.leave_out = {"input_blocks.0.0.weight"}}),
                  CALO_LAYOUT_DIFFUSERS, "input_blocks.0.0.weight' is missing");
    char **names;
    size_t n;
    cr_assert_eq(fs_list(folder, &names, &n, NULL), OK);
    cr_expect_eq(n, 2, "only the two files are there");
    fs_list_free(names, n);
}

static void put_one(const char *dir, const char *file, const char *name) {
    char path[300];
    const float v[4] = {0};
    snprintf(path, sizeof path, "%s/%s", dir, file);
    cr_assert_eq(safetensors_save(path,
                                  &(safetensors_item){.name = name, .ndim = 2, .shape = {2, 2}, .data = v}, 1,
                                  NULL, 0, true, NULL),
                 OK);
}

Test(rewrite, tensors_without_a_place_in_the_original_layout) {
    char dir[200];
    read_list("sd2");
    snprintf(dir, sizeof dir, "%s/whole", folder);
    rewrites(write_file("sd2", &(changes){0}), dir, CALO_LAYOUT_DIFFUSERS, CALO_PREDICT_EPS);
    put_one(dir, "text_encoder/model.safetensors", "encoder.layers.0.self_attn.q_proj.weight");
    not_rewritten(dir, CALO_LAYOUT_SINGLE, "in_proj_weight' is q, k and v, which are not all there");
    put_one(dir, "unet/diffusion_pytorch_model.safetensors", "class_embedding.weight");
    not_rewritten(dir, CALO_LAYOUT_SINGLE, "'class_embedding.weight' has no name in the original layout");
}
