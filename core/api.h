// What the public handles are, and what every public function does around its work.
#pragma once
#include <stdatomic.h>

#include "core/base/log.h"
#include "core/base/threads.h"
#include "core/calotype.h"
#include "core/files/image.h"
#include "core/models/model.h"
#include "core/train/recipe.h"

// What a program takes that draws, beside weights and activations: its code and the libraries', kernels made
// for this processor, vocabularies, pictures. Measured for SD1.5 at 512x512 and rounded up.
enum { PROCESS_BYTES = 100000000 };

struct calo_context {
    calo_context_options options;
    log_sink log;
    team *team;
    backend *be[3]; // by arithmetic, each made when first wanted
    workspace ws;
    model *models;      // those that are open
    atomic_int stop;    // calo_cancel
    error err;          // of the last failed call
    calo_train_key key; // of the last calo_train_key_at
    train_key_room key_room;
};

struct calo_model {
    calo_context *ctx;
    model *m;
    char sha256[65];     // of the UNet's weights; "" until asked for
    char vae_sha256[65]; // of the autoencoder's, where another takes the place of the model's own
};

// A public function's first and last line: forget the last error; hand out the code.
error *api_enter(calo_context *ctx);
static inline calo_status api_leave(status s) { return (calo_status)s; }

// A program may be older or newer than the library, its structs shorter or longer than ours; both begin with
// their size. `fill` makes the program's struct of `size` bytes from ours of `own`: what ours lacks is zero.
// `take` does the way back, over the defaults in `ours`: ERR_USAGE when there is more set than is known here.
void api_struct_fill(void *theirs, size_t size, const void *ours, size_t own);
status api_struct_take(void *ours, size_t own, const void *theirs, const char *what, error *err);

// What number format a precision means here.
dtype api_compute(calo_precision p);
// EXACT is for comparing networks, FAST for drawing, LEAN for drawing where memory is short (cpu.h).
typedef enum { EXACT, LEAN, FAST } arithmetic;
// Made when first asked for; NULL on failure. `how` is EXACT where the context's options say so.
const backend *api_backend(calo_context *ctx, arithmetic how, error *err);
// The network ready to run, as model_network.
exec *api_network(calo_model *m, const network_shape *s, arithmetic how, error *err);
// What a network takes when drawing, as model_network_memory.
status api_network_memory(calo_model *m, const network_shape *s, arithmetic how, network_memory *need,
                          error *err);
// Whether the caller wants the job to stop, by callback or by calo_cancel.
bool api_cancelled(const calo_context *ctx);
// Tells the caller how far a job is, and asks whether to go on: ERR_CANCELLED if not. Sets the struct's size.
status api_progress(calo_context *ctx, calo_progress p, error *err);

// A stage of one picture, of index `image` of `images`, that is done in pieces.
typedef struct {
    calo_context *ctx;
    const char *stage;
    int image, images;
    double begun; // of the piece
} api_pieces;
api_pieces api_pieces_begin(calo_context *ctx, const char *stage, int index, int images);
// After a piece: api_progress. `pieces`: an api_pieces.
status api_piece(void *pieces, int done, int all, error *err);

// A picture as a list of one, which takes its pixels over.
status api_image_list(image *rgb, calo_images **picture, error *err);

// calo_train with data and recipes of a program's own; both may be NULL. With `make` there are no kinds.
calo_status api_train(calo_context *ctx, const calo_train_request *r, recipe_maker *make,
                      train_source_opener *open_source, error *err);

// The hexadecimal SHA-256 of the UNet's weights, remembered in the cache folder under path, size and time.
status model_sha256(calo_model *m, error *err);
// The same of an autoencoder that takes the place of the model's own; without one nothing is done.
status model_vae_sha256(calo_model *m, error *err);
