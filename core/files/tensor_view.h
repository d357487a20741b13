// A tensor of a file seen in another way: as a part of its rows, transposed, or in another shape. Nothing is
// copied; reading the view puts the elements in order.
#pragma once
#include "core/files/tensor_file.h"

// How the values of a tensor of ours lie in the file's.
typedef enum {
    VIEW_WHOLE,
    VIEW_FIRST_THIRD, // of its rows: q, k and v fused into one matrix
    VIEW_SECOND_THIRD,
    VIEW_LAST_THIRD,
    VIEW_TRANSPOSED, // a matrix stored [in, out]
    VIEW_CONVOLUTION // a matrix [out, in] stored as the convolution [out, in, 1, 1]
} tensor_view;

static inline bool view_is_third(tensor_view v) { return v >= VIEW_FIRST_THIRD && v <= VIEW_LAST_THIRD; }

// The tensor of ours in the file's tensor t. One that cannot be seen this way stays as it is.
tensor_entry view_load(const tensor_entry *t, tensor_view v);
// The way back: the tensor of ours as the file has it; of a third, the third.
tensor_entry view_store(const tensor_entry *t, tensor_view v);
