// What every command has: common options, a context, an open model, messages, progress, interruption.
#pragma once
#include "cli/options.h"
#include "core/calotype.h"

// Begins the struct that a command's options are stored in.
typedef struct {
    const char *model, *vae, *clip_vocab;
    int threads, precision; // precision: index in auto, f32, bf16; -1: not given
    int fast;               // index in auto, off, on: as auto
    long long max_memory;   // bytes; 0: no limit
    int color;              // index in auto, always, never
    bool json, quiet, verbose;
    const char *config;  // a file in place of the user's; "" for none
    json_t *config_file; // owns the texts that came from it
} common;

// Options of every command, of those that draw with a model or run or train one, and of those that compute.
extern const option COMMON_OPTIONS[], MODEL_OPTIONS[], ARITHMETIC_OPTIONS[];
common common_defaults(void);
// Fills the struct that begins with `o` from the configuration file, the environment and the arguments, the
// later wins. Returns what options_parse does; session_close frees what it holds.
int session_options(const command_line *c, common *o, int argc, char **argv);

typedef struct {
    const common *options;
    calo_context *ctx;
    double begun, sampling,
        shown;         // times in seconds: of the start, of the first step, of the last printed progress
    int percent;       // of progress last printed
    int first, images; // pictures of earlier requests, and of all; 0: one request is all there is
    bool bar;          // a progress bar stands on the terminal's last line
} session;

// Opens the context with this precision where the user named none, and this talkativeness; on failure prints
// why and returns its code.
int session_open(session *s, const common *options, calo_precision otherwise, calo_log_level level);
void session_close(session *s);
int session_model(session *s, calo_model **model);

// The exit code of a call: prints the context's message when there is one. An interrupt gives 128 + its
// signal.
int session_end(session *s, calo_status status);
// One line on stderr, silenced by -q.
void session_say(session *s, const char *format, ...) __attribute__((format(printf, 2, 3)));
// A usage error or the like: always printed, and as an event with --json. Returns `code`.
int session_fail(session *s, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));
// Removes the progress bar, so that a line can be printed.
void session_clear(session *s);
// The signal that asks to stop; 0 for none.
int session_stopped(void);
// A progress bar of a share of 0 to 1 and ASCII text behind it, cut where the terminal's line ends.
void session_bar(session *s, double share, const char *text);
// Whether stderr can show one: otherwise progress is a line now and then.
bool session_terminal(void);
double session_seconds(const session *s);

enum { DURATION_TEXT = 32 };
// "12.0 s", "3:05 min", "2:10 h"
const char *duration_text(double seconds, char out[DURATION_TEXT]);
// Writes JSON text with its quotes.
void print_json_string(const char *text);
