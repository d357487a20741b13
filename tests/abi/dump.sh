#!/bin/sh
# dump.sh LIBRARY.so FOLDER-OF-CALOTYPE.H OUT: what programs rely on, and nothing else, as abidw of abigail-tools
# writes it. `./dev abi` renews the committed dump with it.
exec abidw --headers-dir "$2" --drop-private-types --no-show-locs --no-comp-dir-path --no-corpus-path --no-elf-needed \
    --exported-interfaces-only --type-id-style hash --out-file "$3" "$1"
