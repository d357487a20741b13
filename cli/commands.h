// The commands. Each gets its arguments with its own name first and returns the exit code.
#pragma once
#include "cli/options.h"

typedef struct {
    const char *name, *summary;
    int (*run)(int argc, char **argv);
    const command_line *line;
} command;

extern const command COMMANDS[]; // ended by a row without a name
const command *command_find(const char *name);

int cmd_txt2img(int argc, char **argv);
int cmd_batch(int argc, char **argv);
int cmd_upscale(int argc, char **argv);
int cmd_convert(int argc, char **argv);
int cmd_run(int argc, char **argv);
int cmd_tokenize(int argc, char **argv);
int cmd_inspect(int argc, char **argv);
int cmd_train(int argc, char **argv);
int cmd_reproduce(int argc, char **argv);
int cmd_man(int argc, char **argv);
int cmd_completion(int argc, char **argv);
int cmd_schema(int argc, char **argv);
extern const command_line TXT2IMG_LINE, BATCH_LINE, UPSCALE_LINE, CONVERT_LINE, RUN_LINE, TOKENIZE_LINE,
    INSPECT_LINE, TRAIN_LINE, REPRODUCE_LINE, MAN_LINE, COMPLETION_LINE, SCHEMA_LINE;
