#include "core/files/recognise.h"

#include <string.h>

static bool holds(const tensor_file *f, const char *part, const tensor_entry **found) {
    for (size_t i = 0; i < tensor_file_count(f); i++) {
        const tensor_entry *t = tensor_file_at(f, i);
        if (!strstr(t->name, part)) continue;
        *found = t;
        return true;
    }
    return false;
}

// The first row whose part is in some tensor's name decides: rarer marks stand before the commoner ones that
// come with them. `down`: the tensor's first dimension is the rank.
static const struct {
    const char *part, *kind;
    bool down;
} MARKS[] = {
    {"lora_controlnet", "Control-LoRA", false},
    {"controlnet_cond_embedding", "ControlNet", false},
    {"input_hint_block", "ControlNet", false},
    {"motion_modules", "AnimateDiff motion module", false},
    {"ip_adapter.", "IP-Adapter", false},
    {"image_proj.", "IP-Adapter", false},
    {".hada_w1_b", "LoHa", true},
    {".lokr_w1", "LoKr", false},
    {".oft_blocks", "OFT", false},
    {".ia3_l", "IA3", false},
    {".on_input", "IA3", false},
    {".a1.weight", "GLoRA", false},
    {".dora_scale", "DoRA", false},
    {".lora_magnitude_vector", "DoRA", false},
    {".lora_mid.weight", "LoCon (Tucker)", false},
    {".lora_down.weight", "LoRA", true},
    {".lora_A", "LoRA", true},
    {"lora.down.weight", "LoRA", true},
    {"_lora.down.weight", "LoRA", true},
    {".lora_linear_layer.down.weight", "LoRA", true},
    {".diff_b", "full difference", false},
    {"emb_params", "textual inversion", false},
    {"clip_g", "textual inversion", false},
    {"model.diffusion_model.", "checkpoint in one file", false},
    {"conditioner.embedders.", "checkpoint in one file", false},
    {"time_embedding.linear_1.weight", "UNet", false},
    {"decoder.conv_in.weight", "VAE", false},
    {"text_model.embeddings.token_embedding.weight", "CLIP text encoder", false},
};

// Width of the text that a cross-attention's keys read, or of a token: it tells the family.
static const char *base_of(const tensor_file *f) {
    static const char *const READERS[] = {"attn2.to_k.weight",        "attn2_to_k.lora_down.weight",
                                          "attn2.to_k.lora_A.weight", "to_k_ip.weight",
                                          "attn2_to_k.hada_w1_b",     "emb_params"};
    const tensor_entry *t;
    if (holds(f, "lora_te2_", &t) || holds(f, "clip_g", &t) || holds(f, "conditioner.embedders.1", &t))
        return "SDXL";
    for (size_t i = 0; i < sizeof READERS / sizeof *READERS; i++) {
        if (!holds(f, READERS[i], &t) || t->ndim < 2) continue;
        int64_t width = t->shape[1];
        return width == 768 ? "SD 1.x" : width == 1024 ? "SD 2.x" : width == 2048 ? "SDXL" : "";
    }
    return "";
}

recognised recognise(const tensor_file *f) {
    const tensor_entry *t;
    recognised r = {"", base_of(f), 0};
    for (size_t i = 0; i < sizeof MARKS / sizeof *MARKS; i++) {
        if (!holds(f, MARKS[i].part, &t)) continue;
        r.kind = MARKS[i].kind;
        if (MARKS[i].down && t->ndim >= 2) r.rank = t->shape[0];
        return r;
    }
    return r;
}
