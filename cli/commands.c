#include "cli/commands.h"

#include <string.h>

const command COMMANDS[] = {
    {"txt2img", "draw pictures from a prompt", cmd_txt2img, &TXT2IMG_LINE},
    {"batch", "draw the pictures of a file of jobs", cmd_batch, &BATCH_LINE},
    {"upscale", "enlarge pictures with a network", cmd_upscale, &UPSCALE_LINE},
    {"train", "train a model on a folder of pictures with captions", cmd_train, &TRAIN_LINE},
    {"reproduce", "measure a paper's claims on small models trained from scratch", cmd_reproduce,
     &REPRODUCE_LINE},
    {"inspect", "show what a model folder, a tensor file or a picture holds", cmd_inspect, &INSPECT_LINE},
    {"convert", "turn weights into safetensors, in another number format, or merge them", cmd_convert,
     &CONVERT_LINE},
    {"run", "evaluate one network on tensors of a file", cmd_run, &RUN_LINE},
    {"tokenize", "turn lines of text into token ids", cmd_tokenize, &TOKENIZE_LINE},
    {"completion", "print the completions of bash, zsh or fish", cmd_completion, &COMPLETION_LINE},
    {"man", "print a manual page", cmd_man, &MAN_LINE},
    {"schema", "print the JSON schema of the configuration file", cmd_schema, &SCHEMA_LINE},
    {0}};

const command *command_find(const char *name) {
    for (const command *c = COMMANDS; c->name; c++)
        if (!strcmp(name, c->name)) return c;
    return NULL;
}
