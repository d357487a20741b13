#include "tests/shell.h"

#include "core/base/fs.h"
#include "core/base/mem.h"
#include "core/files/image.h"
#include "tests/tiny_model.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

char folder[512], model[512];

void shell_begin(void) {
    tiny_model_settle(model, folder, sizeof folder);
    setenv("D", folder, 1);
    setenv("M", model, 1);
    unsetenv("CALOTYPE_DATA");
}

void shell_end(void) { tiny_model_remove(model); }

char *contents(const char *name) {
    char path[600], *data;
    size_t n;
    error err = {0};
    snprintf(path, sizeof path, "%s/%s", folder, name);
    cr_assert_eq(fs_read_file(path, 1 << 24, &data, &n, &err), OK, "%s", err.text);
    return data;
}

result sh(const char *command) {
    char line[4096];
    snprintf(line, sizeof line, "C='%s' E='%s'; (%s) >\"$D/out\" 2>\"$D/err\"", CALOTYPE_PROGRAM,
             EXAMPLE_PROGRAM, command);
    int ended = system(line);
    return (result){WIFEXITED(ended) ? WEXITSTATUS(ended) : 128 + WTERMSIG(ended), contents("out"),
                    contents("err")};
}

void drop(result r) {
    mem_free(r.out);
    mem_free(r.err);
}

void expect(const char *command, int code, const char *out, const char *err) {
    result r = sh(command);
    cr_expect_eq(r.code, code, "%s: exit code %d instead of %d: %s", command, r.code, code, r.err);
    cr_expect(!out || strstr(r.out, out), "%s: printed '%s', not '%s'", command, r.out, out);
    cr_expect(!err || strstr(r.err, err), "%s: complained '%s', not '%s'", command, r.err, err);
    drop(r);
}

bool killed_after(const char *command, unsigned microseconds) {
    char line[4096];
    int ended;
    snprintf(line, sizeof line, "C='%s'; cd \"$D\"; exec %s >out 2>err", CALOTYPE_PROGRAM, command);
    pid_t pid = fork();
    if (!pid) {
        execl("/bin/sh", "sh", "-c", line, (char *)NULL);
        _exit(127);
    }
    cr_assert_gt(pid, 0);
    usleep(microseconds);
    kill(pid, SIGKILL);
    cr_assert_eq(waitpid(pid, &ended, 0), pid);
    if (WIFSIGNALED(ended)) return true;
    char *err = contents("err");
    cr_assert_eq(WEXITSTATUS(ended), 0, "%s: exit code %d: %s", command, WEXITSTATUS(ended), err);
    mem_free(err);
    return false;
}

bool there(const char *name) {
    char path[600];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return fs_exists(path);
}

void save_with_text(const char *name, const char *key, const char *text) {
    char path[600];
    error err = {0};
    image im;
    image_options o = {.texts = &(image_text){key, text}, .n_texts = 1};
    cr_assert_eq(image_alloc(&im, 2, 2, 3, &err), OK);
    memset(im.px, 9, 12);
    snprintf(path, sizeof path, "%s/%s", folder, name);
    cr_assert_eq(image_save(path, &im, &o, true, &err), OK, "%s", err.text);
    image_free(&im);
}
