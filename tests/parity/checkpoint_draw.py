"""The latents after four steps from checkpoints in one file, by calotype and by diffusers.

python tests/parity/checkpoint_draw.py [FILE KIND]...     from the repository's root, KIND a key of KINDS

Without arguments: the tiny checkpoints of mkcheckpoint.py, in a minute. diffusers draws with its own conversion of the tensors,
and with the configurations that calotype tells. Fails when ‖a − b‖ / ‖b‖ is above 1e-4. A full SDXL takes 18 GB.
"""
import inspect
import json
import os
import subprocess
import sys
import tempfile

import torch
from diffusers import (DDIMScheduler, StableDiffusionInpaintPipeline, StableDiffusionInstructPix2PixPipeline,
                       StableDiffusionPipeline, StableDiffusionXLImg2ImgPipeline, StableDiffusionXLPipeline)
from PIL import Image
from safetensors.torch import load_file
from transformers import CLIPTextConfig, CLIPTokenizer

from checkpoint import CLASSES, converted
from clip_vocab import clip_merges, write_vocabulary
from pictures import mask, picture

PROGRAM, SIZE, STEPS, SEED = "build/cli/calotype", 128, 4, 3
PROMPT, NEGATIVE = "a cat on a hill, night", "blue"
# What mkcheckpoint.py makes of a kind, its pipeline, and arguments of that.
KINDS = {
    "sd1": (["--model", "sd15"], StableDiffusionPipeline, {}),
    "sd2": (["--model", "sd21"], StableDiffusionPipeline, {}),
    "sdxl": (["--model", "sdxl"], StableDiffusionXLPipeline, {}),
    "inpaint": (["--model", "sd15", "--in-channels", "9"], StableDiffusionInpaintPipeline, {"strength": 1.0}),
    "edit": (["--model", "sd15", "--in-channels", "8"], StableDiffusionInstructPix2PixPipeline, {"image_guidance_scale": 1.5}),
    "refiner": (["--model", "refiner"], StableDiffusionXLImg2ImgPipeline, {"strength": 0.75}),
}
FLAGS = {"strength": "--strength", "image_guidance_scale": "--image-cfg-scale"}


def takes(kind, argument):
    return argument in inspect.signature(KINDS[kind][1].__call__).parameters


def component(name, config, tensors):
    tensors = {n: tensors.pop(n).float() for n in list(tensors)}  # the file's own are given back one by one
    if not name.startswith("text"):
        with torch.device("meta"):
            model = CLASSES[name].from_config(config)
    else:
        model = CLASSES[name](CLIPTextConfig(**config))
        wanted = model.state_dict()
        if not any(n.startswith("text_model.") for n in wanted):
            tensors = {n.removeprefix("text_model."): v for n, v in tensors.items()}
        tensors = {n: v for n, v in tensors.items() if n in wanted}  # not SD 2's last layer
    model.load_state_dict(tensors, assign=True)
    return model.eval()


def tokenizer(vocabulary, pad):
    with open(vocabulary + "/tokenizer_config.json", "w") as f:
        json.dump({"model_max_length": 77, "pad_token": pad, "tokenizer_class": "CLIPTokenizer"}, f)
    made = CLIPTokenizer.from_pretrained(vocabulary)
    os.remove(vocabulary + "/tokenizer_config.json")
    return made


def theirs(path, kind, folder, vocabulary):
    told = json.loads(subprocess.run([PROGRAM, "inspect", "--json", "-m", path], check=True, capture_output=True).stdout)
    tensors = converted(kind, load_file(path))
    parts = {c["name"]: component(c["name"], c["config"], tensors.pop(c["name"])) for c in told["components"]}
    if "text_encoder" in parts:
        parts["tokenizer"] = tokenizer(vocabulary, "!" if kind == "sd2" else "<|endoftext|>")
    if "text_encoder_2" in parts:
        parts["tokenizer_2"] = tokenizer(vocabulary, "!")
    parts["scheduler"] = DDIMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False,
                                       set_alpha_to_one=False, steps_offset=1, timestep_spacing="leading")
    if kind == "refiner":
        parts |= {"text_encoder": None, "tokenizer": None, "requires_aesthetics_score": True}
    checker = {"add_watermarker": False} if kind in ("sdxl", "refiner") else \
        {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    pipe = KINDS[kind][1](**parts, **checker)
    pipe.set_progress_bar_config(disable=True)
    wanted = {"width": SIZE, "height": SIZE, "image": Image.open(folder + "/picture.png"),
              "mask_image": Image.open(folder + "/mask.png")}
    other = KINDS[kind][2] | {name: value for name, value in wanted.items() if takes(kind, name)}
    return pipe(PROMPT, negative_prompt=NEGATIVE, num_inference_steps=STEPS, guidance_scale=7.0,
                generator=torch.Generator().manual_seed(SEED), output_type="latent", **other).images


def ours(path, kind, folder, vocabulary):
    out = folder + "/latents.safetensors"
    other = [word for name, value in KINDS[kind][2].items() for word in (FLAGS[name], str(value))]
    if takes(kind, "image"):
        other += ["-i", folder + "/picture.png"]
    if takes(kind, "mask_image"):
        other += ["--mask", folder + "/mask.png", "--mask-blur", "0"]
    subprocess.run([PROGRAM, "txt2img", "-q", "--force", "--precision", "f32", "--clip-vocab", vocabulary, "-m", path, "-p", PROMPT,
                    "-n", NEGATIVE, "--steps", str(STEPS), "-s", str(SEED), "-W", str(SIZE), "-H", str(SIZE), "--sampler", "ddim",
                    "--scheduler", "leading", "--prediction", "eps", "--noise-layout", "diffusers", *other,
                    "--save-latents", out, "-o", folder + "/x.png"], check=True)
    return load_file(out)["latents"]


def make_tiny(folder):
    files = []
    for kind, (model, *_) in KINDS.items():
        path = f"{folder}/{kind}.safetensors"
        subprocess.run([sys.executable, "tests/tools/mkcheckpoint.py", *model, "--size", "tiny", "-o", path], check=True)
        files += [path, kind]
    return files


with tempfile.TemporaryDirectory() as folder:
    vocabulary = folder + "/vocabulary"
    write_vocabulary(vocabulary, clip_merges())
    Image.fromarray(picture(SIZE, SIZE)).save(folder + "/picture.png")
    Image.fromarray(mask(32, 32)).resize((SIZE, SIZE), Image.NEAREST).save(folder + "/mask.png")  # whole latents
    files = sys.argv[1:] or make_tiny(folder)
    worst = 0.0
    for path, kind in zip(files[::2], files[1::2]):
        want = theirs(path, kind, folder, vocabulary)
        distance = float((ours(path, kind, folder, vocabulary) - want).norm() / want.norm())
        print(f"{os.path.basename(path)}: {distance:.1e} of {float(want.norm()):.3g}", flush=True)
        worst = max(worst, distance)
sys.exit(not worst <= 1e-4)
