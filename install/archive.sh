#!/bin/sh
# archive.sh OUT.a IN.a CC...: the static library, as one object whose hidden symbols are local, so that nothing but
# the public functions can meet the names of the program it is linked into.
set -eu
out=$1 in=$2
shift 2
all=${out%.a}.o
"$@" -r -nostdlib -o "$all" -Wl,--whole-archive "$in" -Wl,--no-whole-archive
objcopy --localize-hidden "$all"
rm -f "$out"
ar crs "$out" "$all"
rm -f "$all"
