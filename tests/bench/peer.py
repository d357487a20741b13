"""What this program's PyTorch peers have in common: race.c asks on stdin, they answer on stdout.

SCRIPT ARGUMENT... VARIANT PRECISION THREADS

VARIANT is eager, or one or both of channels_last and compile joined by a plus. A peer says its version of PyTorch
when it is ready: everything is compiled and warm. Then each line holds a number of runs, answered by their
seconds and the peak memory in GB.
"""
import os
import sys
import tempfile
import time
import warnings

# Peers that compile at the same time must not find each other's half-written files.
cache = tempfile.TemporaryDirectory()
os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache.name

import torch  # noqa: E402

arguments, (variant, precision, threads) = sys.argv[1:-3], sys.argv[-3:]
features = set(variant.split("+")) - {"eager"}
if unknown := features - {"channels_last", "compile"}:
    sys.exit(f"no such variant: {', '.join(unknown)}")
channels_last, compiled = "channels_last" in features, "compile" in features
dtype = {"BF16": torch.bfloat16, "F32": torch.float32}[precision]
torch.set_num_threads(int(threads))
torch.manual_seed(0)
warnings.filterwarnings("ignore")

answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # what libraries print is no answer


def serve(run):
    for _ in range(3):  # the second may compile again, for a tensor of another layout
        run()
    print(torch.__version__.split("+")[0], file=answers, flush=True)
    for line in sys.stdin:
        start = time.perf_counter()
        for _ in range(int(line)):
            run()
        seconds = time.perf_counter() - start
        peak = next(int(row.split()[1]) for row in open("/proc/self/status") if row.startswith("VmHWM"))
        print(seconds, peak * 1024e-9, file=answers, flush=True)
