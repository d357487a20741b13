// Runs Criterion tests inside one process, for the thread sanitizer: Criterion's sandbox maps an arena at
// addresses that the sanitizer's shadow memory takes, and cannot start there. Only what our tests use; the
// last line is Criterion's.
#pragma once
#include <math.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct inproc_test {
    const char *suite, *name;
    void (*fn)(void);
    struct inproc_test *next;
} inproc_test;

static inproc_test *inproc_tests;
static jmp_buf inproc_back;
static bool inproc_failed;

#define Test(SUITE, NAME, ...)                                                                               \
    static void SUITE##_##NAME(void);                                                                        \
    __attribute__((constructor)) static void SUITE##_##NAME##_register(void) {                               \
        static inproc_test t = {#SUITE, #NAME, SUITE##_##NAME, NULL};                                        \
        t.next = inproc_tests;                                                                               \
        inproc_tests = &t;                                                                                   \
    }                                                                                                        \
    static void SUITE##_##NAME(void)

#define INPROC_CHECK(FATAL, COND, TEXT)                                                                      \
    do {                                                                                                     \
        if (!(COND)) {                                                                                       \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, TEXT);                                        \
            inproc_failed = true;                                                                            \
            if (FATAL) longjmp(inproc_back, 1);                                                              \
        }                                                                                                    \
    } while (0)

#define cr_assert(C, ...) INPROC_CHECK(true, C, #C)
#define cr_assert_not(C, ...) INPROC_CHECK(true, !(C), "not " #C)
#define cr_assert_eq(A, B, ...) INPROC_CHECK(true, (A) == (B), #A " == " #B)
#define cr_assert_neq(A, B, ...) INPROC_CHECK(true, (A) != (B), #A " != " #B)
#define cr_assert_lt(A, B, ...) INPROC_CHECK(true, (A) < (B), #A " < " #B)
#define cr_assert_leq(A, B, ...) INPROC_CHECK(true, (A) <= (B), #A " <= " #B)
#define cr_assert_gt(A, B, ...) INPROC_CHECK(true, (A) > (B), #A " > " #B)
#define cr_assert_geq(A, B, ...) INPROC_CHECK(true, (A) >= (B), #A " >= " #B)
#define cr_assert_null(A, ...) INPROC_CHECK(true, (A) == NULL, #A " is NULL")
#define cr_assert_not_null(A, ...) INPROC_CHECK(true, (A) != NULL, #A " is not NULL")
#define cr_assert_str_eq(A, B, ...) INPROC_CHECK(true, strcmp(A, B) == 0, #A " reads " #B)
#define cr_assert_float_eq(A, B, E, ...) INPROC_CHECK(true, fabs((A) - (B)) <= (E), #A " is near " #B)
#define cr_expect(C, ...) INPROC_CHECK(false, C, #C)
#define cr_fail(...) INPROC_CHECK(true, false, "fails")
#define cr_assert_fail(...) INPROC_CHECK(true, false, "fails")
#define cr_log_info(...) (fprintf(stderr, __VA_ARGS__), fputc('\n', stderr))

static void inproc_run(void (*fn)(void)) {
    inproc_failed = false;
    if (setjmp(inproc_back) == 0) fn();
}

int main(void) {
    int tested = 0, failing = 0;
    for (inproc_test *t = inproc_tests; t; t = t->next) {
        inproc_run(t->fn);
        tested++;
        failing += inproc_failed;
        if (inproc_failed) fprintf(stderr, "[FAIL] %s::%s\n", t->suite, t->name);
    }
    fprintf(stderr, "[====] Synthesis: Tested: %d | Passing: %d | Failing: %d | Crashing: 0\n", tested,
            tested - failing, failing);
    return failing != 0;
}
