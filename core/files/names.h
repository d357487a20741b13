// What a tensor of ours is called in a file of another layout: rows of data, and the engine that reads them.
#pragma once
#include "core/files/tensor_view.h"

// `ours` and `theirs` are patterns of whole names. A word in braces is a number that follows from two, i and
// j, of which `ours` has only these:
//     {i}, {j}, {i+1}
//     {layers}       resnets of a level, blocks of an upscaler
//     {down}         1 + (layers + 1)·i + j: blocks of the way down, counted through
//     {downsampler}  the one behind level i
//     {up}           (layers + 1)·i + j: blocks of the way up
//     {upsampler}    the last of level i
//     {last}         levels − 1 − i: levels counted from the other end
//     {3i}, {3levels+2}, {3levels+4}  as they say: an upscaler's layers
// and "*" at the end is the rest: as the first row of `rest` that matches it says, else (or without `rest`)
// as it is. The view is that of the innermost row. Where two rows know a name of ours, the first whose tensor
// is there is read; the first is written whose `with` is NULL or a tensor of ours that is there. Where two
// know a name of theirs, the first counts. A table ends with a row without names.
typedef struct name_row {
    const char *ours, *theirs;
    tensor_view view;
    const struct name_row *rest;
    const char *with;
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
// What the row's `with` asks for beside this tensor of ours, which it matches. false: nothing.
bool names_need(const file_names *names, const name_row *row, const char *ours, char needed[NAME_SIZE]);
// The way back, from a name that begins with the prefix. A matrix of three is three tensors of ours, of which
// `third` says the one; *view tells whether it is such. false: no row knows the name.
bool names_recall(const file_names *names, const char *theirs, tensor_view third, char ours[NAME_SIZE],
                  tensor_view *view);
