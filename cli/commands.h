// The commands. Each gets its arguments with its own name first and returns the exit code.
#pragma once

int cmd_txt2img(int argc, char **argv);
int cmd_run(int argc, char **argv);
int cmd_tokenize(int argc, char **argv);
int cmd_inspect(int argc, char **argv);
int cmd_train(int argc, char **argv);
int cmd_reproduce(int argc, char **argv);
