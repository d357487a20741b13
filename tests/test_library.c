// The library as `meson install` gives it to other programs: what it exports, its ABI, its pkg-config file,
// and the examples compiled against it. Everything happens in a new folder, installed as if below its root.
#include "tests/tiny_model.h"

#include <criterion/criterion.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

// Folders of the test, in the environment of every command: $ROOT is where it installs, $MODEL a tiny model,
// $L and $I the folders of the library and of the header.
static char model[512];

// Runs a command of sh; its output, both kinds, goes to `out`. Returns the exit code.
static int shell(char *out, size_t size, const char *command) {
    char line[4000];
    snprintf(line, sizeof line, "exec 2>&1; %s", command);
    FILE *p = popen(line, "r");
    cr_assert_not_null(p);
    size_t n = fread(out, 1, size - 1, p);
    out[n] = 0;
    int code = pclose(p);
    return WIFEXITED(code) ? WEXITSTATUS(code) : -1;
}

static void expect_done(const char *command) {
    char out[8000];
    int code = shell(out, sizeof out, command);
    cr_assert_eq(code, 0, "%s\ngave %d and said:\n%s", command, code, out);
}

static bool has_program(const char *name) {
    char out[200], command[200];
    snprintf(command, sizeof command, "command -v %s", name);
    return shell(out, sizeof out, command) == 0;
}

static void set_path(const char *name, const char *format, ...) {
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    setenv(name, text, 1);
}

static void install(void) {
    tiny_model_write("sd", "eps", model, sizeof model);
    set_path("MODEL", "%s", model);
    set_path("ROOT", "%s/root", model);
    set_path("L", "%s/root%s", model, LIBDIR);
    set_path("I", "%s/root%s", model, INCLUDEDIR);
    set_path("XDG_CACHE_HOME", "%s", model);
    set_path("LD_LIBRARY_PATH", "%s/root%s", model, LIBDIR);
    set_path("PKG_CONFIG_PATH", "%s/root%s/pkgconfig", model, LIBDIR);
    set_path("PKG_CONFIG_SYSROOT_DIR", "%s/root", model);
    unsetenv("CALOTYPE_DATA");
    expect_done("meson install -C " BUILD " --no-rebuild --quiet --destdir $ROOT");
}

static void uninstall(void) { tiny_model_remove(model); }

TestSuite(library, .init = install, .fini = uninstall);

// ---- what is exported

// The functions of the header, one a line, sorted.
#define DECLARED                                                                                             \
    "awk '/^CALO_API /{ while (!/\\(/ && (getline more) > 0) $0 = $0 more; sub(/\\(.*/, \"\"); "             \
    "n = split($0, word, /[ *]+/); print word[n] }' $I/calotype.h | LC_ALL=C sort > $ROOT/declared; "

Test(library, the_shared_library_exports_the_functions_of_the_header) {
    expect_done(DECLARED
                "test $(wc -l < $ROOT/declared) -gt 30 && "
                "nm -D --defined-only $L/libcalotype.so | awk '$2 != \"A\" { print $3 }' | LC_ALL=C sort > "
                "$ROOT/exported && sed -i 's/@@CALOTYPE_0\\.1$//' $ROOT/exported && "
                "diff $ROOT/declared $ROOT/exported");
}

Test(library, the_static_library_has_no_other_global_names) {
    expect_done(DECLARED
                "nm -g --defined-only $L/libcalotype.a | awk 'NF == 3 { print $3 }' | LC_ALL=C sort | "
                "diff $ROOT/declared -");
}

Test(library, the_soname_has_a_version_and_links_lead_to_it) {
    expect_done("readelf -d $L/libcalotype.so | grep -F 'soname: [libcalotype.so.0]' && "
                "test $(readlink -f $L/libcalotype.so) = $(readlink -f $L/libcalotype.so.0) && "
                "test \"$(pkg-config --modversion calotype)\" = " VERSION
                " && test -f $L/libcalotype.so." VERSION);
}

Test(library, the_header_is_c99_and_cxx) {
    expect_done(
        "printf '#include <calotype.h>\\nint main(void) { return !calo_version(); }\\n' > $ROOT/h.c && "
        "cc -std=c99 -pedantic -Wall -Wextra -Werror -I$I -c -o $ROOT/h.o $ROOT/h.c");
    if (has_program("c++"))
        expect_done("cp $ROOT/h.c $ROOT/h.cc && "
                    "c++ -std=c++11 -pedantic -Wall -Wextra -Werror -I$I -c -o $ROOT/h.o $ROOT/h.cc");
}

Test(library, the_abi_is_the_committed_one) {
    cr_assert(has_program("abidw"), "abigail-tools is not installed");
    expect_done("sh tests/abi/dump.sh $L/libcalotype.so $I $ROOT/new.abi && "
                "abidiff --no-show-locs tests/abi/calotype.abi $ROOT/new.abi || "
                "{ code=$?; echo 'The ABI is another one: see tests/abi/README.md.'; "
                "test $((code & 8)) = 0 || echo 'Old programs would not run: the soversion must change.'; "
                "exit $code; }");
}

// A comparison that sees no change would be worthless. Bit 2 of the code says that the ABI is another one.
Test(library, a_changed_abi_is_seen) {
    cr_assert(has_program("abidw"), "abigail-tools is not installed");
    expect_done("sed \"s/\\(calo_save_options' size-in-bits='\\)192/\\1256/\" tests/abi/calotype.abi > "
                "$ROOT/other.abi && "
                "! cmp -s tests/abi/calotype.abi $ROOT/other.abi && "
                "{ abidiff tests/abi/calotype.abi $ROOT/other.abi; test $(($? & 4)) = 4; }");
}

// ---- programs

// A PNG begins with these bytes; the last part is its first chunk, of the right size.
#define IS_PNG(FILE) " && test \"$(head -c 8 " FILE " | od -An -tx1 | tr -d ' \\n')\" = 89504e470d0a1a0a"
#define COMPILE(NAME)                                                                                        \
    "cc -Wall -Werror -o $ROOT/" NAME " examples/" NAME ".c $(pkg-config --cflags --libs calotype) && "

Test(library, the_smallest_program_draws) {
    expect_done(
        COMPILE("txt2img") "$ROOT/txt2img 'a red heart' $ROOT/out.png $MODEL" IS_PNG("$ROOT/out.png"));
}

Test(library, the_smallest_program_draws_with_the_static_library) {
    expect_done("cc -Wall -Werror -o $ROOT/static examples/txt2img.c -I$I $L/libcalotype.a "
                "$(PKG_CONFIG_SYSROOT_DIR= pkg-config --static --libs calotype | sed 's/-lcalotype //') && "
                "! readelf -d $ROOT/static | grep -F libcalotype && "
                "$ROOT/static 'a red heart' $ROOT/out.png $MODEL" IS_PNG("$ROOT/out.png"));
}

Test(library, the_preview_shows_every_step) {
    expect_done(COMPILE("preview") "$ROOT/preview 'a red heart' $ROOT/out.png $MODEL > $ROOT/shown && "
                                   "test $(grep -c '^step ' $ROOT/shown) = 12 && "
                                   "test $(grep -c '▀' $ROOT/shown) = $((12 * 24))" IS_PNG("$ROOT/out.png"));
}

Test(library, the_python_program_draws) {
    if (!has_program("python3")) cr_skip_test("python3 is not installed");
    expect_done("python3 examples/txt2img.py 'a red heart' $ROOT/out.png $MODEL" IS_PNG("$ROOT/out.png"));
}

Test(library, an_installation_that_was_moved_finds_its_model) {
    expect_done(COMPILE("txt2img") "mv $ROOT $ROOT-elsewhere && ROOT=$ROOT-elsewhere && "
                                   "LD_LIBRARY_PATH=$ROOT" LIBDIR
                                   " $ROOT/txt2img 'a red house' $ROOT/out.png" IS_PNG(
                                       "$ROOT/out.png") " && $ROOT" BINDIR
                                                        "/calotype txt2img -q -p 'a red house' --steps 2 -o "
                                                        "$ROOT/b.png" IS_PNG("$ROOT/b.png"));
}
