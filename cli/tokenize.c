// calotype tokenize: a line of text in, a line with a JSON array of ids out.
#include "cli/commands.h"
#include "cli/session.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const command_line TOKENIZE_LINE = {
    "tokenize",
    "[-m DIR] [--json] < LINES",
    "Reads lines of text from standard input and prints one JSON array of token ids for each, without start "
    "and end,\n"
    "not cut. With --json each line is a JSON string, which may hold any character.",
    NULL,
    {MODEL_OPTIONS, COMMON_OPTIONS},
    0};

static int encode(session *s, calo_model *m, const char *text, size_t length) {
    int32_t *ids;
    size_t n;
    calo_status status = calo_tokenize(m, text, length, &ids, &n);
    if (status) return session_end(s, status);
    putchar('[');
    for (size_t i = 0; i < n; i++) printf("%s%d", i ? ", " : "", ids[i]);
    puts("]");
    calo_free(ids);
    return 0;
}

static int encode_json(session *s, calo_model *m, const char *line, size_t length, int number) {
    json_error_t where;
    json_t *j = json_loadb(line, length, JSON_DECODE_ANY | JSON_ALLOW_NUL, &where);
    int code = json_is_string(j) ? encode(s, m, json_string_value(j), json_string_length(j))
                                 : session_fail(s, CALO_ERR_DATA, "line %d is not a JSON string", number);
    json_decref(j);
    return code;
}

static int encode_lines(session *s, calo_model *m, FILE *in) {
    char *line = NULL;
    size_t room = 0;
    ssize_t n;
    int code = 0;
    for (int number = 1; !code && (n = getline(&line, &room, in)) >= 0; number++) {
        if (n && line[n - 1] == '\n') n--;
        code = s->options->json ? encode_json(s, m, line, (size_t)n, number) : encode(s, m, line, (size_t)n);
    }
    if (!code && !feof(in))
        code = session_fail(s, CALO_ERR_IO, "standard input cannot be read: %s", strerror(errno));
    free(line);
    return code;
}

int cmd_tokenize(int argc, char **argv) {
    common o = common_defaults();
    session s;
    calo_model *m = NULL;
    int n = session_options(&TOKENIZE_LINE, &o, argc, argv);
    if (n < 0) return options_code(n);
    int code = session_open(&s, &o, CALO_PRECISION_AUTO, CALO_LOG_WARN);
    if (!code) code = session_model(&s, &m);
    if (!code) code = encode_lines(&s, m, stdin);
    calo_model_free(m);
    session_close(&s);
    return code;
}
