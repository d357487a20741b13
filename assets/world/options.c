#include "assets/world/options.h"
#include "assets/world/picture.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char OPTIONS_HELP[] =
    "calotype-world draws the picture world that the embedded model is trained on.\n"
    "\n"
    "  calotype-world dataset --out DIR   pictures (NNNNNN.png), captions (NNNNNN.txt) and metadata.jsonl\n"
    "  calotype-world prompts             captions, one a line\n"
    "  calotype-world grid --out FILE     a contact sheet, 12 pictures a row\n"
    "  calotype-world vocab --out DIR     the tokenizer of the world's words, in CLIP's layout\n"
    "  calotype-world bench               pictures a second on one core\n"
    "  calotype-world train CONFIG --kind vae|text2img|finetune   as calotype train, on scenes drawn when "
    "needed\n"
    "                                     (\"data\": \"world:\" or \"world:pairs=0.1\")\n"
    "  calotype-world recogniser train CONFIG     teaches the recogniser, from nothing; options as of train\n"
    "  calotype-world recogniser test             its accuracy on --count scenes that it never saw\n"
    "  calotype-world score FILE|DIR...   what share of pictures shows what their captions state\n"
    "\n"
    "  --count N     how many (default 96; recogniser test: 500)\n"
    "  --seed N      which (default 0); the same seed and count always give the same pictures\n"
    "  --split S     train, held (combinations never trained on) or pairs (object and colour never "
    "together)\n"
    "  --single      scenes of one object only; --double: of two\n"
    "  --size N|WxH  pixels (default 128)\n"
    "  --drop P      chance of leaving parts of a caption out (default: 0.5 for a dataset, else 0)\n"
    "  --synonym P   chance of the other of two equal words (default: 0.15 for a dataset, else 0)\n"
    "  --motion      captions tell how things move\n"
    "  --time T      the scene at time T in 0 … 1\n"
    "  --mask        dataset: object masks in DIR/mask; grid: draws masks\n"
    "  --lines       dataset: line drawings in DIR/lines; grid: draws lines\n"
    "  --json        prompts: one JSON object a line, with the scene; score: one JSON object\n"
    "  --weights FILE   of the recogniser (default assets/world/recogniser.safetensors)\n"
    "  --vae DIR     recogniser test, score: also on pictures that went through this model's autoencoder\n"
    "  --captions FILE  score: one caption a line, in the order of the pictures (default: NAME.txt beside\n"
    "                NAME.png)\n";

static status bad_value(const char *name, const char *text, const char *range, error *err) {
    return fail(err, ERR_USAGE, "--%s %s: wants %s", name, text, range);
}

static status read_real(const char *name, const char *text, double *out, error *err) {
    char *end;
    double v = strtod(text, &end);
    if (end == text || *end || !(v >= 0 && v <= 1)) return bad_value(name, text, "a number from 0 to 1", err);
    *out = v;
    return OK;
}

static status read_count(const char *text, int *out, error *err) {
    char *end;
    long v = strtol(text, &end, 10);
    if (end == text || *end || v < 1 || v > 1000000) return bad_value("count", text, "1 to 1000000", err);
    *out = (int)v;
    return OK;
}

static status read_seed(const char *text, uint64_t *out, error *err) {
    char *end;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 10);
    if (end == text || *end || errno || *text == '-') return bad_value("seed", text, "0 to 2^64 − 1", err);
    *out = v;
    return OK;
}

static status read_size(const char *text, int *H, int *W, error *err) {
    char rest;
    if (sscanf(text, "%dx%d%c", W, H, &rest) != 2) {
        if (sscanf(text, "%d%c", W, &rest) != 1) *W = 0;
        *H = *W;
    }
    if (*W >= 1 && *H >= 1 && *W <= PICTURE_MAX_SIDE && *H <= PICTURE_MAX_SIDE) return OK;
    return bad_value("size", text, "N or WxH, 1 to 4096 pixels", err);
}

static status read_split(const char *text, split *out, error *err) {
    for (int i = 0; i < SPLITS; i++)
        if (!strcmp(text, SPLIT_WORD[i])) {
            *out = (split)i;
            return OK;
        }
    return bad_value("split", text, "train, held or pairs", err);
}

static const struct option LONG[] = {
    {"out", required_argument, NULL, 'o'},
    {"count", required_argument, NULL, 'n'},
    {"seed", required_argument, NULL, 's'},
    {"split", required_argument, NULL, 'p'},
    {"single", no_argument, NULL, '1'},
    {"double", no_argument, NULL, '2'},
    {"size", required_argument, NULL, 'w'},
    {"drop", required_argument, NULL, 'd'},
    {"synonym", required_argument, NULL, 'y'},
    {"motion", no_argument, NULL, 'v'},
    {"time", required_argument, NULL, 't'},
    {"mask", no_argument, NULL, 'm'},
    {"lines", no_argument, NULL, 'l'},
    {"json", no_argument, NULL, 'j'},
    {"weights", required_argument, NULL, 'r'},
    {"vae", required_argument, NULL, 'e'},
    {"captions", required_argument, NULL, 'c'},
    {"help", no_argument, NULL, 'h'},
    {0},
};

static status read_option(int letter, const char *text, options *o, error *err) {
    switch (letter) {
    case 'o':
        o->out = text;
        return OK;
    case 'n':
        return read_count(text, &o->count, err);
    case 's':
        return read_seed(text, &o->seed, err);
    case 'p':
        return read_split(text, &o->choice.split, err);
    case '1':
        o->choice.count = 1;
        return OK;
    case '2':
        o->choice.count = 2;
        return OK;
    case 'w':
        return read_size(text, &o->H, &o->W, err);
    case 'd':
        return read_real("drop", text, &o->style.leave_out, err);
    case 'y':
        return read_real("synonym", text, &o->style.synonym, err);
    case 't':
        return read_real("time", text, &o->time, err);
    case 'v':
        o->style.motion = true;
        return OK;
    case 'm':
        o->mask = true;
        return OK;
    case 'l':
        o->lines = true;
        return OK;
    case 'j':
        o->json = true;
        return OK;
    case 'r':
        o->weights = text;
        return OK;
    case 'e':
        o->vae = text;
        return OK;
    case 'c':
        o->captions = text;
        return OK;
    case 'h':
        o->help = true;
        return OK;
    default:
        return fail(err, ERR_USAGE, "see calotype-world --help");
    }
}

status world_options(int argc, char **argv, options *out, error *err) {
    *out = (options){.count = 96, .H = 128, .W = 128, .weights = "assets/world/recogniser.safetensors"};
    out->command = argc > 1 && argv[1][0] != '-' ? argv[1] : "";
    if (!strcmp(out->command, "recogniser")) out->count = 500;
    if (!strcmp(out->command, "dataset")) out->style = (caption_style){.leave_out = .5, .synonym = .15};
    int skip = *out->command ? 1 : 0;
    for (int letter; (letter = getopt_long(argc - skip, argv + skip, "h", LONG, NULL)) != -1;) {
        status st = read_option(letter, optarg, out, err);
        if (st) return st;
    }
    out->word = argv + optind + skip; // getopt has moved them behind the options
    out->words = argc - optind - skip;
    return OK;
}
