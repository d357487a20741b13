#include "cli/session.h"
#include "cli/config.h"
#include "cli/terminal.h"
#include "cli/text.h"

#include <limits.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { MESSAGE = 3100 }; // bytes; the library's longest, and some

static const char *const PRECISIONS[] = {"auto", "f32", "bf16", NULL};
static const char *const FAST[] = {"auto", "off", "on", NULL};
static const char *const COLORS[] = {"auto", "always", "never", NULL};
enum { COLOR_AUTO, COLOR_ALWAYS };

#define ARITHMETIC                                                                                           \
    {0,   "precision",         OPTION_CHOICE,        offsetof(common, precision),                            \
     "P", "auto, f32 or bf16", .choices = PRECISIONS},                                                       \
    {                                                                                                        \
        0, "fast", OPTION_CHOICE, offsetof(common, fast), "WHEN",                                            \
            "auto or on: convolutions by Winograd's method where they are faster; off: direct arithmetic",   \
            .choices = FAST                                                                                  \
    }

#define MAX_MEMORY                                                                                           \
    {                                                                                                        \
        0, "max-memory", OPTION_BYTES, offsetof(common, max_memory), "SIZE",                                 \
            "peak of the whole program, as 700M, 2.3G or 1GiB: slower where less than everything fits", 1,   \
            1e15                                                                                             \
    }

const option MODEL_OPTIONS[] = {
    {'m', "model", OPTION_TEXT, offsetof(common, model), "MODEL",
     "a folder, a .safetensors checkpoint, or org/name in the hub's cache (default: talbot, which comes "
     "along)"},
    {0, "vae", OPTION_TEXT, offsetof(common, vae), "PATH",
     "another autoencoder: a file, its folder or a model's"},
    {0, "clip-vocab", OPTION_TEXT, offsetof(common, clip_vocab), "DIR",
     "vocab.json and merges.txt for checkpoints (default: ~/.local/share/calotype/clip)"},
    ARITHMETIC,
    MAX_MEMORY,
    {0}};

const option ARITHMETIC_OPTIONS[] = {ARITHMETIC, MAX_MEMORY, {0}};

const option COMMON_OPTIONS[] = {
    {'t', "threads", OPTION_INT, offsetof(common, threads), "N", "threads (default: one for each core)", 0,
     1024},
    {0, "config", OPTION_TEXT, offsetof(common, config), "FILE",
     "read this instead of ~/.config/calotype/config.json"},
    {0, "json", OPTION_FLAG, offsetof(common, json), NULL, "results as JSON, one object a line"},
    {0, "color", OPTION_CHOICE, offsetof(common, color), "WHEN",
     "auto, always or never (auto: on a terminal, unless NO_COLOR is set)", .choices = COLORS},
    {'q', "quiet", OPTION_FLAG, offsetof(common, quiet), NULL, "errors only"},
    {'v', "verbose", OPTION_FLAG, offsetof(common, verbose), NULL, "say more"},
    {0}};

common common_defaults(void) { return (common){.precision = -1}; }

// Flags come first too, because they may name the file.
int session_options(const command_line *c, common *o, int argc, char **argv) {
    char path[PATH_MAX];
    int n = options_peek(c, o, argc, argv);
    if (n < 0) return n;
    const char *named = o->config ? o->config : getenv("CALOTYPE_CONFIG");
    config_path(path, sizeof path);
    n = config_read(c, o, named ? named : path, named != NULL, &o->config_file);
    if (!n) n = options_variables(c, o);
    if (!n) n = options_parse(c, o, argc, argv);
    if (n < 0) json_decref(o->config_file);
    return n;
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

double session_seconds(const session *s) { return now() - s->begun; }

// ---- interruption: the first signal stops after the step, the second at once

static volatile sig_atomic_t stopped_by;

static void stop(int number) { stopped_by = number; }

static void watch_signals(void) {
    struct sigaction a = {.sa_handler = stop, .sa_flags = (int)SA_RESETHAND};
    sigaction(SIGINT, &a, NULL);
    sigaction(SIGTERM, &a, NULL);
    signal(SIGPIPE, SIG_DFL);
    signal(SIGXFSZ, SIG_IGN); // a file too large is an error of writing it
}

int session_stopped(void) { return stopped_by; }

static int is_stopped(void *user) {
    (void)user;
    return stopped_by;
}

// ---- messages

void session_clear(session *s) {
    if (s->bar) fputs("\r\033[K", stderr);
    s->bar = false;
}

// Whether stderr shows more than lines.
bool session_terminal(void) {
    const char *term = getenv("TERM");
    return isatty(STDERR_FILENO) && term && strcmp(term, "dumb") != 0;
}

static const char *colour(const session *s, const char *code) {
    const char *no = getenv("NO_COLOR");
    bool able = session_terminal() && !(no && *no);
    return s->options->color == COLOR_ALWAYS || (s->options->color == COLOR_AUTO && able) ? code : "";
}

static void log_line(void *user, calo_log_level level, const char *text) {
    static const char *const NAMES[] = {"error: ", "warning: ", "", ""};
    session_clear(user);
    fprintf(stderr, "calotype: %s", NAMES[level]);
    text_print(stderr, text);
    fputc('\n', stderr);
}

void session_say(session *s, const char *format, ...) {
    if (s->options->quiet) return;
    session_clear(s);
    va_list args;
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
}

void print_json_string(const char *text) {
    putchar('"');
    for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
        if (*p == '"' || *p == '\\')
            printf("\\%c", *p);
        else if (*p < 0x20 || *p == 0x7f)
            printf("\\u%04x", *p);
        else
            putchar(*p);
    }
    putchar('"');
}

static int report(session *s, int code, const char *message) {
    char text[MESSAGE];
    snprintf(text, sizeof text, "%s", message);
    text_tame(text);
    session_clear(s);
    fprintf(stderr, "%scalotype: %s%s\n", colour(s, "\033[31m"), text, colour(s, "\033[m"));
    if (!s->options->json) return code;
    printf("{\"event\":\"error\",\"code\":%d,\"message\":", code);
    print_json_string(text);
    puts("}");
    return code;
}

int session_fail(session *s, int code, const char *format, ...) {
    char text[MESSAGE];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return report(s, code, text);
}

int session_end(session *s, calo_status status) {
    if (status == CALO_OK) return 0;
    if (status == CALO_ERR_CANCELLED && stopped_by) {
        session_say(s, "%s", *calo_message(s->ctx) ? calo_message(s->ctx) : "stopped");
        if (s->options->json) printf("{\"event\":\"stopped\",\"code\":%d}\n", 128 + stopped_by);
        return 128 + stopped_by;
    }
    return report(s, (int)status, calo_message(s->ctx));
}

// ---- progress

const char *duration_text(double seconds, char out[DURATION_TEXT]) {
    long whole = (long)fmin(seconds, 1e9);
    if (whole < 60)
        snprintf(out, DURATION_TEXT, "%.1f s", seconds);
    else if (whole < 3600)
        snprintf(out, DURATION_TEXT, "%ld:%02ld min", whole / 60, whole % 60);
    else
        snprintf(out, DURATION_TEXT, "%ld:%02ld h", whole / 3600, whole / 60 % 60);
    return out;
}

// The last column stays free: some terminals would begin another line.
void session_bar(session *s, double share, const char *text) {
    enum { WIDE = 30, SLIM = 10, PERCENT = 5, TOO_SLIM = 40 };
    int room = terminal_measure(stderr).columns - 1, width = room - PERCENT - (int)strlen(text);
    width = room < TOO_SLIM ? 0 : width < SLIM ? SLIM : width > WIDE ? WIDE : width;
    int full = (int)(share * width + 0.5), left = room - width - PERCENT;
    bool blocks = terminal_is_utf8();
    fputs("\r\033[K", stderr);
    for (int i = 0; i < width; i++) fputs(i < full ? (blocks ? "█" : "#") : (blocks ? "░" : "."), stderr);
    fprintf(stderr, " %3d%%%.*s", (int)(share * 100), left > 0 ? left : 0, text);
    s->bar = true;
}

static int all_images(const session *s, const calo_progress *p) { return s->images ? s->images : p->images; }

// What a step of the stage is called; NULL: it has none that take long.
static const char *unit_of(const calo_progress *p) {
    if (!strcmp(p->stage, "upscale")) return "tile";
    if (!strcmp(p->stage, "bands")) return "band";
    return strcmp(p->stage, "sample") ? NULL : "step";
}

static void print_bar(session *s, const calo_progress *p, double share, double left) {
    char text[200], picture[40] = "", duration[DURATION_TEXT];
    int images = all_images(s, p);
    if (images > 1) snprintf(picture, sizeof picture, "  picture %d of %d", s->first + p->image + 1, images);
    snprintf(text, sizeof text, "%s  %s %d of %d, %.3g s each, %s left", picture, unit_of(p), p->step,
             p->steps, p->seconds, duration_text(left, duration));
    session_bar(s, share, text);
}

// A line for every tenth, or after ten seconds.
static void print_line(session *s, const calo_progress *p, double share, double left) {
    int percent = (int)(share * 100);
    char duration[DURATION_TEXT];
    if (percent / 10 == s->percent / 10 && now() - s->shown < 10) return;
    s->percent = percent;
    s->shown = now();
    fprintf(stderr, "%3d%%  picture %d of %d, %s %d of %d, %s left\n", percent, s->first + p->image + 1,
            all_images(s, p), unit_of(p), p->step, p->steps, duration_text(left, duration));
}

static void print_event(const calo_progress *p) {
    printf("{\"event\":\"%s\",\"step\":%d,\"steps\":%d,\"image\":%d,\"group\":%d,\"images\":%d,\"seconds\":%."
           "6f}\n",
           p->stage, p->step, p->steps, p->image, p->group, p->images, p->seconds);
    fflush(stdout);
}

static void show_progress(void *user, const calo_progress *p) {
    session *s = user;
    if (s->options->json) print_event(p);
    if (s->options->json || s->options->quiet || !unit_of(p) || !p->images) return;
    double all = all_images(s, p), done = s->first + p->image + (double)p->group * p->step / p->steps;
    if (!s->sampling) s->sampling = now() - p->seconds;
    double left = (now() - s->sampling) / done * (all - done);
    if (!strcmp(p->stage, "bands"))
        left = p->seconds * (p->steps - p->step); // no share of what sampling takes
    if (session_terminal())
        print_bar(s, p, done / all, left);
    else
        print_line(s, p, done / all, left);
}

// ---- opening and closing

int session_open(session *s, const common *options, calo_precision otherwise, calo_log_level level) {
    *s = (session){.options = options, .begun = now(), .shown = now()};
    calo_context_options o = calo_context_defaults();
    o.threads = options->threads;
    o.precision = options->precision < 0 ? otherwise : (calo_precision)options->precision;
    o.fast = options->fast == CALO_FAST_OFF ? CALO_FAST_OFF : CALO_FAST_AUTO;
    o.max_memory = (uint64_t)options->max_memory;
    o.log = log_line;
    o.log_level = options->quiet ? CALO_LOG_ERROR : options->verbose ? CALO_LOG_DEBUG : level;
    o.progress = show_progress;
    o.cancelled = is_stopped;
    o.user = s;
    watch_signals();
    calo_status status = calo_context_new(&o, &s->ctx);
    return status ? session_end(s, status) : 0;
}

void session_close(session *s) {
    session_clear(s);
    calo_context_free(s->ctx);
    s->ctx = NULL;
    json_decref(s->options->config_file);
}

int session_model(session *s, calo_model **model) {
    calo_model_options o = calo_model_defaults();
    o.vae = s->options->vae;
    o.vocabulary = s->options->clip_vocab;
    return session_end(s, calo_model_open_with(s->ctx, s->options->model, &o, model));
}
