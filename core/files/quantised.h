// Weights as codes of 8 or 4 bits: what such a tensor is in a file, and its values.
//
// In a file whose metadata has the key QUANTISED_KEY, every tensor NAME of type I8 or U8 with two
// dimensions or more whose name ends in "weight" holds codes; tensors beside it say what they mean. A row is
// the values of one output (of one index of the first dimension), a group 32 of them that follow each other,
// the last of a row maybe fewer; O rows of G groups.
//
//   the key's value   codes              NAME_scale     beside it              a value is
//   q8                I8                 F32 [O]                               scale · code
//   q4                U8, two in a byte  F16 [O, G]     NAME_minimum, as scale minimum + scale · code
//   q8-balanced       U8                 F32 [O]        NAME_levels F32 [256]  scale · levels[code]
//   q4-balanced       U8, two in a byte  F16 [O, G]     NAME_levels F32 [16]   scale · levels[code]
//
// rounded once, to f32. Where two codes share a byte, the first of a row is in its lower half, and the second
// dimension that the file states is half of the tensor's, which is even.
#pragma once
#include "core/files/tensor_file.h"

#define QUANTISED_KEY "calotype.quantised"

enum { QUANTISED_GROUP = 32, QUANTISED_MAX_LEVELS = 256 };

typedef struct quantised_format {
    const char *name;
    dtype codes, scale;
    int bits;
    bool grouped;  // a scale for each group, not for each row
    bool minimum;  // and a minimum
    bool balanced; // a table of levels
} quantised_format;

// The formats of the table; NULL behind the last one.
const quantised_format *quantised_format_at(int i);
const quantised_format *quantised_format_named(const char *name); // NULL: there is none

// How the codes of one tensor are to be read.
typedef struct quantised {
    const quantised_format *format;
    const tensor_entry *stored; // all of the tensor, of which others may be a view
    uint64_t row, groups;       // values in a row, groups in a row
    const tensor_entry *scale, *minimum, *levels;
} quantised;

// Whether a tensor would be taken for codes where the metadata has the key.
bool quantised_holds_codes(const tensor_entry *t);
// What a NAME_scale has for a tensor of this shape.
uint64_t quantised_groups(const quantised_format *f, uint64_t row);
// The shape that the file states for such a tensor.
void quantised_stored_shape(const quantised_format *f, int ndim, const int64_t *shape, int64_t *stored);

// For tensor_file.c, when the directory is complete: makes of the tensors with codes what they stand for.
// ERR_DATA when something is missing or does not fit.
status quantised_link(tensor_file *f, error *err);
// As tensor_file_read_f32, of a whole tensor that was stored; ERR_DATA for a scale, minimum or level that is
// not finite.
status quantised_read(const tensor_file *f, const tensor_entry *t, uint64_t first, uint64_t count, float *dst,
                      error *err);
