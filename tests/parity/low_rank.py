"""Singular values by numpy, of the matrices of tests/test_extract.c: writes tests/golden/low_rank.h.

python tests/parity/low_rank.py           from the repository's root
python tests/parity/low_rank.py --load    extracts a LoRA from two small models and loads it with diffusers
"""
import subprocess
import sys
import tempfile

import numpy as np


def golden():
    i, j = np.mgrid[0:48, 0:80].astype(float)
    decaying = 1 / (1 + (i - 0.6 * j) ** 2 / 4)
    i, j = np.mgrid[0:64, 0:96].astype(float)
    flat = np.cos(i * i * 0.37 + j * 1.9 + i * j * 0.11)
    with open("tests/golden/low_rank.h", "w") as f:
        f.write("// Singular values, by tests/parity/low_rank.py.\n#pragma once\n")
        for name, matrix in ("DECAYING", decaying), ("FLAT", flat):
            values = np.linalg.svd(matrix, compute_uv=False)
            f.write(f"static const double {name}[{len(values)}] = {{\n")
            f.writelines(f"    {v:.17g},\n" for v in values)
            f.write("};\n")


def load():
    """Both spellings of a LoRA's names give the UNet that the model was."""
    import torch
    from diffusers import StableDiffusionPipeline
    from safetensors.torch import save_file

    from checkpoint import CASES, weight
    table, _ = CASES["sd1"]
    file = {row[0]: weight(row[0], row[1]) for row in table.rows}
    bad = 0
    with tempfile.TemporaryDirectory() as folder:
        save_file(file, folder + "/base.safetensors")
        generator = torch.Generator().manual_seed(1)
        for name, v in file.items():
            if v.dim() in (2, 4) and "attn" in name and "diffusion_model" in name:
                up, down = (torch.randn(s, generator=generator) for s in ((v.shape[0], 4), (4, v[0].numel())))
                file[name] = v + 0.02 * (up @ down).reshape(v.shape)
        save_file(file, folder + "/tuned.safetensors")
        for model in "base", "tuned":
            subprocess.run(["build/cli/calotype", "convert", f"{folder}/{model}.safetensors", f"{folder}/{model}", "-q",
                            "--layout", "diffusers", "--clip-vocab", "tests/golden/tokenizer"], check=True)
        want = StableDiffusionPipeline.from_pretrained(folder + "/tuned").unet.state_dict()
        for names in "kohya", "peft":
            subprocess.run(["build/cli/calotype", "convert", folder + "/tuned", f"{folder}/{names}.safetensors", "-q",
                            "--extract-lora", folder + "/base", "--rank", "4", "--lora-names", names], check=True)
            pipe = StableDiffusionPipeline.from_pretrained(folder + "/base")
            pipe.load_lora_weights(folder, weight_name=names + ".safetensors")
            pipe.fuse_lora()
            pipe.unload_lora_weights()
            have = pipe.unet.state_dict()
            worst = max(((have[n] - want[n]).norm() / want[n].norm()).item() for n in want)
            print(names, "names: largest relative difference of a tensor", worst)
            bad += not worst < 1e-5
    return bad


if __name__ == "__main__":
    sys.exit(load() > 0 if "--load" in sys.argv[1:] else golden())
