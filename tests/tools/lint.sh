#!/bin/sh
# Formatting and the direction of dependencies, on every tracked file. Prints what is wrong; fails if anything is.
set -u
cd "$(dirname "$0")/../.."
bad=0

# forbid WHAT PATTERN PATHSPEC...: no line of the tracked files may match the extended regular expression.
forbid() {
    what=$1 pattern=$2
    shift 2
    if git grep -nIE -e "$pattern" -- "$@"; then
        echo "lint: $what" >&2
        bad=1
    fi
}

# Golden headers are as a program wrote them.
git ls-files -z -- '*.c' '*.h' '*.cu' ':!tests/golden' | xargs -0 -r clang-format-14 --dry-run -Werror || bad=1

include='^[[:space:]]*#[[:space:]]*include[[:space:]]*[<"]'
lower='core/base core/graph core/cpu core/cuda core/files core/models'

# The command line sees the public header only; nothing below looks up.
forbid 'cli/ may include core/calotype.h and cli/ only' \
    "$include(core/([^c]|c[^a])|samplers/|adapters/|video/)" 'cli/*.c' 'cli/*.h'
forbid 'only cli/ includes cli/' "${include}cli/" core samplers adapters video
forbid 'the lower storey of core knows no sampler, video, trainer or pipeline' \
    "$include(samplers/|video/|core/train/|core/pipeline|core/calotype\.h)" $lower
forbid 'the lower storey of core knows adapters by adapters/adapter.h only' \
    "${include}adapters/([^a]|a[^d]|adapters)" $lower
forbid 'samplers/ knows no adapter and no video' "$include(adapters/|video/)" samplers

# A foreign library is spoken to in one place.
forbid 'oneDNN belongs to core/cpu/dense.c' "${include}(oneapi/|dnnl)" '*.c' '*.h' ':!core/cpu/dense.c' ':!tests'
forbid 'libav belongs to video/' "${include}lib(av|sw)" '*.c' '*.h' ':!video'
forbid 'CUDA belongs to core/cuda/' "${include}(cuda|cudnn|cublas|nvrtc)" '*.c' '*.h' ':!core/cuda'

# What is made from the header.
awk -f tests/tools/api_doc.awk core/calotype.h | diff docs/api.md - || {
    echo 'lint: docs/api.md is stale; ./dev docs writes it' >&2
    bad=1
}

# The tree stands alone.
forbid 'a path of one machine' '(^|[^[:alnum:]_./])/(work|home|root|opt|Users)/' . ':!tests/tools/lint.sh'

exit $bad
