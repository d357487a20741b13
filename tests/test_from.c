// Pictures drawn again from what a file says: --from, with our own description and with what others write.
#include "cli/infotext.h"
#include "cli/metadata.h"
#include "tests/shell.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

TestSuite(from, .init = shell_begin, .fini = shell_end);

Test(from, repeats_a_picture_bit_for_bit) {
    expect("$C txt2img -q -m \"$M\" -p 'a boat, \"red\" CØ' --steps 3 -s 77 --cfg-scale 3.3000000000000003 "
           "--cfg-rescale 0.1 --sampling-method euler_a --scheduler trailing --prediction x0 --zero-snr "
           "--rng nv --eta 0.7 --s-noise 0.95 --cfg-end 0.6000000000000001 --noise-layout comfy --ensd 3 "
           "--step-noise brownian --sampler-rng cpu -W 48 -H 32 -o \"$D/a.png\"",
           0, NULL, NULL);
    for (const char *const *e = (const char *const[]){"png", "jpg", "webp", NULL}; *e; e++) {
        char line[512];
        snprintf(line, sizeof line,
                 "cd \"$D\" && export CALOTYPE_STEPS=9 && $C txt2img -q -m \"$M\" --from a.png -o b.%s && "
                 "$C txt2img -q -m \"$M\" --from b.%s -o c_%s.png && cmp a.png c_%s.png",
                 *e, *e, *e, *e);
        expect(line, 0, NULL, "");
    }
    expect("$C txt2img -m \"$M\" --from \"$D/a.png\" --steps 2 -o \"$D/d.png\" && $C inspect \"$D/d.png\"", 0,
           "Steps: 2, Sampler: Euler a, CFG scale: 3.3, Seed: 77", NULL);
    expect("$C txt2img --from \"$D/a.png\" -o \"$D/e.png\"", 65, NULL, "another model");
    expect("$C txt2img -m \"$M\" --from tests/golden/files/rgb.png -o \"$D/e.png\"", 65, NULL,
           "does not say");
    expect("$C txt2img -m \"$M\" --from \"$D/none.png\" -o \"$D/e.png\"", 66, NULL, "none.png");
    expect(
        "cp -r \"$M\" \"$D/other\" && printf '\\1' | dd "
        "of=\"$D/other/unet/diffusion_pytorch_model.safetensors\" "
        "bs=1 conv=notrunc seek=$(($(wc -c < \"$D/other/unet/diffusion_pytorch_model.safetensors\") - 3)) && "
        "$C txt2img -m \"$D/other\" --from \"$D/a.png\" -o \"$D/f.png\"",
        0, NULL, "was made with the model");
}

// What it begins from has to be named again; everything else is in the file.
Test(from, repeats_what_began_from_a_picture) {
    expect(
        "cd \"$D\" && $C txt2img -q -m \"$M\" -p 'a boat' --steps 2 -s 1 -o first.png && "
        "$C txt2img -q -m \"$M\" -p 'a (red:1.25) [boat|fog]' -n '[b]' --emphasis comfy --clip-skip 2 "
        "--steps 4 -s 5 "
        "-i first.png --mask first.png --strength 0.7 --mask-blur 1 --mask-content noise --inpaint-full-res "
        "--mask-padding 3 --outpaint 4,0,4,0 -W 32 -H 32 --resize-mode crop --sampling-method euler_a -o "
        "a.png",
        0, NULL, NULL);
    expect("cd \"$D\" && $C txt2img -q -m \"$M\" --from a.png -i first.png --mask first.png -o b.png && cmp "
           "a.png b.png",
           0, NULL, "");
    expect("$C inspect \"$D/a.png\"", 0,
           "Denoising strength: 0.7, Mask blur: 1, Inpaint area: Only masked, Masked area padding: 3, Clip "
           "skip: 2, "
           "Emphasis: Comfy",
           NULL);
    expect("cd \"$D\" && $C txt2img -m \"$M\" --from a.png -o c.png", 65, NULL, "name it with --init-img");
    expect("cd \"$D\" && $C txt2img -m \"$M\" --from a.png -i first.png -o c.png", 65, NULL,
           "name it with --mask");
}

Test(from, repeats_a_picture_that_was_drawn_over) {
    expect("cd \"$D\" && $C txt2img -q -m \"$M\" -p 'a [boat:house:1.5]' --steps 2 -W 24 -H 24 -s 3 --hires "
           "--hires-scale 1.5 --hires-steps 3 --hires-denoise 0.6 --hires-upscaler lanczos -b 2 -o a.png && "
           "$C txt2img -q -m \"$M\" --from a-2.png -o b.png && cmp a-2.png b.png",
           0, NULL, "");
    expect("$C inspect \"$D/a-1.png\"", 0,
           "Denoising strength: 0.6, Hires upscale: 1.5, Hires steps: 3, Hires upscaler: Lanczos", NULL);
}

// One generator draws for the batch, and one picture comes back.
Test(from, repeats_a_picture_of_a_batch_that_shares_its_noise) {
    static const char *const HOW[] = {"comfy --sampling-method euler_a",
                                      "diffusers --sampling-method euler_a",
                                      "comfy --sampling-method dpmpp_sde"};
    char line[500];
    for (size_t i = 0; i < sizeof HOW / sizeof *HOW; i++) {
        snprintf(line, sizeof line,
                 "cd \"$D\" && T=\"$C txt2img -q -m $M --force\" && "
                 "$T -p 'a boat' --steps 3 -s 77 -W 24 -H 32 -b 3 -o a.png --noise-layout %s && "
                 "for i in 1 2 3; do $T --from a-$i.png -o b.png && cmp a-$i.png b.png || exit 9; done && "
                 "$T --from a-2.png -b 2 -s 78 -o b.png && cmp a-3.png b-2.png",
                 HOW[i]);
        expect(line, 0, NULL, "");
    }
    expect("cd \"$D\" && $C txt2img -m \"$M\" --from a-3.png -b 2 -o c.png", 2, "", "of a batch of 3");
}

Test(from, tells_of_another_autoencoder) {
    expect("cd \"$D\" && cp -r \"$M/vae\" other-vae && printf '\\1' | dd conv=notrunc bs=1 "
           "of=other-vae/diffusion_pytorch_model.safetensors "
           "seek=$(($(wc -c < other-vae/diffusion_pytorch_model.safetensors) - 3))",
           0, NULL, NULL);
    expect("cd \"$D\" && T=\"$C txt2img -m $M\" && $T -p x --steps 1 -s 5 -o a.png && "
           "$T -p x --steps 1 -s 5 --vae other-vae -o v.png && $T --from v.png --vae other-vae -o w.png "
           "2>told && "
           "cmp v.png w.png && $T --from a.png -o b.png 2>>told && ! cmp -s a.png v.png && grep warning told",
           1, NULL, NULL);
    expect("$C inspect \"$D/v.png\" | grep 'VAE hash: [0-9a-f]\\{10\\}, VAE: other-vae, '", 0, NULL, "");
    expect("cd \"$D\" && $C txt2img -m \"$M\" --from v.png -o x.png", 0, NULL,
           "v.png was made with the autoencoder other-vae, this is that of the model");
    expect("cd \"$D\" && $C txt2img -m \"$M\" --vae other-vae --from a.png -o y.png", 0, NULL,
           "a.png was made with the autoencoder of its model, this is other-vae");
    save_with_text("c.png", "parameters",
                   "x\nSteps: 1, Sampler: Euler, VAE hash: 0123456789, VAE: other-vae");
    expect("cd \"$D\" && $C txt2img -m \"$M\" --vae other-vae --from c.png -o z.png", 0, NULL,
           "made with the autoencoder 0123456789, this is ");
}

Test(from, tells_that_enlarging_is_not_repeated) {
    save_with_text(
        "large.png", "calotype",
        "{\"format\": 1, \"prompt\": \"x\", \"steps\": 1, \"model\": \"talbot\", \"upscale\": {}}");
    expect("cd \"$D\" && $C txt2img -m \"$M\" --from large.png -o a.png", 0, NULL,
           "was made larger afterwards");
}

// What A1111 writes, and what it means by what it leaves out.
Test(from, reads_the_words_of_a1111) {
    static const struct {
        const char *fields, *says;
    } cases[] = {
        {"Sampler: DPM++ 2M SDE Karras, CFG scale: 3, Seed: 9, Size: 48x32, Model hash: 0123456789, RNG: "
         "CPU, "
         "Version: v1.6.0",
         "Steps: 2, Sampler: DPM++ 2M SDE, Schedule type: Karras, CFG scale: 3, Seed: 9, Size: 48x32"},
        {"Sampler: DPM++ 2M, Schedule type: Exponential, Seed: 9, RNG: NV",
         "Sampler: DPM++ 2M, Schedule type: Exponential"},
        {"Sampler: DPM++ 3M SDE, Schedule type: Automatic, Seed: 9", "Schedule type: Exponential"},
        {"Sampler: DPM++ 2M, Schedule type: Automatic, Seed: 9", "Schedule type: Karras"},
        {"Sampler: DPM++ 2M, Seed: 9", "Sampler: DPM++ 2M, Schedule type: Normal"},
        {"Sampler: Euler, Schedule type: SGM Uniform, Seed: 9", "Sampler: Euler, Schedule type: SGM Uniform"},
        {"Sampler: Euler a, Schedule type: Uniform, Seed: 9", "Sampler: Euler a, Schedule type: Normal"},
        {"Sampler: DPM fast, Seed: 9", "Sampler: DPM fast, Schedule type: Normal"},
        {"Sampler: DPM adaptive, Seed: 9", "Eta: 1"},
        {"Sampler: Restart, Seed: 9", "RNG: NV"}, // of a GPU, where it does not say
        {"Sampler: Euler, Seed: 9, Lora hashes: \"a: 12, b: 34\", Clip skip: 2, Model: \"x, y\"",
         "Clip skip: 2"},
        {"Sampler: Euler, Seed: 9, Hires upscale: 1.5, Denoising strength: 0.6, Hires upscaler: Latent",
         "Denoising strength: 0.6, Hires upscale: 1.5"},
    };
    char text[600], line[500];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        snprintf(text, sizeof text, "a boat\nin fog\nNegative prompt: rain,\nSteps: 1, wind\nSteps: 2, %s",
                 cases[i].fields);
        save_with_text("a1111.png", "parameters", text);
        snprintf(line, sizeof line,
                 "cd \"$D\" && $C txt2img -q -m \"$M\" --from a1111.png -o b%zu.png && $C inspect b%zu.png",
                 i, i);
        expect(line, 0, cases[i].says, "");
    }
    expect("$C inspect \"$D/b0.png\"", 0,
           "a boat\nin fog\nNegative prompt: rain,\nSteps: 1, wind\nSteps: 2, ", "");
    expect("cd \"$D\" && $C txt2img --from a1111.png", 65, "", "another model");
    save_with_text("c.png", "parameters", "a boat\nSteps: 2, Sampler: Euler, Denoising strength: 0.4");
    expect("cd \"$D\" && $C txt2img -m \"$M\" --from c.png", 65, "", "--init-img");
    save_with_text("c.png", "parameters", "a boat\nSteps: 2000, Sampler: Euler");
    expect("cd \"$D\" && $C txt2img -m \"$M\" --from c.png", 65, "", "steps");
    save_with_text("c.png", "parameters", "a boat\nSteps: 2, Sampler: Fast");
    expect("cd \"$D\" && $C txt2img -m \"$M\" --from c.png", 2, "", "'Fast'");
}

// What changes the picture and is not read, or not from the picture.
Test(from, tells_what_it_does_not_repeat_of_a1111) {
    static const struct {
        const char *prompt, *fields, *told;
    } cases[] = {
        {"x", "Lora hashes: \"a: 12, b: 34\"", "not repeated: Lora hashes: a: 12, b: 34"},
        {"x", "TI hashes: \"a: 12\"", "not repeated: TI hashes: a: 12"},
        {"x", "Variation seed: 5, Variation seed strength: 0.3",
         "not repeated: Variation seed strength: 0.3"},
        {"x", "Seed resize from: 8x8", "not repeated: Seed resize from: 8x8"},
        {"x", "Refiner: a [0123456789], Refiner switch at: 0.8", "not repeated: Refiner: a [0123456789]"},
        {"x", "Hires upscale: 1.5, Hires sampler: Euler", "not repeated: Hires sampler: Euler"},
        {"x", "ControlNet 0: \"Module: canny, Weight: 1\"",
         "not repeated: ControlNet 0: Module: canny, Weight"},
        {"x", "Tiling: True", "not repeated: Tiling: True"},
        {"x", "Face restoration: a\033[2J", "not repeated: Face restoration: a?[2J"},
        {"x", "VAE: a.safetensors", "made with the autoencoder a.safetensors, this is that of the model"},
        {"x <hypernet:a:1>", "Clip skip: 1", "its hypernetworks are left out"},
        {"x <lora:a:1>", "Clip skip: 1", "<lora:a:1> in the prompt is read as words"},
    };
    char text[300];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        snprintf(text, sizeof text, "%s\nSteps: 2, Sampler: Euler, %s, Model: dream", cases[i].prompt,
                 cases[i].fields);
        save_with_text("a1111.png", "parameters", text);
        expect("cd \"$D\" && $C txt2img -m \"$M\" --from a1111.png -o b.png --force 2>told; cat told >&2", 0,
               NULL, cases[i].told);
        expect("cat \"$D/told\"", 0, "made with the model dream", NULL);
    }
    save_with_text("a1111.png", "parameters",
                   "x\nSteps: 2, Sampler: Euler, Denoising strength: 0.5, Mask blur: 4");
    expect("cd \"$D\" && $C txt2img -m \"$M\" --from a1111.png -i b.png", 65, "", "name it with --mask");
    expect("cd \"$D\" && $C txt2img -m \"$M\" --from a1111.png -i b.png --mask b.png -o c.png", 0, NULL,
           NULL);
}

Test(from, tells_of_networks_in_a_prompt) {
    expect(
        "cd \"$D\" && $C txt2img -m \"$M\" -p 'x <lora:> <lyco' -n 'y <lyco:foo:0.8> <lyco:b>' --steps 1 -o "
        "a.png",
        0, NULL, "warning: <lyco:foo:0.8> in the prompt is read as words; merge a LoRA with");
    expect("cd \"$D\" && $C txt2img -m \"$M\" -p 'x <lora:>, <b' --steps 1 -o b.png 2>&1 | grep words", 1, "",
           "");
}

// ---- what others write as JSON

#define NODE(id, kind, inputs) "\"" id "\":{\"class_type\":\"" kind "\",\"inputs\":{" inputs "}}"
#define LOADER NODE("1", "CheckpointLoaderSimple", "\"ckpt_name\":\"dream.safetensors\"")
#define TEXT(id, text) NODE(id, "CLIPTextEncode", "\"clip\":[\"6\",0],\"text\":" text)
#define EMPTY NODE("5", "EmptyLatentImage", "\"width\":48,\"height\":32,\"batch_size\":1")
#define LAYER NODE("6", "CLIPSetLastLayer", "\"clip\":[\"1\",1],\"stop_at_clip_layer\":-2")
#define LINKS "\"positive\":[\"3\",0],\"negative\":[\"4\",0],\"latent_image\":[\"5\",0]"
#define SAMPLER(name, more)                                                                                  \
    NODE("2", "KSampler",                                                                                    \
         LINKS ",\"seed\":9,\"steps\":3,\"cfg\":3.5,\"sampler_name\":\"" name                                \
               "\",\"scheduler\":\"karras\"" more)
#define FRAME LOADER "," EMPTY "," LAYER ","
#define TEXTS TEXT("3", "\"a (red:1.2) boat\"") "," TEXT("4", "\"rain\"") ","
#define COMFY                                                                                                \
    "-p 'a (red:1.2) boat' -n rain -W 48 -H 32 -s 9 --steps 3 --cfg-scale 3.5 --scheduler karras "           \
    "--noise-layout comfy --emphasis comfy --clip-skip 2 "
#define INVOKEAI                                                                                             \
    "\"positive_prompt\":\"a "                                                                               \
    "boat\",\"negative_prompt\":\"rain\",\"seed\":9,\"width\":48,\"height\":32,\"steps\":3,"                 \
    "\"cfg_scale\":3.5,\"rand_device\":\"cpu\""
#define SDCPP                                                                                                \
    "\"schema\":\"sdcpp.image.params/"                                                                       \
    "v1\",\"seed\":9,\"width\":48,\"height\":32,\"prompt\":{\"positive\":\"a (red:1.2) boat\","              \
    "\"negative\":\"rain\"},\"sampling\":{\"steps\":3,\"method\":\"dpm++2m\",\"scheduler\":\"karras\","      \
    "\"guidance\":{\"txt_cfg\":3.5}}"
#define PLAIN "-n rain -W 48 -H 32 -s 9 --steps 3 --cfg-scale 3.5 "

// The same picture, to the byte, as by the flags that it stands for.
Test(from, reads_what_other_programs_write_as_json) {
    static const struct {
        const char *key, *text, *flags, *told;
    } cases[] = {
        {"prompt", "{" FRAME TEXTS SAMPLER("euler_ancestral", ",\"model\":[\"1\",0],\"denoise\":1.0") "}",
         COMFY "--sampling-method euler_a --sampler-rng nv", "made with the model dream.safetensors"},
        {"prompt",
         "{" FRAME TEXTS SAMPLER("dpmpp_2m_sde", ",\"model\":[\"7\",0]") "," NODE("7", "LoraLoaderModelOnly",
                                                                                  "\"model\":[\"1\",0]") "}",
         COMFY "--sampling-method dpmpp_2m_sde --sampler-rng cpu", "its LoRAs are left out"},
        {"prompt",
         "{" FRAME
             TEXT("3", "[\"8\",0]") "," TEXT("4", "\"rain\"") "," NODE("8", "PrimitiveString", "\"value\":\"a (red:1.2) boat\"") "," SAMPLER(
                 "dpmpp_2m",
                 ",\"model\":[\"7\",0]") "," NODE("7", "ModelSamplingDiscrete",
                                                  "\"model\":[\"9\",0],\"sampling\":\"v_prediction\","
                                                  "\"zsnr\":true") "," NODE("9", "RescaleCFG",
                                                                            "\"model\":[\"10\",0],"
                                                                            "\"multiplier\":0.5") "," NODE("1"
                                                                                                           "0",
                                                                                                           "F"
                                                                                                           "a"
                                                                                                           "s"
                                                                                                           "t"
                                                                                                           "\\u00"
                                                                                                           "1"
                                                                                                           "b"
                                                                                                           "["
                                                                                                           "2"
                                                                                                           "J",
                                                                                                           "\"mod"
                                                                                                           "e"
                                                                                                           "l"
                                                                                                           "\":"
                                                                                                           "["
                                                                                                           "\"1"
                                                                                                           "\","
                                                                                                           "0"
                                                                                                           "]") "}",
         COMFY "--sampling-method dpmpp_2m --sampler-rng nv --prediction v --zero-snr --cfg-rescale 0.5",
         "its node Fast?[2J is left out"},
        {"prompt",
         "{" FRAME TEXTS NODE(
             "2", "KSamplerAdvanced",
             LINKS
             ",\"noise_seed\":9,\"steps\":3,\"cfg\":3.5,\"sampler_name\":\"euler\",\"scheduler\":\"karras\","
             "\"add_noise\":\"enable\",\"start_at_step\":0,\"end_at_step\":10000") "}",
         COMFY "--sampling-method euler --sampler-rng nv", "that it does not name"},
        {"invokeai_metadata",
         "{" INVOKEAI ",\"scheduler\":\"dpmpp_2m_k\",\"clip_skip\":1,\"model\":{\"name\":\"dream\"},"
         "\"generation_mode\":\"txt2img\"}",
         PLAIN "-p 'a boat' --sampling-method dpmpp_2m --scheduler karras --clip-skip 2 --noise-layout "
               "diffusers --emphasis none",
         "the model dream"},
        {"invokeai_metadata", "{" INVOKEAI ",\"scheduler\":\"euler_a\",\"clip_skip\":0,\"loras\":[{}]}",
         PLAIN "-p 'a boat' --sampling-method euler_a --noise-layout diffusers --emphasis none",
         "its LoRAs are left out"},
        {"invokeai_metadata", "{" INVOKEAI ",\"scheduler\":\"euler\",\"refiner_model\":{\"name\":\"r\"}}",
         PLAIN "-p 'a boat' --sampling-method euler --noise-layout diffusers --emphasis none",
         "its refiner is left out"},
        {"invokeai_metadata", "{" INVOKEAI ",\"scheduler\":\"euler\",\"vae\":{\"name\":\"kl\"}}",
         PLAIN "-p 'a boat' --sampling-method euler --noise-layout diffusers --emphasis none",
         "the autoencoder kl, this is that of the model"},
        {"parameters",
         "x\nSteps: 1, Seed: 2, RNG: cuda, Version: stable-diffusion.cpp, SDCPP: {" SDCPP
         ",\"rng\":\"cuda\",\"clip_skip\":-1}",
         PLAIN "-p 'a (red:1.2) boat' --sampling-method dpmpp_2m --scheduler karras --rng nv",
         "that it does not name"},
        {"parameters",
         "{" SDCPP
         ",\"rng\":\"cpu\",\"sampler_rng\":\"cuda\",\"clip_skip\":2,\"models\":{\"model\":\"d.gguf\"},"
         "\"hires\":{\"enabled\":true,\"scale\":1.5,\"steps\":0,\"denoising_strength\":0.6,\"upscaler\":"
         "\"Lanczos\"}}",
         PLAIN "-p 'a (red:1.2) boat' --sampling-method dpmpp_2m --scheduler karras --sampler-rng nv "
               "--clip-skip 2 --hires --hires-scale 1.5 "
               "--hires-denoise 0.6 --hires-upscaler lanczos",
         "d.gguf"},
        {"parameters", "x\nSteps: 3, Sampler: Euler a, Seed: 2, RNG: cuda",
         "-p x --steps 3 -s 2 --sampling-method euler_a --scheduler normal --rng nv", ""},
    };
    char line[1500];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        save_with_text("other.png", cases[i].key, cases[i].text);
        snprintf(line, sizeof line,
                 "cd \"$D\" && $C txt2img -m \"$M\" --from other.png -o a%zu.png && $C txt2img -q -m \"$M\" "
                 "%s -o b%zu.png && cmp a%zu.png b%zu.png",
                 i, cases[i].flags, i, i, i);
        expect(line, 0, NULL, cases[i].told);
    }
}

Test(from, refuses_what_it_cannot_repeat) {
    static const struct {
        const char *key, *text, *told;
    } cases[] = {
        {"prompt", "{" FRAME TEXTS SAMPLER("euler", "") "," NODE("9", "KSampler", "\"seed\":1") "}",
         "several samplers"},
        {"prompt", "{" FRAME TEXTS NODE("2", "SamplerCustomAdvanced", LINKS) "}", "no KSampler"},
        {"prompt", "{" FRAME TEXTS SAMPLER("euler", ",\"denoise\":0.5") "}",
         "its KSampler took a part of the steps"},
        {"prompt",
         "{" LOADER "," LAYER "," TEXTS SAMPLER("euler", "") "," NODE("5", "VAE\\u001bEncode", "\"a\":1") "}",
         "its latents come from a node that is not read (VAE?Encode)"},
        {"prompt", "{" FRAME TEXT("3", "[\"3\",0]") "," TEXT("4", "\"\"") "," SAMPLER("euler", "") "}",
         "the text of its positive prompt is not found"},
        {"prompt",
         "{" FRAME TEXT("3", "\"a\"") "," NODE("4", "ConditioningZeroOut", "\"a\":1") "," SAMPLER("euler",
                                                                                                  "") "}",
         "(ConditioningZeroOut)"},
        {"prompt",
         "{" FRAME TEXTS NODE("2", "KSampler",
                              LINKS ",\"seed\":[\"77\",0],\"steps\":3,\"cfg\":3.5,\"sampler_name\":\"euler\","
                                    "\"scheduler\":\"karras\"") "}",
         "the seed of its KSampler is not found"},
        {"prompt", "{\"1\":{\"class_type\":\"KSampler\",\"inputs\":{\"seed\":18446744073709551615}}}",
         "ComfyUI that are no JSON, or hold too large"},
        {"invokeai_metadata", "{" INVOKEAI, "InvokeAI that are no JSON"},
        {"invokeai_metadata", "{" INVOKEAI ",\"generation_mode\":\"sdxl_img2img\",\"strength\":0.5}",
         "name it with --init-img"},
        {"parameters", "{" SDCPP ",\"mode\":\"vid_gen\"}", "no single picture"},
        {"parameters", "{" SDCPP ",\"sampling\":{\"steps\":5000}}", "steps"},
        {"prompt", "a boat", "does not say"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        save_with_text("other.png", cases[i].key, cases[i].text);
        expect("cd \"$D\" && $C txt2img -m \"$M\" -p x --from other.png", 65, "", cases[i].told);
    }
    save_with_text("other.png", "invokeai_metadata", "{" INVOKEAI ",\"model\":{\"name\":\"dream\"}}");
    expect("cd \"$D\" && $C txt2img --from other.png", 65, "", "made with the model dream");
    expect("cd \"$D\" && $C txt2img --from other.png", 65, "", "name its folder with -m");
}

// With each byte another: no signal, and what is read is whole.
Test(from, json_of_others_may_be_cut_or_spoilt) {
    static const char *const KEYS[] = {"prompt", "invokeai_metadata", "parameters"};
    static const char *const GOOD[] = {"{" FRAME TEXTS SAMPLER("euler", ",\"model\":[\"1\",0]") "}",
                                       "{" INVOKEAI "}", "a, SDCPP: {" SDCPP "}"};
    for (size_t g = 0; g < 3; g++)
        for (size_t n = 0; n < strlen(GOOD[g]); n++)
            for (int how = 0; how < 5; how++) {
                char *text = strdup(GOOD[g]), why[METADATA_WHY];
                text[n] = "\0[,1:"[how];
                json_t *texts = json_pack("{s:s}", KEYS[g], text), *j = metadata_read(texts, why);
                cr_expect(!j || (json_object_get(j, "format") && json_is_array(json_object_get(j, "notes"))));
                cr_expect_lt(strlen(why), METADATA_WHY);
                json_decref(j);
                json_decref(texts);
                free(text);
            }
}

// Every beginning of such a text, and the text with each byte another.
Test(from, infotexts_may_be_cut_or_spoilt) {
    static const char GOOD[] =
        "a\nNegative prompt: b\nSteps: 2, Sampler: \"DPM, \\u0041\", Size: 48x32, Eta: 1, RNG: NV";
    for (size_t n = 0; n < sizeof GOOD - 1; n++)
        for (int how = 0; how < 6; how++) {
            char *text = strdup(GOOD);
            text[n] = "\0\n\",: "[how];
            json_t *j = infotext_read(text);
            cr_expect(!j || (json_is_string(json_object_get(j, "prompt")) && json_object_get(j, "format")));
            json_decref(j);
            free(text);
        }
}

// Anybody's picture may be given to --from: it sets what is drawn, not where that goes, and steers no
// terminal.
Test(from, takes_no_names_of_files) {
    static const char *const KEYS[] = {"\"output\": \"escaped.png\"",
                                       "\"force\": true",
                                       "\"save-latents\": \"escaped.safetensors\"",
                                       "\"init-latents\": \"/etc/passwd\"",
                                       "\"config\": \"x.json\"",
                                       "\"init-img\": \"/etc/x.png\"",
                                       "\"init_img\": \"/etc/x.png\"",
                                       "\"mask\": \"/etc/x.png\"",
                                       "\"\\u009b2J\": 1"};
    char text[300];
    for (size_t i = 0; i < sizeof KEYS / sizeof *KEYS; i++) {
        snprintf(text, sizeof text,
                 "{\"format\": 1, \"prompt\": \"x\", \"steps\": 1, \"precision\": \"f32\", %s}", KEYS[i]);
        save_with_text("hostile.png", "calotype", text);
        expect("cd \"$D\"; $C txt2img -m \"$M\" --from hostile.png", 65, "", "unknown key");
        expect("cd \"$D\"; $C txt2img -m \"$M\" --from hostile.png 2>&1 | grep -a \"$(printf '\\302\\233')\"",
               1, "", NULL);
    }
    expect("cd \"$D\"; ls *.png *.safetensors 2>/dev/null | tr '\\n' ' '", 0, "hostile.png ", NULL);
}

// Latents would take the picture's place, or be refused when it is drawn.
Test(from, latents_have_a_name_of_their_own) {
    expect("cd \"$D\" && $C txt2img -m \"$M\" -p x --steps 1 -o x.png --save-latents ./x.png --force", 2, "",
           "cannot be the picture and its latents");
    expect("cd \"$D\" && $C txt2img -m \"$M\" -p x --steps 1 -b 2 -o x.png --save-latents x-2.png", 2, "",
           "x-2.png: cannot be the picture");
    expect("cd \"$D\" && touch l && $C txt2img -m \"$M\" -p x --steps 1 -o x.png --save-latents l", 73, "",
           "l: is there already");
    cr_expect_not(there("x.png"));
}
