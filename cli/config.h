// The configuration file: long names of options and their values, as a JSON object. A key serves every
// command that has the option; an object under a command's name holds what is for that command only.
#pragma once
#include "cli/options.h"

// $XDG_CONFIG_HOME/calotype/config.json, or ~/.config/calotype/config.json; "" where there is no home.
void config_path(char *out, size_t size);
// Fills the struct behind `dst` from the file, and hands out in *config what owns its texts (json_decref;
// NULL for a missing file that nobody named). Returns -1 or, for a file that cannot be opened, -4 after
// an error was printed.
int config_read(const command_line *c, void *dst, const char *path, bool named, json_t **config);
