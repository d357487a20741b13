// Checkpoints of the original layout, made of a golden list (tests/parity/checkpoint.py) in a temporary
// folder.
#pragma once
#include "core/calotype.h"
#include "core/files/safetensors.h"
#include "core/models/model.h"

enum { MAX_ROWS = 2000, MAX_CHANGES = 4 };

// A row of a golden list.
typedef struct {
    const char *part, *name, *hash;
    int rank;
    int64_t shape[4];
} row;

typedef struct {
    char *text;
    dtype type;
    row rows[MAX_ROWS];
    int n;
} listing;

// What a test changes of a file.
typedef struct {
    const char *leave_out[MAX_CHANGES]; // parts of names
    const char *add[MAX_CHANGES];       // names of tensors of no values
    const char *reshape;                // this tensor has `size` as dimension `axis`
    int axis;
    int64_t size;
    bool follows;          // the UNet hands on its input
    const char *strip;     // what all names begin with and shall not
    const char *from, *to; // a part of names, and what stands in its place
    const char *flatten;   // a part of the names of 1×1 convolutions that become matrices
    metadata_pair metadata;
} changes;

extern char folder[64];
extern listing list;

// The folder, which is the user's too, and the list: for each test.
void ldm_begin(void);
void ldm_end(void);

void read_list(const char *name);
// A file of that name made of the list; the path is valid until the next one.
const char *write_file(const char *name, const changes *c);
// The same, opened; of the list `name` where none is read yet. model_free.
model *open_changed(const char *name, const changes *c);

// That the checkpoint says so of itself, and why; value NULL: that it says nothing.
void expect_finding(const model *m, const char *what, const char *value);

// calo_convert, in a context of its own.
calo_status rewrite(const char *in, const char *out, calo_layout layout, calo_prediction prediction,
                    char message[400]);
void rewrites(const char *in, const char *out, calo_layout layout, calo_prediction prediction);
