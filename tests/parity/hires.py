"""Pictures that are drawn small, made larger and drawn over, and latents made larger by torch.

python tests/parity/hires.py     from the repository's root, after pipeline.py

Writes hires.json and hires.safetensors beside pipeline.py's runs of the model "sd": diffusers' text-to-image, torch's
interpolate or Pillow's resize, and diffusers' image-to-image on the result with a new generator of the same seed. Its
`strength` of a schedule of `all_steps` are the `hires_steps` that A1111 takes of it. And golden/latent_resize.safetensors:
interpolate in all its ways.
"""
import json

import numpy as np
import torch
from diffusers import StableDiffusionImg2ImgPipeline
from PIL import Image
from safetensors.numpy import save_file

from golden import uniform
from pictures import made_of
from pipeline import SIZE, scheduler_of, sd

WAYS = {"latent": ("bilinear", False), "latent-antialiased": ("bilinear", True), "latent-bicubic": ("bicubic", False),
        "latent-bicubic-antialiased": ("bicubic", True), "latent-nearest": ("nearest", False),
        "latent-nearest-exact": ("nearest-exact", False)}
PIXELS = {"lanczos": Image.Resampling.LANCZOS, "nearest": Image.Resampling.NEAREST}
RUNS = [
    {"sampler": "ddim", "steps": 4, "cfg_scale": 3.0, "hires_steps": 3, "hires_denoise": 0.75},
    {"sampler": "euler_a", "steps": 3, "cfg_scale": 2.0, "hires_steps": 2, "hires_denoise": 0.5, "count": 2,
     "hires_upscaler": "latent-bicubic", "hires_scale": 1.5},
    {"sampler": "dpmpp_2m", "steps": 5, "cfg_scale": 2.0, "hires_steps": 3, "hires_denoise": 0.6,
     "hires_upscaler": "latent-nearest", "hires_width": 56, "hires_height": 48, "width": 32, "height": 32},
    {"sampler": "ddim", "steps": 3, "cfg_scale": 2.0, "hires_steps": 2, "hires_denoise": 0.5, "hires_upscaler": "lanczos",
     "hires_width": 52},
    {"sampler": "euler", "steps": 4, "cfg_scale": 1.0, "hires_denoise": 0.8, "hires_upscaler": "nearest", "width": 24,
     "height": 40},
]
SHAPES = [((6, 5), (11, 13)), ((8, 8), (16, 16)), ((7, 9), (10, 23)), ((12, 10), (7, 6))]
PROMPT, NEGATIVE = "a red boat", "fog"


def interpolate(x, how, h, w):
    mode, antialias = WAYS[how]
    return torch.nn.functional.interpolate(x, size=(h, w), mode=mode, antialias=antialias)


def through_pixels(pipe, x, how, h, w):
    pictures = (pipe.vae.decode(x / pipe.vae.config.scaling_factor).sample / 2 + 0.5).clamp(0, 1)
    bytes_ = np.round(pictures.permute(0, 2, 3, 1).numpy() * 255).astype(np.uint8)
    large = np.stack([np.asarray(Image.fromarray(b).resize((4 * w, 4 * h), PIXELS[how])) for b in bytes_])
    y = torch.from_numpy(large.astype(np.float32) / 127.5 - 1).permute(0, 3, 1, 2)
    return pipe.vae.encode(y).latent_dist.mode() * pipe.vae.config.scaling_factor


def enlarge(pipe, x, run):
    H, W = 4 * x.shape[2], 4 * x.shape[3]
    w, h = run.get("hires_width", 0), run.get("hires_height", 0)
    if not w and not h:
        w, h = int(W * run.get("hires_scale", 2)), int(H * run.get("hires_scale", 2))
        wide, high = w, h
    elif not h or (w and W * h < w * H):
        wide, high = w, w * H // W
    else:
        wide, high = h * W // H, h
    how = run.get("hires_upscaler", "latent")
    y = (through_pixels(pipe, x, how, high // 4, wide // 4) if how in PIXELS else interpolate(x, how, high // 4, wide // 4))
    if w and h:
        cut_x, cut_y = (wide - w) // 4, (high - h) // 4
        y = y[:, :, cut_y // 2:y.shape[2] - (cut_y + 1) // 2, cut_x // 2:y.shape[3] - (cut_x + 1) // 2]
    return y


def generators(run):
    return [torch.Generator().manual_seed(run["seed"] + i) for i in range(run.get("count", 1))]


def draw(pipe, again, run):
    kept = []

    def keep(_pipe, _step, _t, tensors):
        kept.append(tensors["latents"].clone())
        return tensors

    usual = {"guidance_scale": run["cfg_scale"], "num_images_per_prompt": run.get("count", 1), "negative_prompt": NEGATIVE,
             "callback_on_step_end": keep, "output_type": "np"}
    pipe.scheduler = scheduler_of(run)
    pipe(PROMPT, width=run.get("width", 4 * SIZE), height=run.get("height", 4 * SIZE), num_inference_steps=run["steps"],
         generator=generators(run), **usual)
    y = enlarge(pipe, kept[-1], run)
    again.scheduler = scheduler_of(run)
    steps = run.get("hires_steps", run["steps"])
    whole = int(steps / min(run["hires_denoise"], 0.999))
    assert int(whole * run["hires_denoise"]) == steps
    # One picture at a time: the pipeline would share the first picture's latents.
    results = []
    for i, g in enumerate(generators(run)):
        one = usual | {"num_images_per_prompt": 1}
        again.scheduler = scheduler_of(run)
        out = again(PROMPT, image=y[i:i + 1], strength=run["hires_denoise"], num_inference_steps=whole, generator=g, **one)
        results.append((kept[-1], np.round(out.images * 255).astype(np.uint8)))
    return torch.cat([r[0] for r in results]).numpy(), np.ascontiguousarray(np.concatenate([r[1] for r in results]))


def main():
    pipe, _, _ = sd()
    pipe.set_progress_bar_config(disable=True)
    again = made_of(StableDiffusionImg2ImgPipeline, pipe)
    data = {}
    runs = [{"prompt": PROMPT, "negative_prompt": NEGATIVE, "emphasis": "none", "seed": 60 + 3 * i} | r for i, r in enumerate(RUNS)]
    for i, run in enumerate(runs):
        latents, picture = draw(pipe, again, run)
        data[f"{i}.latents"], data[f"{i}.image"] = np.ascontiguousarray(latents), picture
    folder = "tests/golden/pipeline/sd"
    save_file(data, folder + "/hires.safetensors")
    with open(folder + "/hires.json", "w") as f:
        f.write("{\"runs\": [\n" + ",\n".join(json.dumps(r) for r in runs) + "\n]}\n")
    data = {}
    for i, ((h, w), (H, W)) in enumerate(SHAPES):
        x = torch.from_numpy(uniform(f"latent_resize:{i}", 0, 2 * h * w).astype(np.float32).reshape(1, 2, h, w))
        data[f"{i}.x"] = x.numpy()
        for how in WAYS:
            data[f"{i}.{how}"] = np.ascontiguousarray(interpolate(x, how, H, W).numpy())
    save_file(data, "tests/golden/latent_resize.safetensors")


if __name__ == "__main__":
    with torch.no_grad():
        main()
