// Files of jobs: formats, wildcards, shards, the journal; killed, doubled, hostile.
#include "cli/job.h"
#include "cli/journal.h"
#include "cli/shard.h"
#include "cli/wildcards.h"
#include "core/base/fs.h"
#include "tests/shell.h"
#include "tests/tiny_model.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

// ---- formats

static job_lines parse(const char *text, jobs_format format) {
    job_lines jobs;
    char message[300] = "";
    int code = jobs_parse(text, strlen(text), format, &JOB_LINE, &jobs, message, sizeof message);
    cr_assert_eq(code, 0, "%s", message);
    return jobs;
}

static void expect_keys(const job_lines *jobs, size_t i, long line, const char *keys) {
    cr_assert_lt(i, jobs->n, "%s", keys);
    json_t *want = json_loads(keys, 0, NULL);
    char *got = json_dumps(jobs->at[i].keys, JSON_SORT_KEYS);
    cr_assert_not_null(want, "%s", keys);
    cr_expect_eq(jobs->at[i].line, line, "%s", keys);
    cr_expect(json_equal(want, jobs->at[i].keys), "line %ld is %s (%s), not %s", line, got ? got : "nothing",
              jobs->at[i].error ? jobs->at[i].error : "", keys);
    free(got);
    json_decref(want);
}

static void expect_error(const char *text, jobs_format format, const char *says) {
    job_lines jobs = parse(text, format);
    cr_assert_geq(jobs.n, 1, "%s", text);
    const job_line *last = &jobs.at[jobs.n - 1];
    cr_expect_null(last->keys, "%s", text);
    cr_expect(last->error && strstr(last->error, says), "'%s' is told as '%s', not '%s'", text, last->error,
              says);
    jobs_free(&jobs);
}

Test(batch, json_lines) {
    job_lines jobs = parse("\xef\xbb\xbf{\"prompt\":\"a\",\"cfg_scale\":2}\r\n\n {\"prompt\":\"b\",\"id\":7,"
                           "\"sampler_name\":\"Euler a\",\"seed\":null}",
                           JOBS_JSONL);
    cr_expect_eq(jobs.n, 2);
    expect_keys(&jobs, 0, 1, "{\"prompt\":\"a\",\"cfg-scale\":2}");
    expect_keys(&jobs, 1, 3, "{\"prompt\":\"b\",\"id\":7,\"sampling-method\":\"Euler a\"}");
    jobs_free(&jobs);
    expect_error("{}\n{\"steps\":NaN}", JOBS_JSONL, "NaN");
    expect_error("{\"prompt\":\"a\"", JOBS_JSONL, "column");
    expect_error("[1]", JOBS_JSONL, "not a JSON object");
    expect_error("{\"seed\":1,\"seed\":2}", JOBS_JSONL, "duplicate");
    expect_error("{\"cfg-scale\":1,\"cfg_scale\":2}", JOBS_JSONL, "twice");
    expect_error("{\"prompt\":\"\xff\"}", JOBS_JSONL, "decode");
    expect_error("{\"prompt\":\"a\\u0000b\"}", JOBS_JSONL, "not allowed");
}

Test(batch, csv) {
    job_lines jobs = parse(
        "prompt,Steps,no_metadata,seed\r\n\"a, \"\"b\"\"\nc\",4,true,\nx,,,-1\n\n\"\",5,0,3\n", JOBS_CSV);
    cr_expect_eq(jobs.n, 3);
    expect_keys(&jobs, 0, 2, "{\"prompt\":\"a, \\\"b\\\"\\nc\",\"Steps\":\"4\",\"no-metadata\":true}");
    expect_keys(&jobs, 1, 4, "{\"prompt\":\"x\",\"seed\":-1}");
    expect_keys(&jobs, 2, 6, "{\"Steps\":\"5\",\"no-metadata\":false,\"seed\":3}");
    jobs_free(&jobs);
    jobs = parse("prompt,\"st\neps\"\na,1\nb,2", JOBS_CSV);
    cr_expect_eq(jobs.n, 2);
    cr_expect_eq(jobs.at[1].line, 4);
    jobs_free(&jobs);
    expect_error("prompt,steps\na,1,2\n", JOBS_CSV, "3 fields");
    expect_error("prompt\n\"a\n", JOBS_CSV, "quote");
    char message[300];
    cr_expect_eq(jobs_parse("a,a\n", 4, JOBS_CSV, &JOB_LINE, &jobs, message, sizeof message), 65);
    cr_expect_eq(jobs_parse("\"", 1, JOBS_CSV, &JOB_LINE, &jobs, message, sizeof message), 65);
}

Test(batch, prompts_with_flags_in_three_dialects) {
    job_lines jobs =
        parse("# a comment\n"
              "a boat, well-made --steps 20 -s 5 --sampler 'Euler a'\n"
              "--prompt \"a \\\"red\\\" boat\" --negative_prompt \"x, y\" --cfg_scale 3 --seed -1\n"
              "a tree --n grey, dull --w 512 --h 768 --s 30 --d 1 --l 7.5 --f name.png\n"
              "a hill --no-metadata\n"
              "just - a -- prompt",
              JOBS_TEXT);
    cr_expect_eq(jobs.n, 5);
    expect_keys(&jobs, 0, 2,
                "{\"prompt\":\"a boat, well-made\",\"steps\":20,\"seed\":5,\"sampler\":\"Euler a\"}");
    expect_keys(
        &jobs, 1, 3,
        "{\"prompt\":\"a \\\"red\\\" boat\",\"negative-prompt\":\"x, y\",\"cfg-scale\":3,\"seed\":-1}");
    expect_keys(&jobs, 2, 4,
                "{\"prompt\":\"a tree\",\"negative-prompt\":\"grey, "
                "dull\",\"width\":512,\"height\":768,\"steps\":30,\"seed\":1,\"cfg-scale\":7.5,\"output\":"
                "\"name.png\"}");
    expect_keys(&jobs, 3, 5, "{\"prompt\":\"a hill\",\"no-metadata\":true}");
    expect_keys(&jobs, 4, 6, "{\"prompt\":\"just - a -- prompt\"}");
    jobs_free(&jobs);
    expect_error("a --negative-prompt \"x", JOBS_TEXT, "quote");
    expect_error("a --steps 3 --steps 4", JOBS_TEXT, "twice");
    expect_error("--prompt \"a\" b", JOBS_TEXT, "behind");
}

// ---- what a line becomes

static job_list list_of(const char *text, const job_rules *rules) {
    job_lines lines = parse(text, JOBS_JSONL);
    job_list list = {0};
    for (size_t i = 0; i < lines.n; i++) cr_assert_eq(job_list_add(&list, &lines.at[i], rules), 0);
    jobs_free(&lines);
    return list;
}

static job_rules rules(void) { return (job_rules){.defaults = {drawing_defaults(), NULL}}; }

Test(batch, jobs_without_ids_have_lasting_ones) {
    job_rules r = rules();
    const char *text = "{\"prompt\":\"a\"}\n{\"prompt\":\"a\"}\n{\"prompt\":\"b\"}\n"
                       "{\"prompt\":\"a\",\"id\":\"x\"}\n{\"prompt\":\"b\",\"id\":\"x\"}\n"
                       "{\"prompt\":\"{a|b}\",\"seed\":7,\"batch-count\":3}";
    job_list a = list_of(text, &r), b = list_of(text, &r);
    cr_assert_eq(a.n, 8);
    for (size_t i = 0; i < a.n; i++) {
        cr_expect_str_eq(a.at[i].id, b.at[i].id);
        cr_expect_eq(a.at[i].seed, b.at[i].seed);
        for (size_t k = 0; k < i; k++) cr_expect_str_neq(a.at[i].id, a.at[k].id);
    }
    cr_expect_neq(a.at[0].seed, a.at[1].seed, "equal lines without a seed are two pictures");
    cr_expect_eq(a.at[4].code, 65);
    cr_expect(strstr(a.at[4].error, "'x' is there already"), "%s", a.at[4].error);
    cr_expect_eq(a.at[7].seed, 9);
    // Names that a batch of an earlier version has given stay those of its jobs.
    cr_expect_str_eq(a.at[0].id, "1d6014e3cfd6c561");
    r.defaults.drawing.steps = 3;
    job_list other = list_of(text, &r);
    cr_expect_str_neq(other.at[0].id, a.at[0].id, "other options, another picture");
    job_list_free(&other);
    job_list_free(&b);
    job_list_free(&a);
}

Test(batch, hostile_names_are_refused) {
    static const char *const NAMES[] = {
        "../x.png",     "/x.png",     "a/b.png",        "..",         ".x.png",  "-rf.png",
        "x\\u0001.png", "x\\n.png",   "\\u007f.png",    "a\\\\b.png", "",        "x",
        "x.exe",        ".png",       "manifest.jsonl", "x.png/",     "./x.png", "\\u009b2J.png",
        "\\u0085.png",  "{id}/x.png", "..{id}.png"};
    job_rules r = rules();
    char text[6000];
    for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++) {
        snprintf(text, sizeof text, "{\"prompt\":\"a\",\"output\":\"%s\"}", NAMES[i]);
        job_list list = list_of(text, &r);
        cr_expect_eq(list.at[0].code, 65, "%s", NAMES[i]);
        job_list_free(&list);
        snprintf(text, sizeof text, "{\"prompt\":\"a\",\"id\":\"../%s\"}", NAMES[i]);
        list = list_of(text, &r);
        cr_expect_eq(list.at[0].code, 65, "id ../%s", NAMES[i]);
        job_list_free(&list);
    }
    snprintf(text, sizeof text, "{\"prompt\":\"a\",\"output\":\"%04096d.png\"}", 0);
    job_list list = list_of(text, &r);
    cr_expect(list.at[0].code == 65 && strstr(list.at[0].error, "too long"));
    job_list_free(&list);
}

// ---- wildcards

static void expect_expansion(const char *text, const char *dir, uint64_t seed, const char *one_of) {
    char *out, message[300];
    cr_assert_eq(wildcards_expand(text, dir, seed, &out, message, sizeof message), 0, "%s", message);
    char bounded[200];
    snprintf(bounded, sizeof bounded, "/%s/", out);
    cr_expect(strstr(one_of, bounded), "'%s' is not one of %s", bounded, one_of);
    free(out);
}

Test(batch, wildcards) {
    char dir[] = "/tmp/calotype-wild-XXXXXX", path[100], *out, message[300];
    cr_assert_not_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/colour.txt", dir);
    FILE *f = fopen(path, "w");
    fputs("# colours\r\nred\r\n\r\n{dark|light} blue\n", f);
    fclose(f);
    for (uint64_t seed = 0; seed < 40; seed++) {
        expect_expansion("a {red|{blue|green}|} boat", NULL, seed,
                         "/a red boat/a blue boat/a green boat/a  boat/");
        expect_expansion("a __colour__ boat", dir, seed, "/a red boat/a dark blue boat/a light blue boat/");
        expect_expansion("__colour__ __x {alone} \\{a|b\\}", NULL, seed, "/__colour__ __x {alone} {a|b}/");
    }
    int seen[2] = {0};
    for (uint64_t seed = 0; seed < 200; seed++) {
        cr_assert_eq(wildcards_expand("{a|b}", NULL, seed, &out, message, sizeof message), 0);
        seen[*out == 'b']++;
        free(out);
    }
    cr_expect(seen[0] > 60 && seen[1] > 60, "of 200 fair choices %d and %d: 5.6 deviations", seen[0],
              seen[1]);
    expect_expansion("{alone :{ \\{a\\|b", NULL, 0, "/{alone :{ {a|b/");
    cr_expect_eq(wildcards_expand("a {b|c", NULL, 0, &out, message, sizeof message), 65);
    cr_expect_eq(wildcards_expand("{{{{{{{{{{{{{{{{{", NULL, 0, &out, message, sizeof message), 65);
    cr_expect_eq(wildcards_expand("__none__", dir, 0, &out, message, sizeof message), 66);
    cr_expect_null(out);
    snprintf(path, sizeof path, "%s/loop.txt", dir);
    f = fopen(path, "w");
    fputs("__loop__ __loop__\n", f);
    fclose(f);
    cr_expect_eq(wildcards_expand("__loop__", dir, 0, &out, message, sizeof message), 65);
    expect_expansion("__../colour__ __/x__ __.colour__", dir, 0, "/__../colour__ __/x__ __.colour__/");
    remove(path);
    snprintf(path, sizeof path, "%s/colour.txt", dir);
    remove(path);
    rmdir(dir);
}

// ---- shards

static void clear_environment(void) {
    static const char *const NAMES[] = {"SLURM_ARRAY_TASK_ID",
                                        "SLURM_ARRAY_TASK_COUNT",
                                        "SLURM_ARRAY_TASK_MIN",
                                        "SLURM_ARRAY_TASK_STEP",
                                        "JOB_COMPLETION_INDEX",
                                        "JOB_COMPLETION_COUNT",
                                        "OMPI_COMM_WORLD_RANK",
                                        "OMPI_COMM_WORLD_SIZE",
                                        "PMI_RANK",
                                        "PMI_SIZE",
                                        "SLURM_PROCID",
                                        "SLURM_NTASKS",
                                        "SLURM_STEP_NUM_TASKS"};
    for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++) unsetenv(NAMES[i]);
}

static void expect_shard(const char *text, long rank, long count) {
    shard s;
    char message[200] = "";
    int code = shard_choose(text, &s, message, sizeof message);
    cr_expect_eq(code, count ? 0 : -1, "%s: %s", text ? text : "environment", message);
    if (count) cr_expect(s.rank == rank && s.count == count, "%ld of %ld", s.rank, s.count);
}

static void set_number(const char *name, long value) {
    char text[24];
    snprintf(text, sizeof text, "%ld", value);
    setenv(name, text, 1);
}

Test(batch, shards_are_read_from_launchers) {
    clear_environment();
    expect_shard(NULL, 0, 1);
    expect_shard("2/3", 1, 3);
    for (const char *const *bad =
             (const char *const[]){"0/3", "4/3", "1/0", "1", "x/2", "1/2x", "-1/2", "/3", "", NULL};
         *bad; bad++)
        expect_shard(*bad, 0, 0);
    setenv("JOB_COMPLETION_INDEX", "2", 1);
    expect_shard(NULL, 0, 0);
    expect_shard("/5", 2, 5);
    expect_shard("/2", 0, 0);
    expect_shard("1/7", 0, 7);
    clear_environment();
    setenv("SLURM_ARRAY_TASK_ID", "7", 1);
    setenv("SLURM_ARRAY_TASK_COUNT", "4", 1);
    setenv("SLURM_ARRAY_TASK_MIN", "3", 1);
    setenv("SLURM_ARRAY_TASK_STEP", "2", 1);
    expect_shard(NULL, 2, 4);
    setenv("SLURM_PROCID", "1", 1);
    setenv("SLURM_NTASKS", "3", 1);
    expect_shard(NULL, 7, 12);
    setenv("SLURM_PROCID", "x", 1);
    expect_shard(NULL, 0, 0);
    clear_environment();
}

Test(batch, shards_are_a_partition) {
    static const char *const PAIRS[][2] = {{"SLURM_PROCID", "SLURM_NTASKS"},
                                           {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"},
                                           {"PMI_RANK", "PMI_SIZE"},
                                           {"JOB_COMPLETION_INDEX", "JOB_COMPLETION_COUNT"},
                                           {"SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT"}};
    for (int pair = 0; pair < 5; pair++) {
        clear_environment();
        for (long n = 1; n <= 17; n++) {
            for (long jobs = 0; jobs <= 100; jobs += 20) {
                int owners[100] = {0};
                for (long i = 0; i < n; i++) {
                    shard s;
                    char message[200];
                    set_number(PAIRS[pair][0], i);
                    set_number(PAIRS[pair][1], n);
                    cr_assert_eq(shard_choose(NULL, &s, message, sizeof message), 0, "%s", message);
                    job_list list = {.at = calloc((size_t)jobs + 1, sizeof(job)), .n = (size_t)jobs};
                    for (long k = 0; k < jobs; k++) list.at[k].line = k;
                    job_list_keep(&list, s);
                    for (size_t k = 0; k < list.n; k++) owners[list.at[k].line]++;
                    job_list_free(&list);
                }
                for (long k = 0; k < jobs; k++)
                    cr_assert_eq(owners[k], 1, "job %ld of %ld in %ld", k, jobs, n);
            }
        }
    }
    clear_environment();
}

// ---- the program on a small model

static void begin(void) {
    char draw[1200];
    shell_begin();
    snprintf(draw, sizeof draw, "%s batch -q -t 1 -m %s", CALOTYPE_PROGRAM, model);
    setenv("B", draw, 1);
    clear_environment();
}

TestSuite(batch_runs, .init = begin, .fini = shell_end, .timeout = 7200);

// A command in the folder. $B draws jobs of the model with one thread.
static void run(const char *command, int code, const char *out, const char *err) {
    char line[4000];
    snprintf(line, sizeof line, "cd \"$D\"; %s", command);
    expect(line, code, out, err);
}

static void write_jobs(const char *name, int n, int steps) {
    char path[700];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "w");
    cr_assert_not_null(f);
    for (int i = 0; i < n; i++)
        fprintf(f, "{\"id\":\"j%03d\",\"prompt\":\"a {red|blue} boat %d\",\"seed\":%d,\"steps\":%d}\n", i, i,
                100 + i, steps + i % 3 / 2);
    fclose(f);
}

// Every job is done exactly once in the journal of `dir`, and its file is that of the undisturbed `whole`;
// there is no other file, hidden ones included.
static void expect_whole(const char *dir, int jobs) {
    char command[400];
    snprintf(
        command, sizeof command,
        "cd %s; test $(grep -c '\"status\":\"done\"' manifest.jsonl) = %d && test $(grep -o "
        "'^{\"id\":\"j...' manifest.jsonl | sort -u | wc -l) = %d || exit 8; for f in ../whole/*.png; do "
        "cmp $f ${f##*/} || exit 9; done; ls -A >&2; test $(ls -A | wc -l) = %d",
        dir, jobs, jobs, jobs + 1);
    run(command, 0, NULL, NULL);
}

Test(batch_runs, a_batch_is_its_pictures_drawn_alone) {
    write_jobs("jobs.jsonl", 7, 2);
    run("$B jobs.jsonl -o whole", 0, "whole/j006.png", NULL);
    run("$B jobs.jsonl -o whole", 0, "", NULL);
    run("${B% -q*}${B#*-q} jobs.jsonl -o alone --together 1", 0, NULL, "100%  picture 7 of 7, step ");
    expect_whole("alone", 7);
    run("rm whole/j003.png; $B jobs.jsonl -o whole", 0, "whole/j003.png", NULL);
    run("cmp whole/j003.png alone/j003.png", 0, NULL, NULL);
    run("grep -q '\"template\":\"a {red|blue} boat 0\"' whole/manifest.jsonl && sha256sum whole/j001.png "
        "| cut -c "
        "1-64 | xargs -I{} grep -q {} whole/manifest.jsonl",
        0, NULL, NULL);
    // A file that was drawn before its process could say so is taken; another one is not.
    run("mkdir lost; cp whole/j001.png lost; $B jobs.jsonl -o lost", 0, NULL, NULL);
    run("mkdir mine; echo x > mine/j001.png; $B jobs.jsonl -o mine", 1, "j002.png", "another file is there");
    run("test $(cat mine/j001.png) = x; $B jobs.jsonl -o mine --force", 0, "mine/j001.png", NULL);
    run("cmp mine/j001.png whole/j001.png", 0, NULL, NULL);
}

Test(batch_runs, a_bad_job_fails_alone) {
    run("printf '%s\\n' '{\"prompt\":\"a\",\"steps\":1}' '{\"prompt\":' '{\"prompt\":\"b\",\"stpes\":1}' "
        "'{\"prompt\":\"c\",\"steps\":0}' '{\"prompt\":\"d\",\"width\":33,\"steps\":1}' '{\"steps\":1}' "
        "'{\"prompt\":\"e\",\"sampler\":\"plmz\"}' '{\"prompt\":\"f\",\"init-latents\":\"/etc/passwd\"}' "
        "'{\"prompt\":\"g\",\"steps\":1}' > bad.jsonl; $B bad.jsonl -o bad --json",
        1, "\"line\":9,\"file\"", "line 3: unknown key 'stpes' (did you mean steps?)");
    run("grep -c '\"status\":\"done\"' bad/manifest.jsonl; for l in 2 3 4 5 6 7 8; do grep -q "
        "'\"failed\",\"line\":'$l, bad/manifest.jsonl || exit 9; done",
        0, "2", NULL);
    run("$B bad.jsonl -o strict --strict", 65, NULL, "line 2");
    run("head -c 2000000 /dev/zero | tr '\\0' x >long.txt; echo >>long.txt; echo 'a --steps 1' >>long.txt; "
        "$B long.txt -o long",
        1, "long/", "calotype: long.txt: line 1: longer than 1 MB");
    run("echo 'a --steps 0' | $B - -o bad", 1, NULL, "calotype: standard input: line 1: steps");
    run("$B none.jsonl -o x", 66, NULL, "none.jsonl");
    run("$B", 2, NULL, "which jobs?");
    run("$B bad.jsonl -o x --shard 3/2", 2, NULL, "3/2");
    run("echo x > file; $B bad.jsonl -o file", 73, NULL, "file");
}

// Jobs of one beginning are drawn together, and are the pictures that txt2img draws.
Test(batch_runs, jobs_begin_from_pictures) {
    run("$C txt2img -q -m \"$M\" -p a --steps 1 -s 1 -o one.png && $C txt2img -q -m \"$M\" -p b --steps 1 -s "
        "2 -o two.png",
        0, NULL, NULL);
    run("printf '%s\\n' '{\"prompt\":\"c\",\"init-img\":\"one.png\",\"id\":\"x\"}' "
        "'{\"prompt\":\"d\",\"init-img\":\"one.png\",\"id\":\"y\"}' "
        "'{\"prompt\":\"c\",\"init-img\":\"two.png\",\"mask\":\"one.png\",\"strength\":0.5,\"id\":\"z\"}' "
        "'{\"prompt\":\"c\",\"init-img\":\"none.png\",\"id\":\"u\"}' "
        "'{\"prompt\":\"c\",\"mask\":\"one.png\",\"id\":\"v\"}' > begin.jsonl; "
        "$B begin.jsonl -o begun --steps 3 --seed 5 --sampling-method ddim",
        1, NULL, "line 4: none.png");
    run("for j in 'x c one.png' 'y d one.png' 'z c two.png --mask one.png --strength 0.5'; do set -- $j; "
        "id=$1; p=$2; shift 2; "
        "$C txt2img -q -m \"$M\" --steps 3 -s 5 --sampling-method ddim -p $p -o alone.png --force -i \"$@\" "
        "&& "
        "cmp alone.png begun/$id.png || exit 9; done; ls begun | grep -c png",
        0, "3", NULL);
}

Test(batch_runs, nan_fails_its_job_by_name) {
    tiny_model_spoil(model, "vae", "decoder.conv_out.bias", NAN);
    write_jobs("jobs.jsonl", 2, 1);
    run("$B jobs.jsonl -o nan", 1, NULL, "nan");
    run("ls nan/*.png", 2, NULL, NULL);
}

Test(batch_runs, nothing_leaves_the_folder) {
    run("mkdir out.d; echo safe > target.png; ln -s ../target.png out.d/link.png; "
        "printf '%s\\n' '{\"prompt\":\"a\",\"steps\":1,\"output\":\"link.png\"}' "
        "'{\"prompt\":\"a\",\"steps\":1,\"output\":\"../escaped.png\"}' > h.jsonl; $B h.jsonl -o out.d",
        1, NULL, NULL);
    run("$B h.jsonl -o out.d --force; cat target.png; ls escaped.png", 2, "safe", NULL);
    run("mkdir j; echo '{\"id\":\"x\",\"status\":\"done\",\"file\":\"../target.png\"}' >j/manifest.jsonl; "
        "echo '{\"id\":\"x\",\"prompt\":\"a\",\"steps\":1}' >x.jsonl; $B x.jsonl -o j",
        0, "j/x.png", NULL);
    run("ln -s target.png m; mkdir s; ln -s ../target.png s/manifest.jsonl; $B h.jsonl -o s", 73, NULL, NULL);
}

Test(batch_runs, a_worker_answers_each_line) {
    run("printf '%s\\n' '{\"id\":\"a\",\"prompt\":\"x\",\"steps\":1}' 'rubbish' '' "
        "'{\"id\":\"a\",\"prompt\":\"x\",\"steps\":1}' "
        "'{\"id\":\"b\",\"prompt\":\"x\",\"steps\":1,\"seed\":3}' "
        "| $B --worker -o w",
        1, "{\"id\":\"b\",\"status\":\"done\"", "line 2");
    run("(head -c 3000000 /dev/zero | tr '\\0' x; echo; echo "
        "'{\"id\":\"long\",\"prompt\":\"x\",\"steps\":1}') | $B --worker -o w",
        1, "{\"id\":\"long\",\"status\":\"done\"", "line 1: longer than 1 MB");
    // The same job again is answered again, whether it was done or has failed.
    run("for i in 1 2; do echo '{\"id\":\"z\",\"prompt\":\"x\",\"steps\":0}'; echo "
        "'{\"id\":\"a\",\"prompt\":\"x\",\"steps\":1}'; done | $B --worker -o w | cut -d, -f1-2 | tr '\\n' ' "
        "'",
        0,
        "{\"id\":\"z\",\"status\":\"failed\" {\"id\":\"a\",\"status\":\"done\" "
        "{\"id\":\"z\",\"status\":\"failed\" {\"id\":\"a\",\"status\":\"done\" ",
        NULL);
    run("printf '%s\\n' '{\"id\":\"a\",\"prompt\":\"x\",\"steps\":1}' "
        "'{\"id\":\"a\",\"prompt\":\"x\",\"steps\":1}' "
        "'{\"id\":\"c\",\"prompt\":\"x\",\"steps\":1}' | $B --worker -o w | cut -d, -f1-2 | tr '\\n' ' '",
        0,
        "{\"id\":\"a\",\"status\":\"done\" {\"id\":\"a\",\"status\":\"done\" "
        "{\"id\":\"c\",\"status\":\"done\" ",
        NULL);
}

Test(batch_runs, a_signal_ends_without_torn_files) {
    write_jobs("jobs.jsonl", 24, 1);
    write_jobs("slow.jsonl", 300, 500);
    run("$B jobs.jsonl -o whole", 0, NULL, NULL);
    run("$B slow.jsonl -o slow & p=$!; sleep 1; kill -TERM $p; wait $p", 143, NULL, NULL);
    run("$B slow.jsonl -o slow & p=$!; sleep 1; kill -INT $p; wait $p", 130, NULL, NULL);
    run("mkfifo f; $B --worker -o worker <f & p=$!; exec 3>f; cat jobs.jsonl >&3; "
        "while ! test -e worker/j023.png; do sleep 0.1; done; kill -TERM $p; wait $p",
        143, NULL, NULL);
    expect_whole("worker", 24);
}

Test(batch_runs, two_workers_do_no_job_twice) {
    write_jobs("jobs.jsonl", 40, 2);
    run("$B jobs.jsonl -o whole", 0, NULL, NULL);
    run("$B jobs.jsonl -o two & p=$!; $B jobs.jsonl -o two --together 3 || exit 8; wait $p", 0, NULL, NULL);
    expect_whole("two", 40);
    run("for i in 1 2 3; do $B jobs.jsonl -o parts --shard $i/3 || exit 8; done", 0, NULL, NULL);
    expect_whole("parts", 40);
    // One of them dies: the other takes over what it had claimed.
    run("$B jobs.jsonl -o widow & p=$!; sleep 0.3; $B jobs.jsonl -o widow & q=$!; sleep 0.1; kill -9 $p; "
        "wait $q && "
        "$B jobs.jsonl -o widow",
        0, NULL, NULL);
    expect_whole("widow", 40);
}

// ---- kill -9

static double seconds_of(const char *command) {
    struct timespec a, b;
    clock_gettime(CLOCK_MONOTONIC, &a);
    run(command, 0, NULL, NULL);
    clock_gettime(CLOCK_MONOTONIC, &b);
    return (double)(b.tv_sec - a.tv_sec) + 1e-9 * (double)(b.tv_nsec - a.tv_nsec);
}

// A few of every day; ./dev soak (CALO_SOAK) asks for more.
Test(batch_runs, killed_at_any_moment_nothing_is_lost_doubled_or_torn) {
    bool soak = getenv("CALO_SOAK") != NULL;
    int jobs = soak ? 200 : 24, kills = soak ? 300 : 20, done = 0, batches = 1;
    write_jobs("jobs.jsonl", jobs, 2);
    double work = seconds_of("$B jobs.jsonl -o whole"), start = seconds_of("$B jobs.jsonl -o whole");
    double longest = start + (work > start ? (work - start) / 6 : 0.1); // a sixth of the jobs
    srand(7);
    for (int rounds = 0; done < kills; rounds++) {
        cr_assert_lt(rounds, 100 * kills);
        if (killed_after("$B jobs.jsonl -o killed", (unsigned)(1e6 * longest * rand() / RAND_MAX))) {
            done++;
            continue;
        }
        expect_whole("killed", jobs);
        run("rm -r killed", 0, NULL, NULL);
        batches++;
    }
    run("$B jobs.jsonl -o killed", 0, NULL, NULL);
    expect_whole("killed", jobs);
    fprintf(stderr, "%d kills in %d batches of %d jobs, each within %.2f s\n", done, batches, jobs, longest);
    run("printf '{\"id\":\"j001\",\"sta' >> killed/manifest.jsonl; rm killed/j000.png; $B jobs.jsonl -o "
        "killed",
        0, "j000.png", NULL);
}

Test(batch_runs, what_killed_writers_left_is_removed) {
    char path[700];
    error e = {0};
    snprintf(path, sizeof path, "%s/left/alive.png", folder);
    run("mkdir left; cd left; touch .calotype-0123456789abcdef.tmp .calotype-notes.tmp ../kept; "
        "ln -s ../kept .calotype-0000000000000000.tmp; mkfifo .calotype-0000000000000001.tmp",
        0, NULL, NULL);
    fs_writer *alive = fs_writer_open(path, false, &e);
    cr_assert_not_null(alive, "%s", e.text);
    write_jobs("jobs.jsonl", 1, 1);
    run("$B jobs.jsonl -o left", 0, "left/j000.png", NULL);
    run("test -e kept && cd left && test -e .calotype-notes.tmp -a -h .calotype-0000000000000000.tmp -a -p "
        ".calotype-0000000000000001.tmp -a ! -e .calotype-0123456789abcdef.tmp && ls -A | wc -l",
        0, "6\n", NULL); // with the picture, the manifest and what is being written
    cr_expect_eq(fs_writer_put(alive, "x", 1, &e), OK);
    cr_expect_eq(fs_writer_commit(alive, &e), OK, "%s", e.text);
    run("test \"$(cat left/alive.png)\" = x && ls -A left | wc -l", 0, "6\n", NULL);
}

// ---- the example

Test(batch_runs, the_example_of_200_jobs) {
    bool slow = getenv("ASAN_OPTIONS") != NULL; // a sanitizer takes twenty times as long
    char command[600];
    char here[400];
    cr_assert_not_null(getcwd(here, sizeof here));
    snprintf(command, sizeof command, "'%s' batch -q '%s/examples/jobs.jsonl' -o example --json %s",
             CALOTYPE_PROGRAM, here, slow ? "--shard 1/20" : "");
    run(command, 0, "\"status\":\"done\"", NULL);
    snprintf(command, sizeof command, "ls example/*.png | wc -l");
    run(command, 0, slow ? "10" : "200", NULL);
}
