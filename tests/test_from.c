// Pictures drawn again from what a file says: --from, with our own description and with A1111's.
#include "cli/infotext.h"
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
