"""Whole programs on one checkpoint: from the command to the picture, each as its users would start it.

python tests/bench/programs.py --checkpoint FILE [--folder DIR] [--sdcpp PROGRAM] [--calotype PROGRAM] [--rounds 3]

FILE is a checkpoint of Stable Diffusion 1.5 in one file, DIR the same model in diffusers' layout. One round is every
program in turn, with few and with more steps: the difference is what steps cost, the rest is loading, text,
autoencoder and writing. Bests of all rounds; peak memory is the largest resident set of the process. Prints Markdown.
docs/benchmarks.md tells how the programs are built and where the checkpoint comes from.
"""
import argparse
import os
import sys
import tempfile
import time

FEW, MORE = 1, 3

options = argparse.ArgumentParser()
options.add_argument("--checkpoint", required=True)
options.add_argument("--folder", help="for PyTorch, with diffusers; without it PyTorch is left out")
options.add_argument("--sdcpp", help="stable-diffusion.cpp's sd-cli; without it that is left out")
options.add_argument("--calotype", default="build/cli/calotype")
options.add_argument("--rounds", type=int, default=3)
options.add_argument("--size", default="512")
options.add_argument("--threads", default=str(os.cpu_count()))
o = options.parse_args()

PROMPT = "a red circle on a blue background"
SDCPP_FAST = ["--fa", "--diffusion-conv-direct", "--vae-conv-direct"]


def calotype(*more):
    return lambda steps, out: [o.calotype, "txt2img", "-m", o.checkpoint, "-p", PROMPT, "-W", o.size, "-H", o.size,
                               "--steps", str(steps), "--sampling-method", "euler", "--cfg-scale", "7", "-s", "1",
                               "-t", o.threads, "-o", out, "--force", *more]


def sdcpp(*more):
    return lambda steps, out: [o.sdcpp, "-m", o.checkpoint, "-p", PROMPT, "-W", o.size, "-H", o.size, "--steps",
                               str(steps), "--sampling-method", "euler", "--cfg-scale", "7", "-s", "1", "-t",
                               o.threads, "-o", out, *more]


def diffusers(precision):
    script = os.path.join(os.path.dirname(__file__), "torch_txt2img.py")
    return lambda steps, out: [sys.executable, script, o.folder, PROMPT, o.size, str(steps), precision, o.threads, out]


def programs():
    rows = [("calotype, bf16", calotype("--precision", "bf16")), ("calotype, f32", calotype("--precision", "f32"))]
    if o.folder:
        rows += [("PyTorch, diffusers, channels_last, bf16", diffusers("bf16")),
                 ("PyTorch, diffusers, channels_last, f32", diffusers("f32"))]
    if o.sdcpp:
        rows += [("stable-diffusion.cpp, f16", sdcpp()), (f"the same, {' '.join(SDCPP_FAST)}", sdcpp(*SDCPP_FAST)),
                 ("stable-diffusion.cpp, --type q8_0", sdcpp("--type", "q8_0"))]
    return rows


def run(command):
    """Seconds and peak memory in GB; None if it failed."""
    start = time.perf_counter()
    pid = os.posix_spawnp(command[0], command, os.environ,
                          file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                                        (os.POSIX_SPAWN_OPEN, 2, log.name, os.O_WRONLY | os.O_TRUNC, 0)])
    _, status, usage = os.wait4(pid, 0)
    if status:
        print(f"{' '.join(command)}\n{open(log.name, errors='replace').read()[-2000:]}", file=sys.stderr)
        return None
    return time.perf_counter() - start, usage.ru_maxrss * 1024e-9


with tempfile.TemporaryDirectory() as folder, tempfile.NamedTemporaryFile() as log:
    rows = programs()
    best = {}
    for r in range(o.rounds):
        for name, command in rows:
            for steps in (FEW, MORE):
                got = run(command(steps, os.path.join(folder, "picture.png")))
                print(f"round {r + 1}, {name}, {steps} steps: {got}", file=sys.stderr, flush=True)
                key = (name, steps)
                if got:
                    seconds, peak = best.get(key, (float("inf"), 0))
                    best[key] = min(seconds, got[0]), max(peak, got[1])
    print("| program | a step | all else | a picture of 20 steps | ratio | peak memory |\n|---|---|---|---|---|---|")
    mine = None
    for name, _ in rows:
        if (name, FEW) not in best or (name, MORE) not in best:
            print(f"| {name} | did not run | | | | |")
            continue
        (few, _), (more, peak) = best[name, FEW], best[name, MORE]
        step = (more - few) / (MORE - FEW)
        rest = few - FEW * step
        picture = rest + 20 * step
        mine = mine or picture
        print(f"| {name} | {step:.2f} s | {rest:.2f} s | {picture:.1f} s | {picture / mine:.2f} | {peak:.2f} GB |")
