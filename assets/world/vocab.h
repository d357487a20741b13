// The tokenizer of the world: a CLIP vocabulary whose merges make each word of the grammar one token, and in
// which any other string is still legal, byte by byte.
//
// Ids: 0 … 255 the bytes in CLIP's order, 256 … 511 the same bytes at the end of a word ("</w>"), then one id
// for each merge, then <|startoftext|> and <|endoftext|>, the highest.
#pragma once
#include "core/base/arena.h"
#include "core/base/status.h"

enum { VOCAB_BYTES = 512, VOCAB_MERGES_MAX = 1024, VOCAB_CONTEXT = 24 };

typedef struct {
    int merges;                         // in the order in which an encoder tries them
    const char *left[VOCAB_MERGES_MAX]; // strings live in the arena given to vocab_build
    const char *right[VOCAB_MERGES_MAX];
    int tokens;                                            // 512 + distinct results of merges + 2
    const char *token[VOCAB_BYTES + VOCAB_MERGES_MAX + 2]; // by id
} vocab;

status vocab_build(vocab *v, arena *a, error *err);
// How many tokens a word in lower-case ASCII letters is cut into, −1 for any other word.
int vocab_word_tokens(const vocab *v, const char *word);
// vocab.json, merges.txt, special_tokens_map.json and tokenizer_config.json in an existing folder.
status vocab_save(const vocab *v, const char *folder, error *err);
