"""Pictures that begin from a picture, by diffusers' image-to-image and inpainting pipelines.

python tests/parity/pictures.py     from the repository's root, after pipeline.py

Writes pictures.json and pictures.safetensors beside pipeline.py's runs of the model "sd", and the models "inpaint", whose
UNet has 9 channels, and "edit" (instruct-pix2pix) with 8, with their own. Finished pictures are put together with the first
one outside of the mask.
"""
import json

import numpy as np
import torch
from diffusers import (StableDiffusionImg2ImgPipeline, StableDiffusionInpaintPipeline,
                       StableDiffusionInstructPix2PixPipeline)
from PIL import Image
from safetensors.numpy import save_file

from pipeline import EPS, SIZE, scheduler_of, sd, unet, write_model

SD_RUNS = [
    {"sampler": "ddim", "steps": 4, "cfg_scale": 3.0, "strength": 0.75},
    {"sampler": "euler", "steps": 5, "cfg_scale": 2.0, "strength": 0.6, "scheduler": "karras"},
    {"sampler": "dpmpp_2m", "steps": 6, "cfg_scale": 2.0, "strength": 0.5, "width": 40, "height": 24},
    {"sampler": "euler_a", "steps": 4, "cfg_scale": 1.0, "strength": 0.8, "count": 2},
    {"sampler": "ddim", "steps": 3, "cfg_scale": 3.0, "strength": 1.0},
    {"sampler": "ddim", "steps": 4, "cfg_scale": 3.0, "strength": 0.75, "mask": True},
    {"sampler": "euler", "steps": 5, "cfg_scale": 2.0, "strength": 0.8, "mask": True},
]
INPAINT_RUNS = [
    {"sampler": "ddim", "steps": 3, "cfg_scale": 3.0, "strength": 1.0, "mask": True},
    {"sampler": "euler", "steps": 5, "cfg_scale": 2.0, "strength": 0.8, "mask": True},
]
EDIT_RUNS = [
    {"sampler": "ddim", "steps": 4, "cfg_scale": 3.0, "image_cfg_scale": 1.5},
    {"sampler": "euler", "steps": 5, "cfg_scale": 2.0, "image_cfg_scale": 1.0, "scheduler": "karras", "width": 40, "height": 24},
    {"sampler": "dpmpp_2m", "steps": 4, "cfg_scale": 1.0, "image_cfg_scale": 1.0},
    {"sampler": "euler_a", "steps": 4, "cfg_scale": 4.0, "image_cfg_scale": 2.0, "count": 2},
]


def picture(w, h):
    y, x, c = np.mgrid[:h, :w, :3]
    return ((7 * x + 5 * y + 60 * c + x * y // 4) % 256).astype(np.uint8)


def mask(w, h):
    m = np.zeros((h, w), np.uint8)
    m[12:28, 8:24] = 255
    return m


def draw(pipe, run):
    pipe.scheduler = scheduler_of(run)
    w, h, count = run.get("width", 4 * SIZE), run.get("height", 4 * SIZE), run.get("count", 1)
    first, kept = picture(w, h), []

    def keep(_pipe, _step, _t, tensors):
        kept.append(tensors["latents"].clone())
        return tensors

    other = {"mask_image": Image.fromarray(mask(w, h)), "width": w, "height": h} if "mask" in run else {}
    for ours, theirs in (("strength", "strength"), ("image_cfg_scale", "image_guidance_scale")):
        if ours in run:
            other[theirs] = run[ours]
    out = pipe("a red boat", image=Image.fromarray(first), num_inference_steps=run["steps"],
               guidance_scale=run["cfg_scale"], num_images_per_prompt=count, negative_prompt="fog",
               generator=[torch.Generator().manual_seed(run["seed"] + i) for i in range(count)],
               callback_on_step_end=keep, output_type="np", **other)
    drawn = np.round(out.images * 255).astype(np.uint8)
    if "mask" in run:
        drawn = np.where(mask(w, h)[None, ..., None] >= 128, drawn, first[None])
    return np.ascontiguousarray(kept[-1].numpy()), np.ascontiguousarray(drawn)


def write_runs(folder, runs, pipe_of):
    data = {}
    runs = [{"prompt": "a red boat", "negative_prompt": "fog", "emphasis": "none", "seed": 40 + i} | r for i, r in enumerate(runs)]
    for i, run in enumerate(runs):
        data[f"{i}.latents"], data[f"{i}.image"] = draw(pipe_of(run), run)
    save_file(data, folder + "/pictures.safetensors")
    with open(folder + "/pictures.json", "w") as f:
        f.write("{\"runs\": [\n" + ",\n".join(json.dumps(r) for r in runs) + "\n]}\n")


def made_of(cls, pipe):
    made = cls(**pipe.components, requires_safety_checker=False)
    made.set_progress_bar_config(disable=True)
    return made


def write_model_and_runs(folder, pipe, parts, tokenizers, runs):
    write_model(folder, pipe, parts | {"unet": pipe.unet}, tokenizers)
    with open(f"{folder}/scheduler_eps.json", "w") as f:
        json.dump({"_class_name": "DDIMScheduler"} | EPS, f)
    write_runs(folder, runs, lambda run: pipe)


def main():
    pipe, parts, tokenizers = sd()
    image, paint = made_of(StableDiffusionImg2ImgPipeline, pipe), made_of(StableDiffusionInpaintPipeline, pipe)
    write_runs("tests/golden/pipeline/sd", SD_RUNS, lambda run: paint if "mask" in run else image)
    pipe.register_modules(unet=unet(cross_attention_dim=12, in_channels=9))
    write_model_and_runs("tests/golden/pipeline/inpaint", made_of(StableDiffusionInpaintPipeline, pipe), parts, tokenizers,
                         INPAINT_RUNS)
    pipe.register_modules(unet=unet(cross_attention_dim=12, in_channels=8))
    write_model_and_runs("tests/golden/pipeline/edit", made_of(StableDiffusionInstructPix2PixPipeline, pipe), parts, tokenizers,
                         EDIT_RUNS)


if __name__ == "__main__":
    main()
