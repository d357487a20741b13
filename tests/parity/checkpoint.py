"""Checkpoints in the original layout: what diffusers' own conversion makes of their tensors.

python tests/parity/checkpoint.py            from the repository's root: writes tests/golden/checkpoint
python tests/parity/checkpoint.py --full     compares full-size models with calotype: files of real names and shapes
                                             without values, whose configurations and tensors must fit diffusers' classes

NAME.tsv describes a small file with real names: a row "file TENSOR SHAPE" for each of its tensors, whose values follow
from the name (README.md) rounded to the type of the row "type"; and a row "COMPONENT TENSOR SHAPE HASH" for each tensor
of a component after the conversion, by diffusers' name, with the beginning of the SHA-256 of its values in float32.
"""
import hashlib
import json
import os
import struct
import subprocess
import sys
import tempfile
from types import SimpleNamespace

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.loaders import single_file_utils as convert
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from golden import fill, scale_and_offset

sys.path.insert(0, "tests/tools")
import mkcheckpoint as make  # noqa: E402

GOLDEN = "tests/golden/checkpoint"
WORDS, TOKENS, WIDTH = 600, 12, 64
TYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


# ---- small files with the names of real ones

def small_unet(t, ch, mult, depth, mid, ctx, linear, adm=0):
    make.unet(t.sub("model.diffusion_model."), make.UNetShape(ch, mult, 2, depth, mid, ctx, linear, adm), 0.95)


def sd1():
    t = make.Table()
    small_unet(t, 32, (1, 2, 2), (1, 1, 0), 1, WIDTH, False)
    make.vae(t.sub("first_stage_model."), 32, 32, (1, 2, 2))
    make.clip_hf(t.sub("cond_stage_model.transformer."), WIDTH, 2, WORDS, TOKENS, False)
    return t


def sd2():
    t = make.Table()
    small_unet(t, 64, (1, 1, 2), (1, 1, 0), 1, WIDTH, True)
    make.vae(t.sub("first_stage_model."), 32, 32, (1, 2))
    make.clip_open(t.sub("cond_stage_model."), WIDTH, 3, WORDS, TOKENS)
    return t


def sdxl():
    t = make.Table()
    small_unet(t, 32, (1, 2, 2), (0, 1, 2), 2, 2 * WIDTH, True, WIDTH + 6 * 256)
    make.vae(t.sub("first_stage_model."), 32, 32, (1, 2))
    make.clip_hf(t.sub("conditioner.embedders.0.transformer."), WIDTH, 2, WORDS, TOKENS, False)
    make.clip_open(t.sub("conditioner.embedders.1."), WIDTH, 2, WORDS, TOKENS)
    return t


CASES = {"sd1": (sd1(), "F32"), "sd2": (sd2(), "BF16"), "sdxl": (sdxl(), "F16")}


# ---- diffusers' conversion

def converted(name, file):
    xl = name in ("sdxl", "refiner")
    parts = {"unet": convert.convert_ldm_unet_checkpoint(
        file, {"layers_per_block": 2, "addition_embed_type": "text_time" if xl else None})}
    if any(k.startswith("first_stage_model.") for k in file):
        levels = 1 + max(int(k.split(".")[3]) for k in file if k.startswith("first_stage_model.encoder.down."))
        blocks = [None] * levels
        parts["vae"] = convert.convert_ldm_vae_checkpoint(file, {"down_block_types": blocks, "up_block_types": blocks})
    if any("transformer.text_model." in k for k in file):
        parts["text_encoder"] = convert.convert_ldm_clip_checkpoint(file)
    for part, prefix in (("text_encoder", "cond_stage_model.model."), ("text_encoder_2", "conditioner.embedders.0.model."),
                         ("text_encoder_2", "conditioner.embedders.1.model.")):
        if any(k.startswith(prefix) for k in file):
            width = file[prefix + "positional_embedding"].shape[1]
            tower = SimpleNamespace(config=SimpleNamespace(hidden_size=width))
            parts[part] = convert.convert_open_clip_checkpoint(tower, file, prefix)
    return parts


def weight(name, shape):
    out = torch.empty(shape)
    fill(out, name, *scale_and_offset(name, shape))
    return out


def text(shape):
    return "x".join(map(str, shape)) or "scalar"


def write_golden():
    os.makedirs(GOLDEN, exist_ok=True)
    for name, (table, kind) in CASES.items():
        shapes = {row[0]: row[1] for row in table.rows}
        file = {n: weight(n, s).to(TYPES[kind]) for n, s in shapes.items()}
        rows = [f"type {kind}"] + [f"file {n} {text(s)}" for n, s in sorted(shapes.items())]
        for part, tensors in converted(name, dict(file)).items():
            for n, v in sorted(tensors.items()):
                digest = hashlib.sha256(v.float().contiguous().numpy().tobytes()).hexdigest()[:8]
                rows.append(f"{part} {n} {text(v.shape)} {digest}")
        with open(f"{GOLDEN}/{name}.tsv", "w") as f:
            f.write("\n".join(r.replace(" ", "\t") for r in rows) + "\n")
        print(name, len(shapes), "tensors,", sum(v.numel() for v in file.values()), "values,", len(rows), "rows")


# ---- full-size models

def write_hollow(path, table):
    """The header of a real file, and a hole of its size."""
    header, at = {}, 0
    for name, shape, *_, kind in table.rows:
        size = {"I64": 8, "F32": 4}.get(kind, 2) * int(torch.Size(shape).numel())
        header[name] = {"dtype": kind or "F16", "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    blob = json.dumps(header).encode()
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(blob)) + blob)
        f.truncate(8 + len(blob) + at)


CLASSES = {"unet": UNet2DConditionModel, "vae": AutoencoderKL, "text_encoder": CLIPTextModel,
           "text_encoder_2": CLIPTextModelWithProjection}


def load_strictly(part, config, tensors):
    """Whether the tensors are exactly those of the class with this configuration."""
    with torch.device("meta"):
        model = CLASSES[part](CLIPTextConfig(**config)) if part.startswith("text") else CLASSES[part].from_config(config)
    want = {n: tuple(p.shape) for n, p in model.named_parameters()}
    have = {n: tuple(v.shape) for n, v in tensors.items() if "position_ids" not in n}
    if part.startswith("text") and not any(n.startswith("text_model.") for n in want):
        have = {n.removeprefix("text_model."): s for n, s in have.items()}
    return want == have, sorted(set(want.items()) ^ set(have.items()))[:6]


def compare_full(program):
    cases = [("sd1", ["--model", "sd15"]), ("sd1 inpainting", ["--model", "sd15", "--in-channels", "9"]),
             ("sd1 instruct-pix2pix", ["--model", "sd15", "--in-channels", "8"]), ("sd2", ["--model", "sd21"]),
             ("sd2 inpainting", ["--model", "sd21", "--in-channels", "9"]), ("sdxl", ["--model", "sdxl"]),
             ("refiner", ["--model", "refiner"])]
    bad = 0
    for name, argv in cases:
        table = make.build(make.parser().parse_args(["--no-schedule", *argv]))
        with tempfile.TemporaryDirectory() as folder:
            write_hollow(folder + "/model.safetensors", table)
            out = subprocess.run([program, "inspect", "--json", "-m", folder + "/model.safetensors"],
                                 check=True, capture_output=True).stdout
        told = json.loads(out)
        meta = {r[0]: torch.empty(r[1], device="meta") for r in table.rows if r[5] != "I64"}
        parts = converted(name, meta)
        for part in told["components"]:
            ok, differ = load_strictly(part["name"], part["config"], parts[part["name"]])
            print(f"{name}: {part['name']}: {len(parts[part['name']])} tensors:", "fit" if ok else differ)
            bad += not ok
        print(f"{name}:", "; ".join(f"{f['what']} {f['value']}" for f in told["detected"]), "| problems:", told["problems"])
        bad += bool(told["problems"])
    return bad


if __name__ == "__main__":
    if "--full" in sys.argv[1:]:
        sys.exit(compare_full("build/cli/calotype") > 0)
    write_golden()
