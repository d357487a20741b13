#include "core/base/arena.h"
#include "core/base/status.h"
#include "core/base/threads.h"

#include <criterion/criterion.h>
#include <string.h>

Test(base, fail_in_puts_the_place_first) {
    error err = {0};
    cr_assert_eq(fail(&err, ERR_DATA, "tensor '%s' has a hole", "a.b"), ERR_DATA);
    cr_assert_eq(fail_in(&err, "model.safetensors"), ERR_DATA);
    cr_assert_str_eq(err.text, "model.safetensors: tensor 'a.b' has a hole");
}

Test(base, arena_gives_cleared_memory) {
    arena a = {0};
    for (int i = 0; i < 1000; i++) {
        char *p = arena_alloc(&a, 777);
        for (int k = 0; k < 777; k++) cr_assert_eq(p[k], 0);
        memset(p, 1, 777);
    }
    cr_assert_str_eq(arena_printf(&a, "%d-%s", 7, "x"), "7-x");
    arena_free(&a);
}

static void count(void *arg, int64_t b, int64_t e) {
    int *seen = arg;
    for (int64_t i = b; i < e; i++) seen[i]++;
}

Test(base, parallel_for_visits_each_index_once) {
    for (int threads = 1; threads <= 3; threads++) {
        team *t = team_new(threads);
        for (int n = 0; n < 50; n++) {
            int seen[50] = {0};
            parallel_for(t, n, 3, count, seen);
            for (int i = 0; i < 50; i++) cr_assert_eq(seen[i], i < n);
        }
        team_free(t);
    }
}
