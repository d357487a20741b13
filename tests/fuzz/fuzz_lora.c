// libFuzzer: a LoRA file of any content, merged twice into a model of a few layers. What is taken changes
// some layer, by the same finite numbers in one piece, in two and transposed; what is not is told why.
#include "core/models/merge_lora.h"
#include "core/models/part_tensors.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/listing.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

// ---- the model, a folder: shapes alone count

static const char INDEX[] = "{\"_class_name\": \"StableDiffusionXLPipeline\","
                            " \"unet\": [\"diffusers\", \"UNet2DConditionModel\"],"
                            " \"text_encoder\": [\"transformers\", \"CLIPTextModel\"],"
                            " \"text_encoder_2\": [\"transformers\", \"CLIPTextModelWithProjection\"]}";
static const char UNET[] = "{\"block_out_channels\": [32, 64], \"attention_head_dim\": 8,"
                           " \"down_block_types\": [\"CrossAttnDownBlock2D\", \"DownBlock2D\"],"
                           " \"up_block_types\": [\"UpBlock2D\", \"CrossAttnUpBlock2D\"]}";

// The layers of tests/golden/merge_lora, and what is none, as listing.h wants them.
#define ATTENTION "down_blocks.0.attentions.0.transformer_blocks.0.attn"
static const char UNET_TENSORS[] = "diffusion_pytorch_model\n" ATTENTION "1.to_q.weight 8 8\n" ATTENTION
                                   "1.to_out.0.weight 8 8\n" ATTENTION "2.to_k.weight 8 12\n"
                                   "down_blocks.0.resnets.0.conv1.weight 8 8 3 3\n"
                                   "mid_block.attentions.0.proj_in.weight 16 16 1 1\n"
                                   "conv_norm_out.weight 8\n"
                                   "conv_in.bias 8";
static const char TEXT_TENSORS[] = "model\n"
                                   "text_model.encoder.layers.0.self_attn.q_proj.weight 12 12\n"
                                   "text_model.encoder.layers.1.mlp.fc1.weight 24 12\n"
                                   "text_projection.weight 12 12";

enum { MOST = 8 * 8 * 9 }; // values of the largest

static model *tiny;
static part_tensors parts[N_PARTS];

static void write_text(const char *dir, const char *name, const char *text) {
    char path[100];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    fuzz_write(path, text, strlen(text));
}

static void write_part(const char *dir, model_part p, const char *tensors) {
    char folder[100];
    snprintf(folder, sizeof folder, "%s/%s", dir, model_part_name(p));
    if (mkdir(folder, 0700) || !listing_write(folder, (const uint8_t *)tensors, strlen(tensors))) abort();
    if (p == PART_UNET) write_text(folder, "config.json", UNET);
}

// The model keeps what it has read, so nothing of it fails while an input is read.
void fuzz_start(void) {
    char dir[64];
    error err = {0};
    fuzz_folder(dir);
    write_text(dir, "model_index.json", INDEX);
    write_part(dir, PART_UNET, UNET_TENSORS);
    write_part(dir, PART_TEXT_ENCODER, TEXT_TENSORS);
    write_part(dir, PART_TEXT_ENCODER_2, TEXT_TENSORS);
    if (!(tiny = model_open(dir, NULL, &err))) abort();
    for (model_part p = 0; p < N_PARTS; p++)
        if (model_has(tiny, p) && part_tensors_list(&parts[p], tiny, p, NULL, &err)) abort();
    if (!model_unet(tiny, &err)) abort();
}

// ---- the sum

static void check_layer(const part_tensor *t, const value_change *plain, const value_change *turned) {
    double whole[MOST] = {0}, pieces[MOST] = {0}, across[MOST] = {0};
    size_t n = t->tensor.count, O = (size_t)t->tensor.shape[0], K = n / O, first = n / 3;
    plain->add(plain, 0, n, whole);
    plain->add(plain, 0, first, pieces);
    plain->add(plain, first, n - first, pieces + first);
    turned->add(turned, 0, n, across);
    for (size_t i = 0; i < n; i++)
        if (!isfinite(whole[i]) || pieces[i] != whole[i] || across[i % K * O + i / K] != whole[i]) abort();
}

static void check_changes(const lora_changes *l) {
    size_t changed = 0;
    for (model_part p = 0; p < N_PARTS; p++)
        for (size_t i = 0; i < parts[p].n; i++) {
            const part_tensor *t = &parts[p].tensors[i];
            const value_change *plain = lora_change(l, p, t->name, false);
            if (plain) check_layer(t, plain, lora_change(l, p, t->name, true));
            changed += plain != NULL;
        }
    if (!changed) abort();
}

void fuzz_input(const uint8_t *data, size_t n) {
    error err = {0};
    const char *path = fuzz_file(data, n);
    const lora_source twice[] = {{path, 0.5}, {path, -2}};
    lora_changes *l = lora_changes_open(tiny, twice, 2, &err);
    if (!l && (!err.code || !*err.text)) abort();
    if (l) check_changes(l);
    lora_changes_free(l);
}
