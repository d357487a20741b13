// Kinds of elementwise operations: what graph nodes and kernels both speak of.
#pragma once

typedef enum {
    UNARY_SILU,
    UNARY_GELU, // x·Φ(x), exact
    UNARY_GELU_TANH,
    UNARY_QUICK_GELU, // x·sigmoid(1.702 x)
    UNARY_RELU,
    UNARY_TANH,
    UNARY_SIGMOID,
    UNARY_EXP,
    UNARY_LOG,
    UNARY_ABS,
    UNARY_SQUARE,
    UNARY_SQRT,
    UNARY_COUNT
} unary_kind;

typedef enum { BINARY_ADD, BINARY_SUB, BINARY_MUL, BINARY_DIV } binary_kind;
