// The command line as a user types it, and the example: output, files, exit codes.
#include "core/calotype.h"
#include "core/base/json.h"
#include "core/base/mem.h"
#include "core/files/image.h"
#include "core/files/safetensors.h"
#include "tests/shell.h"
#include "tests/tiny_model.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

TestSuite(cli, .init = shell_begin, .fini = shell_end);

// ---- help and usage

// Seconds of processor time of the children so far: how busy the machine is does not count.
static double time_of_children(void) {
    struct rusage u;
    getrusage(RUSAGE_CHILDREN, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           1e-6 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

Test(cli, version_tells_of_the_build) {
    result r = sh("$C --version --json");
    json_t *j = json_loads(r.out, 0, NULL);
    const char *version, *instructions, *jansson;
    cr_assert_eq(json_unpack(j, "{s:s, s:s, s:{s:s}}", "version", &version, "instructions", &instructions,
                             "libraries", "jansson", &jansson),
                 0, "%s", r.out);
    cr_expect_str_eq(version, calo_version());
    cr_expect_str_eq(jansson, jansson_version_str());
    cr_expect(*instructions);
    json_decref(j);
    drop(r);
}

Test(cli, help_and_version_are_quick) {
    static const char *const SAYS[][2] = {{"--version", "calotype 0."}, {"--help", "txt2img"}};
    for (int k = 0; k < 2; k++) {
        char command[40];
        double best = 1;
        snprintf(command, sizeof command, "$C %s", SAYS[k][0]);
        expect(command, 0, SAYS[k][1], NULL);
        for (int i = 0; i < 5; i++) {
            double begun = time_of_children();
            drop(sh(command));
            best = fmin(best, time_of_children() - begun);
        }
        fprintf(stderr, "calotype %s: %.1f ms, a shell around it included\n", SAYS[k][0], best * 1e3);
        cr_expect_lt(best, 0.2, "%.3f s", best);
    }
}

Test(cli, usage_errors_name_what_is_wrong) {
    expect("$C", 2, NULL, "usage: calotype");
    expect("$C tokenise", 2, NULL, "did you mean tokenize?");
    expect("$C txt2img --stpes 4", 2, NULL, "did you mean --steps?");
    expect("$C txt2img --prom x", 2, NULL, "--prom is ambiguous, it may be any of --prompt --prompt-file");
    expect("$C txt2img --he=3", 2, NULL, "--help");
    expect("$C txt2img -p x --steps", 2, NULL, "needs a value");
    expect("$C txt2img -p x --steps 4.5", 2, NULL, "--steps is '4.5', not a whole number from 1 to 1000");
    expect("$C txt2img -m \"$M\" -p x --scheduler betta", 2, NULL,
           "no scheduler is called 'betta' (did you mean beta?); there are leading linspace trailing karras "
           "normal");
    expect("$C txt2img -p x --cfg-rescale nan", 2, NULL, "--cfg-rescale");
    expect("$C txt2img -p x --max-memory 2.3Q", 2, NULL,
           "--max-memory is '2.3Q', not a size such as 700M, 2.3G or 1.5GiB");
    expect("$C txt2img -p x --max-memory -1G", 2, NULL, "--max-memory");
    expect("$C txt2img -m \"$M\" -p x --max-memory 0.0005GiB", 2, NULL, "and 1 MB are allowed");
    expect("CALOTYPE_MAX_MEMORY=3MB $C txt2img -m \"$M\" -p x", 2, NULL, "and 3 MB are allowed");
    expect("$C txt2img -p x extra", 2, NULL, "'extra'");
    expect("$C txt2img -m \"$M\"", 2, NULL, "prompt");
    expect("$C txt2img -m \"$M\" -p x -o \"$D/a.gif\"", 2, NULL, "a.gif");
    expect("$C txt2img -m \"$M\" -p x -W 33 -o \"$D/a.png\"", 2, NULL, "33x32");
    expect("$C run -m \"$M\" unet", 2, NULL, "--in");
    for (const char *const *c = (const char *const[]){"txt2img", "run", "tokenize", "inspect", "train", NULL};
         *c; c++) {
        char line[64], usage[64];
        snprintf(line, sizeof line, "$C %s --help", *c);
        snprintf(usage, sizeof usage, "usage: calotype %s", *c);
        expect(line, 0, usage, NULL);
    }
}

Test(cli, options_come_from_the_file_then_the_environment_then_flags) {
    setenv("XDG_CONFIG_HOME", folder, 1);
    expect("mkdir -p \"$D/calotype\" && echo '{\"steps\": 2, \"seed\": 4, \"txt2img\": {\"cfg_scale\": 2.5, "
           "\"zero-snr\": true, \"prompt\": \"a boat\"}, \"run\": {\"in\": \"x\"}, \"quiet\": true}' "
           "> \"$D/calotype/config.json\"",
           0, NULL, NULL);
    expect("$C txt2img -m \"$M\" -o \"$D/a.png\" && $C inspect \"$D/a.png\"", 0,
           "a boat\nSteps: 2, Sampler: DDIM, CFG scale: 2.5, Seed: 4", "");
    expect("$C inspect \"$D/a.png\"", 0, "Zero Terminal SNR", NULL);
    expect(
        "export CALOTYPE_STEPS=3 CALOTYPE_ZERO_SNR=off; $C txt2img -m \"$M\" -o \"$D/b.png\" && $C inspect "
        "\"$D/b.png\"",
        0, "Steps: 3, Sampler: DDIM, CFG scale: 2.5, Seed: 4", NULL);
    expect("CALOTYPE_ZERO_SNR=off $C txt2img -m \"$M\" -o \"$D/c.png\"; ! $C inspect \"$D/c.png\" | grep "
           "Terminal",
           0, NULL, NULL);
    expect("CALOTYPE_STEPS=3 $C txt2img -m \"$M\" --steps 1 -o \"$D/d.png\" && $C inspect \"$D/d.png\"", 0,
           "Steps: 1,", NULL);
    expect("$C txt2img --config '' -m \"$M\" -o \"$D/e.png\"", 2, NULL, "Give a prompt");
    expect("CALOTYPE_STEPS=many $C txt2img", 2, NULL, "CALOTYPE_STEPS is 'many', not a whole number");
    expect("CALOTYPE_JSON=perhaps $C txt2img", 2, NULL, "CALOTYPE_JSON is 'perhaps', not true or false");
    unsetenv("XDG_CONFIG_HOME");
}

Test(cli, a_broken_configuration_file_is_named) {
    static const char *const CASES[][2] = {
        {"{\"stpes\": 2}", "unknown key 'stpes' (did you mean steps?)"},
        {"{\"txt2img\": {\"in\": 2}}", "txt2img: unknown key 'in'"},
        {"{\"steps\": \"2\"}", "steps is not a number"},
        {"{\"steps\": 2.5}", "steps is '2.5', not a whole number"},
        {"{\"steps\": 100000}", "not a whole number from 1 to 1000"},
        {"{\"force\": 1}", "force is not a boolean"},
        {"{\"prompt\": [1]}", "prompt is not a string"},
        {"{\"rng\": \"gpu\"}", "rng is 'gpu', not one of cpu nv"},
        {"{\"\\u001b[2J\": 1}", "unknown key '?[2J'"},
        {"{\"steps\": 2, \"steps\": 3}", ":1:"},
        {"[]", "not a JSON object"},
        {"{", ":2:0: string or"},
        {"", ":2:0: "},
    };
    char line[512];
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        snprintf(line, sizeof line, "echo '%s' > \"$D/c.json\"; $C txt2img -p x --config \"$D/c.json\"",
                 CASES[i][0]);
        expect(line, 2, NULL, CASES[i][1]);
    }
    expect("$C txt2img -p x --config \"$D/none.json\"", 66, NULL, "none.json: cannot open");
}

// ---- what the tables of options say elsewhere

// Every long name that the help of a command lists stands in the other command's output.
static void expect_flags_of(const char *command, const char *prefix, const char *in) {
    char line[128], name[96], flag[64];
    snprintf(line, sizeof line, "$C %s --help", command);
    result help = sh(line), other = sh(in);
    cr_expect_eq(other.code, 0, "%s: %s", in, other.err);
    int n = 0;
    for (char *p = strstr(help.out, "\n\n"); (p = strstr(p, " --")); p += 3, n++) {
        snprintf(flag, sizeof flag, "%.*s", (int)strspn(p + 3, "abcdefghijklmnopqrstuvwxyz-"), p + 3);
        snprintf(name, sizeof name, "%s%s", prefix, flag);
        cr_expect(!strcmp(flag, "help") || strstr(other.out, name), "%s does not say %s", in, name);
    }
    cr_expect_gt(n, 5);
    drop(help);
    drop(other);
}

Test(cli, completions_and_schema_know_every_flag) {
    for (const char *const *c = (const char *const[]){"txt2img", "run", "inspect", "train", NULL}; *c; c++) {
        expect_flags_of(*c, "--", "$C completion bash");
        expect_flags_of(*c, "--", "$C completion zsh");
        expect_flags_of(*c, "-l ", "$C completion fish");
        expect_flags_of(*c, "\"", "$C schema");
    }
    expect("$C man txt2img", 0, "\\-\\-cfg\\-scale X\n", "");
    expect("$C man txt2img", 0, "[CALOTYPE_CFG_SCALE]", "");
    expect("$C man", 0, "calotype\\-txt2img", "");
    expect("$C man paint", 2, NULL, "usage");
    expect("$C completion csh", 2, NULL, "bash|zsh|fish");
}

Test(cli, bash_completes_commands_flags_and_choices) {
    static const char *const CASES[][2] = {{"calotype tok", "tokenize"},
                                           {"calotype txt2img --cfg-r", "--cfg-rescale"},
                                           {"calotype txt2img --scheduler tr", "trailing"},
                                           {"calotype txt2img --sampling-method euler_", "euler_a"},
                                           {"calotype train -k v", "vae"}};
    char line[1024];
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        snprintf(line, sizeof line,
                 "$C completion bash > \"$D/c.bash\" && bash -c '. \"$D/c.bash\"; compopt() { :; }; "
                 "COMP_WORDS=(%s); "
                 "COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _calotype; echo \"${COMPREPLY[*]}.\"'",
                 CASES[i][0]);
        char wanted[64];
        snprintf(wanted, sizeof wanted, "%s.\n", CASES[i][1]);
        expect(line, 0, wanted, "");
    }
}

// ---- txt2img

Test(cli, pictures_are_named_numbered_and_not_overwritten) {
    expect("cd \"$D\" && $C txt2img -q -m \"$M\" -p x --steps 1 -s 5 -b 2", 0,
           "calotype-5.png\ncalotype-6.png\n", NULL);
    expect("cd \"$D\" && $C txt2img -q -m \"$M\" -p x --steps 1 -b 2 -o n.webp", 0, "n-1.webp\nn-2.webp\n",
           NULL);
    expect("cd \"$D\" && $C txt2img -q -m \"$M\" -p x --steps 1 -s 8 -b 2 -o {i}_{seed}.jpg", 0,
           "1_8.jpg\n2_9.jpg\n", NULL);
    expect("cd \"$D\" && $C txt2img -q -m \"$M\" -p x --steps 1 -o calotype-6.png", 73, NULL, "--force");
    expect("cd \"$D\" && $C txt2img -q -m \"$M\" -p x --steps 1 -o calotype-6.png --force", 0,
           "calotype-6.png", NULL);
    expect("cd \"$D\" && $C txt2img -q -m \"$M\" -p x --steps 1 -o no/such/x.png", 73, NULL, "no/such/x.png");
    cr_expect(there("2_9.jpg"));
    char path[600];
    error err = {0};
    snprintf(path, sizeof path, "%s/n-2.webp", folder);
    image im;
    cr_assert_eq(image_load(path, &im, &err), OK, "%s", err.text);
    cr_expect_eq(im.w, 32);
    image_free(&im);
}

Test(cli, names_that_cannot_be_are_refused_before_the_work) {
    static const char DRAW[] = "cd \"$D\"; d() { $C txt2img -q -m \"$M\" -p x --steps 1 -o \"$@\"; }; ";
    char line[400];
    for (int digits = 300; digits <= 5000; digits += 4700) { // longer than a name, longer than a path
        snprintf(line, sizeof line, "%sd $(printf %%0%dd 0).png --verbose", DRAW, digits);
        expect(line, digits < 4096 ? 73 : 2, "", "too long");
    }
    snprintf(line, sizeof line,
             "%secho safe >target.png; ln -s target.png link.png; ln -s none.png lost.png; d link.png", DRAW);
    expect(line, 73, "", "is there already");
    snprintf(line, sizeof line, "%sd lost.png", DRAW);
    expect(line, 73, "", "is there already");
    snprintf(line, sizeof line, "%sd link.png --force && cat target.png && test ! -h link.png", DRAW);
    expect(line, 0, "safe", "");
}

Test(cli, saved_latents_are_what_seed_and_noise_say) {
    expect("$C txt2img -q -m \"$M\" -p x --steps 2 -s 5 -b 3 -o \"$D/a.png\" --save-latents "
           "\"$D/l.safetensors\"",
           0, NULL, NULL);
    char path[600];
    error err = {0};
    snprintf(path, sizeof path, "%s/l.safetensors", folder);
    tensor_file *f = tensor_file_open(path, &err);
    cr_assert_not_null(f, "%s", err.text);
    const tensor_entry *t = tensor_file_find(f, "latents");
    cr_assert_not_null(t);
    cr_expect_str_eq(t->type_name, "F32");
    cr_expect_arr_eq(t->shape, ((int64_t[]){3, 4, 8, 8}), 4 * sizeof(int64_t));
    tensor_file_close(f);
    // The file serves as noise too, whatever it holds: three pictures come from it.
    expect("$C txt2img -q -m \"$M\" -p x --steps 1 -s 1 -o \"$D/b.png\" --init-latents \"$D/l.safetensors\"",
           0, "b-3.png", NULL);
    expect("$C txt2img -q -m \"$M\" -p x --steps 1 -b 2 -o \"$D/c.png\" --init-latents \"$D/l.safetensors\"",
           2, NULL, "[3,4,8,8]");
    expect("$C txt2img -q -m \"$M\" -p x -o \"$D/c.png\" --init-latents "
           "\"$M/vae/diffusion_pytorch_model.safetensors\"",
           65, NULL, "'latents'");
}

Test(cli, a_size_and_a_prompt_may_be_told_in_other_ways) {
    expect("$C txt2img -q -m \"$M\" -p x -s 1 --steps 1 -W 24 -H 16 -o \"$D/a.png\"", 0, NULL, NULL);
    expect("printf 'x \\n\\n' | $C txt2img -q -m \"$M\" --prompt-file - -s 1 --steps 1 -H 40 --size 24x16 "
           "-o \"$D/b.png\" && cmp \"$D/a.png\" \"$D/b.png\"",
           0, NULL, NULL);
    expect("echo y >\"$D/y\"; $C txt2img -q --from \"$D/a.png\" -m \"$M\" --prompt-file \"$D/y\" -o "
           "\"$D/c.png\" && $C inspect \"$D/c.png\" | grep '\"prompt\":\"y\",.*\"width\":24,\"height\":16'",
           0, "24", NULL);
    expect("CALOTYPE_SIZE=8x16x $C txt2img -p x", 2, NULL,
           "CALOTYPE_SIZE is '8x16x', not a size such as 768x512, from 1 to 8192");
    expect("$C txt2img -p x --size 512x", 2, NULL, "--size is '512x'");
    expect("$C txt2img -p x --size -8x8", 2, NULL, "--size is '-8x8'");
    expect("$C txt2img -p x --size 99999999999999999999x8", 2, NULL, "--size is '9999");
    expect("$C txt2img --prompt-file \"$D/none\"", 66, NULL, "none: cannot be read: No such file");
    expect("printf 'a\\0b' | $C txt2img --prompt-file -", 65, NULL, "-: a prompt holds no NUL");
    expect("head -c 70000 /dev/zero | tr '\\0' a | $C txt2img --prompt-file -", 65, NULL, "at most 64 KiB");
}

Test(cli, events_are_json_lines) {
    result r = sh("$C txt2img -m \"$M\" -p 'a \"b\"' --steps 3 -s 1 -o \"$D/e.png\" --json");
    cr_assert_eq(r.code, 0, "%s", r.err);
    int steps = 0, images = 0, done = 0;
    for (char *line = strtok(r.out, "\n"); line; line = strtok(NULL, "\n")) {
        json_t *j = json_loads(line, 0, NULL);
        const char *event = json_string_value(json_object_get(j, "event"));
        cr_assert_not_null(event, "%s", line);
        steps += !strcmp(event, "sample");
        done += !strcmp(event, "done");
        if (!strcmp(event, "image")) {
            images++;
            cr_expect_str_eq(json_string_value(json_object_get(json_object_get(j, "description"), "prompt")),
                             "a \"b\"");
        }
        json_decref(j);
    }
    cr_expect_eq(steps, 3);
    cr_expect_eq(images, 1);
    cr_expect_eq(done, 1);
    drop(r);
    expect("$C txt2img -m \"$M\" -p x --steps 3 -s 1 -o \"$D/g.png\" --json 2>&1 | grep -v '^{'", 0,
           "1 picture in", NULL); // no progress beside the events
    expect("$C txt2img -m nowhere -p x -o \"$D/f.png\" --json", 66, "\"event\":\"error\",\"code\":66",
           "nowhere");
}

Test(cli, no_file_is_written_from_a_nan) {
    tiny_model_spoil(model, "unet", "mid_block.resnets.0.conv1.weight", INFINITY);
    expect("$C txt2img -m \"$M\" -p x -b 2 -s 7 --steps 2 -o \"$D/nan.png\"", 65, "",
           "nan: picture 1 of 2 (seed 7) is not a number after step 1 of 2");
    cr_expect(!there("nan-1.png") && !there("nan-2.png"));
}

Test(cli, an_interrupt_stops_after_the_step) {
    expect("$C txt2img -m \"$M\" -p x --steps 1000 -b 1000 -W 128 -H 128 -o \"$D/i.png\" & p=$!; sleep 1; "
           "kill -INT $p; wait $p",
           130, NULL, "stopped");
    expect("$C txt2img -m \"$M\" -p x --steps 1000 -b 1000 -W 128 -H 128 -o \"$D/t.png\" & p=$!; sleep 1; "
           "kill -TERM $p; wait $p",
           143, NULL, "stopped");
}

Test(cli, an_interrupt_ends_a_picture_between_its_bands) {
    expect(
        "cd \"$D\" && $C txt2img -m \"$M\" -p x --steps 1 -W 256 -H 256 --vae-tiling --vae-tile-size 64 -b "
        "200 "
        "--json -o a.png >events & p=$!; until grep -q '\"bands\",\"step\":1,' \"$D/events\"; do sleep 0.02; "
        "done; kill -INT $p; wait $p",
        130, NULL, "stopped");
}

Test(cli, wrong_beginnings_are_told) {
    static const struct {
        const char *flags, *says;
        int code;
    } cases[] = {
        {"--mask tests/golden/files/rgb.png", "--init-img", 2},
        {"--outpaint 1,2,3,4", "--init-img", 2},
        {"-i none.png", "none.png", 66},
        {"-i tests/golden/tokenizer/vocab.json", "vocab.json", 65},
        {"-i tests/golden/files/rgb.png --mask none.png", "none.png", 66},
        {"-i tests/golden/files/rgb.png --outpaint 1,2,3", "--outpaint", 2},
        {"-i tests/golden/files/rgb.png --outpaint 1,2,3,-4", "--outpaint", 2},
        {"-i tests/golden/files/rgb.png --outpaint 1,2,3,4,", "--outpaint", 2},
        {"-i tests/golden/files/rgb.png --outpaint 1,2,3,9999999999999999999", "--outpaint", 2},
        {"--strength 2", "strength", 2},
        {"--clip-skip 9", "clip skip", 2},
        {"--emphasis loud", "loud", 2},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char line[300];
        snprintf(line, sizeof line, "$C txt2img -m \"$M\" -p x --steps 1 -o \"$D/x.png\" %s", cases[i].flags);
        expect(line, cases[i].code, "", cases[i].says);
    }
}

Test(cli, results_that_cannot_be_printed_are_an_error) {
    expect("$C schema >/dev/full", 74, NULL, "standard output");
    expect("$C txt2img -q -m \"$M\" -p x --steps 1 -o \"$D/a.png\" >/dev/full", 74, NULL, "standard output");
}

// No file takes the place of a closed descriptor.
Test(cli, messages_land_in_no_output) {
    expect(
        "echo '{\"prompt\": \"x\"}' >\"$D/jobs\"; $C batch \"$D/jobs\" -m \"$M\" --steps 1 -v -o \"$D/made\" "
        ">&- 2>&-; test $? = 74 && cat \"$D/made/manifest.jsonl\" && ! grep -v '^{' "
        "\"$D/made/manifest.jsonl\"",
        0, "{", "");
}

// ---- the other commands

Test(cli, tokenize_turns_lines_into_arrays) {
    result a = sh("printf 'a boat\\n\\nA  BOAT' | $C tokenize -m \"$M\"");
    cr_assert_eq(a.code, 0, "%s", a.err);
    char *second = strchr(a.out, '\n') + 1;
    size_t n = (size_t)(second - a.out);
    cr_expect_eq(a.out[0], '[');
    cr_expect_eq(strncmp(second, "[]\n", 3), 0, "%s", a.out);
    cr_expect_eq(strncmp(second + 3, a.out, n), 0, "case and spaces do not matter: %s", a.out);
    result b = sh("printf '\"a boat\"\\n\"a\\\\nboat\"\\n' | $C tokenize -m \"$M\" --json");
    cr_assert_eq(b.code, 0, "%s", b.err);
    cr_expect_eq(strncmp(b.out, a.out, n), 0, "%s", b.out);
    cr_expect_eq(strncmp(b.out + n, a.out, n), 0, "a line end is white space: %s", b.out);
    drop(a);
    drop(b);
    expect("echo x | $C tokenize -m \"$M\" --json", 65, NULL, "line 1");
    expect("echo x | $C tokenize -m \"$D\"", 66, NULL, "model_index.json");
    expect("$C tokenize -m \"$M\" <.", 74, "", "standard input cannot be read");
    expect("$C tokenize -m \"$M\" <&-", 74, "", "standard input cannot be read");
    expect("$C tokenize -m \"$M\" </dev/null", 0, "", "");
}

Test(cli, run_evaluates_a_network) {
    expect("$C txt2img -q -m \"$M\" -p x --steps 1 -o \"$D/a.png\" --save-latents \"$D/latents.safetensors\"",
           0, NULL, NULL);
    expect("$C run unet -m \"$M\" --in \"$D/latents.safetensors\" --out \"$D/y.safetensors\"", 65, NULL,
           "'sample' is missing");
    static const float latent[4 * 2 * 2] = {1, 2, 3};
    safetensors_item item = {
        .name = "latent", .type = DT_F32, .ndim = 4, .shape = {1, 4, 2, 2}, .data = latent};
    char path[600];
    error err = {0};
    snprintf(path, sizeof path, "%s/x.safetensors", folder);
    cr_assert_eq(safetensors_save(path, &item, 1, NULL, 0, true, &err), OK, "%s", err.text);
    expect("$C run vae_decoder -m \"$M\" --in \"$D/x.safetensors\" --out \"$D/y.safetensors\"", 0, NULL,
           NULL);
    expect("$C inspect \"$D/y.safetensors\"", 0, "F32   [1,3,8,8]  sample", NULL);
    expect("$C run vae_decoder -m \"$M\" --in \"$D/x.safetensors\" --out \"$D/y.safetensors\"", 73, NULL,
           "y.safetensors");
    expect("$C run vae_decoder -m \"$D/none\" --in \"$D/none\" --out \"$D/y.safetensors\"", 73, NULL,
           "y.safetensors: is there already (--force replaces it)");
    expect("$C run decoder -m \"$M\" --in \"$D/x.safetensors\" --out \"$D/z.safetensors\"", 2, NULL,
           "'decoder'");
    expect("$C run vae_decoder -m \"$M\" --in \"$D/none\" --out \"$D/z.safetensors\"", 66, NULL, "/none");
}

Test(cli, inspect_shows_models_pictures_and_plans) {
    expect("$C inspect \"$M\" --memory -W 32 -H 32", 0, "at least (--max-memory)", NULL);
    expect("$C inspect --json --memory -m \"$M\" -W 32 -H 32", 0, "\"kind\":\"memory\"", NULL);
    expect("$C inspect \"$M\" --memory --size 32x32 --refiner \"$M\" --hires-scale 2 --hires-upscaler "
           "tests/golden/upscale/x4_old.safetensors",
           0, "64x64 in ", NULL);
    expect("$C inspect \"$M\" --memory --size 32x32 --refiner \"$M\"", 0, "refiner's unet", NULL);
    expect("$C inspect \"$M\" --memory --hires-upscaler tests/golden/upscale/x4_old.safetensors --hires", 0,
           "in tiles of ", NULL);
    expect("$C inspect \"$M\" --memory --refiner none", 66, NULL, "none");
    expect("$C inspect \"$M\" --memory -i none.png", 66, NULL, "none.png");
    expect("$C inspect \"$M\" --memory --eta 1", 2, NULL, "unknown option --eta");
    expect("$C inspect \"$M\" --memory -W 33 -H 32", 2, NULL, "the size 33x32 is not made of multiples");
    expect("$C inspect \"$M\"", 0, "UNet2DConditionModel", NULL);
    expect("$C inspect -m \"$M\"", 0, "text_encoder", NULL);
    expect("$C inspect \"$M\" --json", 0, "{\"kind\":\"model\"", NULL);
    expect("$C inspect -m \"$M\" --plan unet", 0, "kernels,", NULL);
    expect("$C inspect \"$M\" --plan vae_decoder --json", 0, "{\"path\":", NULL);
    expect("$C txt2img -q -m \"$M\" -p 'a boat' --steps 1 -s 3 -o \"$D/a.png\" && $C inspect \"$D/a.png\"", 0,
           "a boat\nSteps: 1, Sampler: DDIM", NULL);
    expect("$C txt2img -q -m \"$M\" -p 'a boat' --no-metadata --steps 1 -o \"$D/b.png\" && ! $C inspect "
           "\"$D/b.png\" | grep boat",
           0, NULL, NULL);
    expect("$C inspect \"$M/unet\"", 0, "UNet  ", NULL);
    expect("$C inspect \"$D/none\"", 66, NULL, "none");
    expect("$C inspect \"$D\"", 66, NULL, "model_index.json");
    expect("$C inspect \"$M/model_index.json\"", 65, NULL, "model_index.json");
}

static void expect_recognised(const char *tensor, int64_t rows, int64_t columns, const char *what) {
    char path[600];
    error err = {0};
    float *zeros = mem_calloc((size_t)(rows * columns), sizeof *zeros);
    safetensors_item item = {
        .name = tensor, .type = DT_F32, .ndim = 2, .shape = {rows, columns}, .data = zeros};
    snprintf(path, sizeof path, "%s/adapter.safetensors", folder);
    cr_assert_eq(safetensors_save(path, &item, 1, NULL, 0, true, &err), OK, "%s", err.text);
    expect("$C inspect \"$D/adapter.safetensors\"", 0, what, NULL);
    mem_free(zeros);
}

Test(cli, inspect_tells_adapters_by_their_names) {
    expect_recognised("lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k.lora_down.weight",
                      4, 768, "LoRA  for SD 1.x  rank 4  1 tensors");
    expect_recognised("unet.down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.lora_A.weight", 8,
                      2048, "LoRA  for SDXL  rank 8");
    expect_recognised("lora_unet_x_attn2_to_k.hada_w1_b", 16, 1024, "LoHa  for SD 2.x  rank 16");
    expect_recognised("ip_adapter.1.to_k_ip.weight", 320, 768, "IP-Adapter  for SD 1.x");
    expect_recognised("controlnet_cond_embedding.conv_in.weight", 16, 27, "ControlNet  1 tensors");
    expect_recognised("emb_params", 2, 768, "textual inversion  for SD 1.x");
    expect_recognised("down_blocks.0.motion_modules.0.temporal_transformer.proj_in.weight", 2, 2,
                      "AnimateDiff");
    expect("$C inspect \"$M/unet/diffusion_pytorch_model.safetensors\"", 0, "more (-v lists them)", NULL);
    expect("$C inspect \"$M/unet/diffusion_pytorch_model.safetensors\"", 0, "UNet  ", NULL);
}

Test(cli, inspect_names_the_program_that_described_a_picture) {
    static const char *const TEXTS[][3] = {
        {"parameters", "a cat\nSteps: 20, Sampler: Euler a, Seed: 1, Version: v1.9.4",
         "parameters (A1111):\na cat"},
        {"parameters", "a cat\nSteps: 20, Version: stable-diffusion.cpp",
         "parameters (stable-diffusion.cpp):"},
        {"prompt", "{\"3\":{\"class_type\":\"KSampler\"}}", "prompt (ComfyUI):"},
        {"invokeai_metadata", "{\"positive_prompt\":\"a cat\"}", "invokeai_metadata (InvokeAI):"},
        {"parameters", "{\"sui_image_params\":{}}", "parameters (SwarmUI):"},
        {"Title", "a cat", "Title:\na cat"}};
    for (size_t i = 0; i < sizeof TEXTS / sizeof *TEXTS; i++) {
        save_with_text("foreign.png", TEXTS[i][0], TEXTS[i][1]);
        expect("$C inspect \"$D/foreign.png\"", 0, TEXTS[i][2], NULL);
    }
}

Test(cli, train_needs_a_configuration_and_a_kind) {
    expect("$C train --keys", 0, "learning rate", NULL);
    expect("$C train \"$D/none.json\" --kind vae", 66, NULL, "none.json");
    expect("$C train \"$D/none.json\"", 2, NULL, "--kind");
    expect("$C train \"$D/none.json\" --kind lora", 2, NULL, "not one of vae text2img finetune");
    expect("echo '{\"batchs\": 3}' > \"$D/c.json\"; $C train \"$D/c.json\" --kind vae", 65, NULL, "batchs");
    expect("echo '{}' >\"$D/c.json\"; $C train \"$D/c.json\" --kind vae", 65, NULL,
           "c.json: names no \"model\", nor does -m");
    expect("$C train \"$D/c.json\" --kind vae -m \"$M\"", 65, NULL, "c.json: names no \"data\"");
    expect("echo '{\"data\": \"world:\"}' >\"$D/c.json\"; $C train \"$D/c.json\" --kind vae -m \"$M\"", 2,
           NULL, "calotype-world train");
    expect("$C train \"$D/c.json\" --kind vae --max-memory 1G", 2, NULL, "unknown option --max-memory");
}

// ---- the example

Test(cli, the_example_draws) {
    expect("$E 'a boat' \"$D/e.png\" \"$M\"", 0, NULL, "sample: 10 of 10");
    cr_expect(there("e.png"));
    expect("$E 'a boat' \"$D/e.png\" \"$M\"", 73, NULL, "e.png");
    expect("$E 'a boat' \"$D/f.png\" \"$D\"", 66, NULL, "model_index.json");
}

// ---- the embedded model

// Mean of the four corners of a picture drawn without -m.
static double corners_of(const char *prompt) {
    char command[300];
    snprintf(command, sizeof command,
             "$C txt2img -p '%s' -s 1 --steps 8 --cfg-scale 2 --force -o \"$D/talbot.png\"", prompt);
    expect(command, 0, "talbot.png", NULL);
    char path[600];
    snprintf(path, sizeof path, "%s/talbot.png", folder);
    image im = {0};
    error err = {0};
    cr_assert_eq(image_load(path, &im, &err), OK, "%s", err.text);
    double sum = 0;
    for (int i = 0; i < 4; i++)
        for (int c = 0; c < im.c; c++)
            sum += im.px[((size_t)(i / 2 * (im.h - 1)) * (size_t)im.w + (size_t)(i % 2 * (im.w - 1))) *
                             (size_t)im.c +
                         (size_t)c];
    double mean = sum / (4.0 * im.c * 255);
    image_free(&im);
    return mean;
}

Test(cli, the_embedded_model_draws_the_background_it_is_told) {
    double white = corners_of("a red circle on a white background"),
           black = corners_of("a red circle on a black background");
    cr_expect(white > 0.95, "%g", white);
    cr_expect(black < 0.05, "%g", black);
}

// ---- models of few steps

Test(cli, what_is_not_said_is_what_the_model_is_made_for) {
    const char *few = "Steps: 4, Sampler: ", *guidance = "CFG scale: 1,";
    expect("ln -s \"$M\" \"$D/tiny-turbo\" && cd \"$D\" && $C txt2img -q -m tiny-turbo -p x -s 1 -o a.png && "
           "$C inspect a.png",
           0, few, NULL);
    expect("cd \"$D\" && $C inspect a.png", 0, guidance, NULL);
    expect("cd \"$D\" && $C txt2img -q -m tiny-turbo -p x -s 1 -o b.png --steps 2 --cfg-scale 3 && $C "
           "inspect b.png",
           0, "Steps: 2, ", NULL);
    expect("cd \"$D\" && $C inspect b.png", 0, "CFG scale: 3,", NULL);
    expect("cd \"$D\" && echo '{\"id\":\"j\",\"prompt\":\"x\"}' >jobs.jsonl && $C batch -q -m tiny-turbo "
           "jobs.jsonl -o p && "
           "$C inspect p/*.png",
           0, few, NULL);
}
