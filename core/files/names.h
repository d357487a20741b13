// What a tensor of ours is called in a file of another layout: rows of data, and the engine that reads them.
#pragma once
#include <stdbool.h>
#include <stddef.h>

// How the values of a tensor lie in the file's.
typedef enum {
    VIEW_WHOLE,
    VIEW_FIRST_THIRD, // of its rows: q, k and v fused into one matrix
    VIEW_SECOND_THIRD,
    VIEW_LAST_THIRD,
    VIEW_TRANSPOSED // a matrix stored [in, out]
} tensor_view;

// `ours` matches a whole name: {i} and {j} are numbers, "*" at the end is the rest. `theirs` is written with
//     {i}, {j}, {i+1}
//     {down}  1 + (layers + 1)·i + j: blocks of the way down, counted through; {downsampler} the one behind
//     level i {up}    (layers + 1)·i + j: of the way up; {upsampler} the last of level i {last}  levels − 1 −
//     i: levels counted from the other end
// and "*", the rest: as the first row of `rest` that matches it says, else (or without `rest`) as it is. The
// view is that of the innermost row. A table ends with a row without names.
typedef struct name_row {
    const char *ours, *theirs;
    tensor_view view;
    const struct name_row *rest;
} name_row;

// A part of a file: its tensors begin with `prefix`.
typedef struct {
    const char *prefix;
    const name_row *rows;
    int levels, layers; // of the network, where the rows count
} file_names;

enum { NAME_SIZE = 512 };

// The name by row `row` of the table. false: the row does not match, or the name is longer than NAME_SIZE.
bool names_translate(const file_names *names, const name_row *row, const char *ours, char theirs[NAME_SIZE],
                     tensor_view *view);
