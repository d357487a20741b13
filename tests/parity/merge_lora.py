"""LoRA files in the spellings that people have, and the weights that diffusers (fuse_lora) makes of them; those of the
text encoder by peft itself, as diffusers does not find the layers of transformers 5 by the names that files have.

python tests/parity/merge_lora.py     from the repository's root

Writes tests/golden/merge_lora/: CASE.safetensors, a LoRA of the small model of pipeline.py, and
CASE-fused.safetensors, "PART.NAME" of every weight that it changes, merged WEIGHT times.
"""
import copy
import json
import os
import tempfile

import torch
from peft import LoraConfig
from safetensors.torch import save_file

from golden import fill, scale_and_offset
from pipeline import sd

OUT, WEIGHT = "tests/golden/merge_lora", 0.7
BLOCK = "down_blocks.0.attentions.0.transformer_blocks.0."
ATTENTION = [BLOCK + "attn1.to_q", BLOCK + "attn2.to_k", BLOCK + "attn1.to_out.0"]
UNET = ATTENTION + ["mid_block.attentions.0.proj_in", "down_blocks.0.resnets.0.conv1"]
TEXT = ["text_model.encoder.layers.0.self_attn.q_proj", "text_model.encoder.layers.1.mlp.fc1"]
ORIGINAL = {"down_blocks_0_attentions_0": "input_blocks_1_1", "down_blocks_0_resnets_0_conv1": "input_blocks_1_0_in_layers_2",
            "mid_block_attentions_0": "middle_block_1"}


def made(name, shape):
    out = torch.empty(shape)
    fill(out, name, *scale_and_offset(name, shape))
    return out


def pair(layer, weight, rank):
    """Of the layer's own rank: a convolution's second factor is 1x1."""
    ones = (1,) * (weight.dim() - 2)
    return (made(layer + ".lora_A.weight", (rank, *weight.shape[1:])),
            made(layer + ".lora_B.weight", (weight.shape[0], rank, *ones)))


def kohya(parts, rank, alpha, names=str):
    file = {}
    for part, layer, weight in parts:
        name = ("lora_unet_" if part == "unet" else "lora_te_") + layer.replace(".", "_")
        down, up = pair(layer, weight, rank)
        file |= {names(name) + ".lora_down.weight": down, names(name) + ".lora_up.weight": up,
                 names(name) + ".alpha": torch.tensor(float(alpha))}
    return file


def original(name):
    for ours, theirs in ORIGINAL.items():
        name = name.replace(ours, theirs)
    return name


def spelled(parts, rank, down_end, up_end):
    file = {}
    for part, layer, weight in parts:
        down, up = pair(layer, weight, rank)
        file |= {f"{part}.{layer}{down_end}": down, f"{part}.{layer}{up_end}": up}
    return file


def processors(parts, rank):
    file = {}
    for part, layer, weight in parts:
        at, to = layer.replace(".to_out.0", ".to_out").rsplit(".", 1)
        down, up = pair(layer, weight, rank)
        file |= {f"{part}.{at}.processor.{to}_lora.down.weight": down, f"{part}.{at}.processor.{to}_lora.up.weight": up}
    return file


def parts_of(pipe, unet, text=()):
    return ([("unet", n, pipe.unet.get_submodule(n).weight) for n in unet]
            + [("text_encoder", n, pipe.text_encoder.get_submodule(inner(n)).weight) for n in text])


def inner(name):
    """transformers 5 has dropped "text_model."."""
    return name.removeprefix("text_model.")


def fused_text(pipe, parts, rank, alpha):
    encoder, fused = copy.deepcopy(pipe.text_encoder), {}
    layers = [layer for part, layer, _ in parts if part == "text_encoder"]
    if not layers:
        return fused
    encoder.add_adapter(LoraConfig(r=rank, lora_alpha=alpha * WEIGHT, target_modules=[inner(n) for n in layers]))
    for layer in layers:
        module = encoder.get_submodule(inner(layer))
        down, up = pair(layer, module.base_layer.weight, rank)
        module.lora_A["default"].weight.data, module.lora_B["default"].weight.data = down, up
        module.merge()
        fused[f"text_encoder.{layer}.weight"] = module.base_layer.weight
    return fused


pipe = sd()[0]
all_parts, attention = parts_of(pipe, UNET, TEXT), parts_of(pipe, ATTENTION)
CASES = {
    "kohya": (kohya(all_parts, 2, 1), all_parts),
    "kohya_original": (kohya(all_parts, 2, 1, original), all_parts),
    "peft": (spelled(all_parts, 3, ".lora_A.weight", ".lora_B.weight"), all_parts),
    "diffusers": (spelled(attention, 2, ".lora.down.weight", ".lora.up.weight"), attention),
    "processors": (processors(attention, 2), attention),
}
SETTINGS = {"peft": {"unet.r": 3, "unet.lora_alpha": 6, "unet.target_modules": UNET,
                     "text_encoder.r": 3, "text_encoder.lora_alpha": 1.5, "text_encoder.target_modules": TEXT}}


def save(path, file, said):
    """`said`: peft's configurations of the parts, as diffusers writes them."""
    save_file({n: t.detach().contiguous() for n, t in file.items()}, path,
              {"format": "pt"} | ({"lora_adapter_metadata": json.dumps(said, sort_keys=True)} if said else {}))


def fused_unet(pipe, name, parts):
    """Of kohya's names that are the original layout's, diffusers knows SDXL's only: the same under ours."""
    file = kohya(all_parts, 2, 1) if name == "kohya_original" else CASES[name][0]
    tuned = copy.deepcopy(pipe)
    with tempfile.TemporaryDirectory() as folder:
        save(folder + "/unet.safetensors", {n: t for n, t in file.items() if "unet" in n},
             {n: v for n, v in SETTINGS.get(name, {}).items() if "unet" in n})
        tuned.load_lora_weights(folder, weight_name="unet.safetensors")
    tuned.fuse_lora(lora_scale=WEIGHT)
    tuned.unload_lora_weights()
    return {f"unet.{layer}.weight": tuned.unet.get_submodule(layer).weight for part, layer, _ in parts if part == "unet"}


os.makedirs(OUT, exist_ok=True)
for name, (file, parts) in CASES.items():
    save(f"{OUT}/{name}.safetensors", file, SETTINGS.get(name))
    fused = fused_unet(pipe, name, parts) | fused_text(pipe, parts, *((3, 1.5) if name in SETTINGS else (2, 1)))
    for part, layer, weight in parts:
        assert not torch.equal(fused[f"{part}.{layer}.weight"], weight), (name, layer)
    save(f"{OUT}/{name}-fused.safetensors", fused, None)
