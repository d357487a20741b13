// Random numbers: the two generators that other tools' seeds mean, and a counter-based stream for training.
//
// All floats are made by double arithmetic where the original leaves room, so they do not depend on the
// instruction set.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// MT19937 as torch's CPU generator uses it (`torch.Generator().manual_seed(seed)`).
typedef struct {
    uint32_t state[624];
    int next;       // index of the next unused word; 624: the state is used up
    bool has_spare; // a second normal of the n < 16 path waits, as torch keeps it between calls
    double spare;
} mt19937;

void mt_seed(mt19937 *g, uint64_t seed); // torch uses the low 32 bits only
uint32_t mt_u32(mt19937 *g);
// torch.rand(n), float32: in [0, 1), bit for bit.
void mt_uniform(mt19937 *g, float *out, size_t n);
// torch.randn(n), float32, within 1e-6. The values depend on n: 16 and more take torch's vector path.
void mt_normal(mt19937 *g, float *out, size_t n);

// Philox4x32-10 (Salmon et al. 2011): four random words from a 64-bit key and a 128-bit counter.
typedef struct {
    uint32_t w[4];
} philox_block;

philox_block philox(uint64_t key, uint64_t counter_low, uint64_t counter_high);

// The noise that A1111 calls "NV": torch's CUDA generator for small tensors.
typedef struct {
    uint64_t seed;
    uint32_t calls; // each call of nv_normal takes one value of the counter's first word
} nv_rng;

void nv_normal(nv_rng *g, float *out, size_t n);

// The first word of numpy's SeedSequence(entropy, spawn_key, pool_size): seeds that are independent of each
// other, by O'Neill's hash (pcg-random.org/posts/developing-a-seed_seq-alternative.html). 2 <= pool <=
// MAX_POOL.
enum { MAX_POOL = 32 };
uint32_t seed_sequence(uint64_t entropy, const uint64_t *spawn_key, int keys, int pool);

// A stream is a pure function of (seed, stream, position): parts can be filled by several threads in any
// order, and a run resumes by its position alone. Streams of one seed are independent.
typedef struct {
    uint64_t seed, stream;
} rng_stream;

// Each fills out[0..n) with values number first .. first+n-1 of the stream. The three kinds read the same
// words: use another stream for another purpose.
void stream_uniform(rng_stream s, uint64_t first, float *out, size_t n); // [0, 1), 24 bits
void stream_normal(rng_stream s, uint64_t first, float *out, size_t n);
// In [0, range), range >= 1; some values are likelier than others by a share of range / 2^32.
void stream_integer(rng_stream s, uint64_t first, uint32_t range, uint32_t *out, size_t n);
