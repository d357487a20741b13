"""How far fast arithmetic moves finished pictures: PSNR against direct f32 of the same request.

python tests/bench/fidelity.py [--calotype PROGRAM] --captions FILE [--model M] [-- FLAGS OF txt2img...]

FILE has one prompt a line (build/assets/world/calotype-world prompts --split held --count 64); each is drawn once, with its
number as seed. Rows are direct bf16, bf16 and f32 with Winograd's convolutions. Needs numpy and Pillow. Prints Markdown.
"""
import argparse
import json
import os
import subprocess
import tempfile

import numpy
from PIL import Image

options = argparse.ArgumentParser()
options.add_argument("--calotype", default="build/cli/calotype")
options.add_argument("--captions", required=True)
options.add_argument("--model")
options.add_argument("flags", nargs="*")
o = options.parse_args()

MODES = [("f32, direct", "f32", "off"), ("bf16, direct", "bf16", "off"), ("bf16, Winograd", "bf16", "auto"),
         ("f32, Winograd", "f32", "auto")]
captions = [line.strip() for line in open(o.captions) if line.strip()]


def draw(folder, precision, fast):
    jobs = os.path.join(folder, "jobs.jsonl")
    with open(jobs, "w") as f:
        for seed, caption in enumerate(captions):
            f.write(json.dumps({"id": str(seed), "prompt": caption, "seed": seed}) + "\n")
    command = [o.calotype, "batch", jobs, "-o", folder, "--precision", precision, "--fast", fast, "-q"]
    subprocess.run(command + (["-m", o.model] if o.model else []) + o.flags, check=True, stdout=subprocess.DEVNULL)
    return [numpy.asarray(Image.open(os.path.join(folder, f"{i}.png")), dtype=float) for i in range(len(captions))]


def psnr(picture, reference):
    error = numpy.mean((picture - reference) ** 2)
    return 10 * numpy.log10(255 ** 2 / error) if error else numpy.inf


def decibels(x):
    return "the same" if numpy.isinf(x) else f"{x:.1f}"


exact = None
print(f"| {len(captions)} pictures | median dB | worst |\n|---|---|---|")
for name, precision, fast in MODES:
    with tempfile.TemporaryDirectory() as folder:
        pictures = draw(folder, precision, fast)
    if exact is None:
        exact = pictures
        continue
    of = sorted(psnr(p, r) for p, r in zip(pictures, exact))
    print(f"| {name} | {decibels(of[len(of) // 2])} | {decibels(of[0])} |", flush=True)
