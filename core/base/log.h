// Where messages go. A sink belongs to a context; there is no global logger.
#pragma once

typedef enum { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG } log_level;

// `put` gets UTF-8 without a trailing newline. Control characters in the text, which may stem from a hostile
// file, arrive as '?': a terminal is never steered by a model.
typedef struct {
    void (*put)(void *user, log_level level, const char *text); // NULL: silent
    void *user;
    log_level level; // the most talkative level that still passes
} log_sink;

// `sink` may be NULL. Text is cut at 2000 bytes.
void log_put(const log_sink *sink, log_level level, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
