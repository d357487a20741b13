#include "core/base/arena.h"
#include "core/base/dtype.h"
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

// Every f16 is exact in f32 and comes back; halfway cases go to even.
Test(base, f16_round_trip) {
    for (uint32_t h = 0; h < 0x10000; h++)
        if ((h & 0x7fff) <= 0x7c00) cr_assert_eq(f32_to_f16(f16_to_f32((uint16_t)h)), h);
    cr_assert_eq(f32_to_f16(65519.f), 0x7bff);
    cr_assert_eq(f32_to_f16(65520.f), 0x7c00);
    cr_assert_eq(f32_to_f16(1.f + 0x1p-11f), 0x3c00);
    cr_assert_eq(f32_to_f16(1.f + 3 * 0x1p-11f), 0x3c02);
    cr_assert_eq(f32_to_f16(0x1p-25f), 0);
    cr_assert_eq(f32_to_f16(0x1.8p-24f), 2);
    cr_assert_eq(f16_to_f32(0xc000), -2.f);
}
