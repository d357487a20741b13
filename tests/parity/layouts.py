"""What `calotype convert --layout` writes, read by diffusers.

python tests/parity/layouts.py    from the repository's root: small files with the names of real ones (checkpoint.py) become
                                  folders, which diffusers' pipelines load, and files again, which from_single_file loads;
                                  every tensor of both is compared with diffusers' own conversion of the first file
"""
import subprocess
import sys
import tempfile

import torch
from diffusers import DiffusionPipeline, StableDiffusionPipeline, StableDiffusionXLPipeline
from safetensors.torch import load_file, save_file

from checkpoint import CASES, TYPES, converted, weight

PROGRAM = "build/cli/calotype"
CLASSES = {"sd1": StableDiffusionPipeline, "sd2": StableDiffusionPipeline, "sdxl": StableDiffusionXLPipeline}


def convert(source, out, layout):
    subprocess.run([PROGRAM, "convert", source, out, "-q", "--layout", layout, "--prediction", "eps",
                    "--clip-vocab", "tests/golden/tokenizer"], check=True)


def differences(pipe, want):
    """Names of a pipeline's tensors that are not those of diffusers' conversion."""
    bad = []
    for part, tensors in want.items():
        have = {n.removeprefix("text_model."): v for n, v in getattr(pipe, part).state_dict().items()}
        tensors = {n.removeprefix("text_model."): v for n, v in tensors.items()}
        bad += [f"{part}.{n}" for n, v in have.items()
                if "position_ids" not in n and not torch.equal(v, tensors[n].reshape(v.shape))]
    return bad


def main():
    bad = 0
    for name, (table, kind) in CASES.items():
        file = {row[0]: weight(row[0], row[1]).to(TYPES[kind]) for row in table.rows}
        want = converted(name, dict(file))
        with tempfile.TemporaryDirectory() as folder:
            first, back, out = folder + "/first.safetensors", folder + "/back.safetensors", folder + "/out"
            save_file(file, first)
            convert(first, out, "diffusers")
            convert(out, back, "single")
            again = load_file(back)
            same = set(again) == set(file) and all(torch.equal(again[n], v) for n, v in file.items())
            options = {"torch_dtype": TYPES[kind], "local_files_only": True}
            loaded = {"folder": DiffusionPipeline.from_pretrained(out, **options),
                      "file": CLASSES[name].from_single_file(back, config=out, **options)}
            print(f"{name}: {len(file)} tensors, there and back {'the same' if same else 'DIFFERENT'}")
            for how, pipe in loaded.items():
                # diffusers 0.42 with transformers 5 leaves this one empty, of any file
                parts = {p: t for p, t in want.items() if how == "folder" or p != "text_encoder_2"}
                wrong = differences(pipe, parts)
                print(f"{name}: {how}: {type(pipe).__name__}: {', '.join(parts)}: {wrong[:5] or 'equal'}")
                bad += len(wrong)
            bad += not same
    return bad > 0


if __name__ == "__main__":
    sys.exit(main())
