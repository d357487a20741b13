// Runs Criterion tests inside one process, for the thread sanitizer: Criterion's sandbox maps an arena at
// addresses that the sanitizer's shadow memory takes, and cannot start there. Only what our tests use; the
// last line is Criterion's. A suite's init and fini run around each test; a test's other settings have no
// meaning here.
#pragma once
#include <math.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct inproc_item {
    const char *suite, *name; // a suite's own item has no name
    void (*fn)(void), (*init)(void), (*fini)(void);
    double timeout; // accepted, not used
    struct inproc_item *next;
} inproc_item;

// One of each in a program, however many of its files include this.
#define INPROC_ONE __attribute__((weak))
INPROC_ONE inproc_item *inproc_items = NULL;
INPROC_ONE jmp_buf inproc_back = {0};
INPROC_ONE bool inproc_failed = false;

#define INPROC_REGISTER(ID, ...)                                                                             \
    __attribute__((constructor)) static void ID##_register(void) {                                           \
        static inproc_item item = {__VA_ARGS__};                                                             \
        item.next = inproc_items;                                                                            \
        inproc_items = &item;                                                                                \
    }

#define TestSuite(SUITE, ...) INPROC_REGISTER(SUITE, .suite = #SUITE, __VA_ARGS__)

#define Test(SUITE, NAME, ...)                                                                               \
    static void SUITE##_##NAME(void);                                                                        \
    INPROC_REGISTER(SUITE##_##NAME, .suite = #SUITE, .name = #NAME, .fn = SUITE##_##NAME, __VA_ARGS__)       \
    static void SUITE##_##NAME(void)

// Messages begin with a literal format. cr_assert leaves the test at once, cr_expect goes on.
#define INPROC_CHECK(FATAL, COND, TEXT, ...)                                                                 \
    do {                                                                                                     \
        if (!(COND)) {                                                                                       \
            fprintf(stderr, "%s:%d: not so: %s.", __FILE__, __LINE__, TEXT);                                 \
            fprintf(stderr, " " __VA_ARGS__);                                                                \
            fputc('\n', stderr);                                                                             \
            inproc_failed = true;                                                                            \
            if (FATAL) longjmp(inproc_back, 1);                                                              \
        }                                                                                                    \
    } while (0)

#define cr_assert(C, ...) INPROC_CHECK(true, C, #C, __VA_ARGS__)
#define cr_assert_not(C, ...) INPROC_CHECK(true, !(C), "! " #C, __VA_ARGS__)
#define cr_assert_eq(A, B, ...) INPROC_CHECK(true, (A) == (B), #A " == " #B, __VA_ARGS__)
#define cr_assert_neq(A, B, ...) INPROC_CHECK(true, (A) != (B), #A " != " #B, __VA_ARGS__)
#define cr_assert_lt(A, B, ...) INPROC_CHECK(true, (A) < (B), #A " < " #B, __VA_ARGS__)
#define cr_assert_leq(A, B, ...) INPROC_CHECK(true, (A) <= (B), #A " <= " #B, __VA_ARGS__)
#define cr_assert_gt(A, B, ...) INPROC_CHECK(true, (A) > (B), #A " > " #B, __VA_ARGS__)
#define cr_assert_geq(A, B, ...) INPROC_CHECK(true, (A) >= (B), #A " >= " #B, __VA_ARGS__)
#define cr_assert_null(A, ...) INPROC_CHECK(true, (A) == NULL, #A " == NULL", __VA_ARGS__)
#define cr_assert_not_null(A, ...) INPROC_CHECK(true, (A) != NULL, #A " != NULL", __VA_ARGS__)
#define cr_assert_str_eq(A, B, ...) INPROC_CHECK(true, strcmp(A, B) == 0, #A " reads " #B, __VA_ARGS__)
#define cr_assert_str_neq(A, B, ...)                                                                         \
    INPROC_CHECK(true, strcmp(A, B) != 0, #A " does not read " #B, __VA_ARGS__)
#define cr_assert_str_empty(A, ...) INPROC_CHECK(true, (A)[0] == 0, #A " is empty", __VA_ARGS__)
#define cr_assert_arr_eq(A, B, N, ...) INPROC_CHECK(true, memcmp(A, B, N) == 0, #A " equals " #B, __VA_ARGS__)
#define cr_assert_float_eq(A, B, E, ...)                                                                     \
    INPROC_CHECK(true, fabs((A) - (B)) <= (E), #A " is near " #B, __VA_ARGS__)
#define cr_assert_fail(...) INPROC_CHECK(true, false, "this is reached", __VA_ARGS__)
#define cr_fail(...) INPROC_CHECK(false, false, "this is reached", __VA_ARGS__)
#define cr_expect(C, ...) INPROC_CHECK(false, C, #C, __VA_ARGS__)
#define cr_expect_not(C, ...) INPROC_CHECK(false, !(C), "! " #C, __VA_ARGS__)
#define cr_expect_eq(A, B, ...) INPROC_CHECK(false, (A) == (B), #A " == " #B, __VA_ARGS__)
#define cr_expect_neq(A, B, ...) INPROC_CHECK(false, (A) != (B), #A " != " #B, __VA_ARGS__)
#define cr_expect_lt(A, B, ...) INPROC_CHECK(false, (A) < (B), #A " < " #B, __VA_ARGS__)
#define cr_expect_leq(A, B, ...) INPROC_CHECK(false, (A) <= (B), #A " <= " #B, __VA_ARGS__)
#define cr_expect_geq(A, B, ...) INPROC_CHECK(false, (A) >= (B), #A " >= " #B, __VA_ARGS__)
#define cr_expect_gt(A, B, ...) INPROC_CHECK(false, (A) > (B), #A " > " #B, __VA_ARGS__)
#define cr_expect_not_null(A, ...) INPROC_CHECK(false, (A) != NULL, #A " != NULL", __VA_ARGS__)
#define cr_expect_str_eq(A, B, ...) INPROC_CHECK(false, strcmp(A, B) == 0, #A " reads " #B, __VA_ARGS__)
#define cr_expect_arr_eq(A, B, N, ...)                                                                       \
    INPROC_CHECK(false, memcmp(A, B, N) == 0, #A " equals " #B, __VA_ARGS__)
#define cr_log_info(...) (fprintf(stderr, __VA_ARGS__), fputc('\n', stderr))
#define cr_skip_test(...) longjmp(inproc_back, 1)
#define cr_skip(...) longjmp(inproc_back, 1)

static void inproc_call(void (*fn)(void)) {
    if (fn && setjmp(inproc_back) == 0) fn();
}

static void inproc_run(const inproc_item *t) {
    const inproc_item *suite = inproc_items;
    while (suite && (suite->name || strcmp(suite->suite, t->suite) != 0)) suite = suite->next;
    inproc_failed = false;
    if (suite) inproc_call(suite->init);
    inproc_call(t->init);
    if (!inproc_failed) inproc_call(t->fn);
    inproc_call(t->fini);
    if (suite) inproc_call(suite->fini);
}

INPROC_ONE int main(void) {
    int tested = 0, failing = 0;
    for (inproc_item *t = inproc_items; t; t = t->next) {
        if (!t->name) continue;
        inproc_run(t);
        tested++;
        failing += inproc_failed;
        if (inproc_failed) fprintf(stderr, "[FAIL] %s::%s\n", t->suite, t->name);
    }
    fprintf(stderr, "[====] Synthesis: Tested: %d | Passing: %d | Failing: %d | Crashing: 0\n", tested,
            tested - failing, failing);
    return failing != 0;
}
