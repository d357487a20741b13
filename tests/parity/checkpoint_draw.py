"""The latents after four steps from checkpoints in one file, by calotype and by diffusers.

python tests/parity/checkpoint_draw.py [FILE KIND]...     from the repository's root, KIND one of sd1, sd2, sdxl

Without arguments: the tiny checkpoints of mkcheckpoint.py. diffusers draws with its own conversion of the tensors, and with
the configurations that calotype tells. Fails when ‖a − b‖ / ‖b‖ is above 1e-4. Takes minutes and some 500 MB.
"""
import json
import os
import subprocess
import sys
import tempfile

import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline
from safetensors.torch import load_file
from transformers import CLIPTextConfig, CLIPTokenizer

from checkpoint import CLASSES, converted
from clip_vocab import clip_merges, write_vocabulary

PROGRAM, SIZE, STEPS, SEED = "build/cli/calotype", 128, 4, 3
PROMPT, NEGATIVE = "a cat on a hill, night", "blue"


def component(name, config, tensors):
    tensors = {n: v.float() for n, v in tensors.items()}
    if not name.startswith("text"):
        model = CLASSES[name].from_config(config)
    else:
        model = CLASSES[name](CLIPTextConfig(**config))
        wanted = model.state_dict()
        if not any(n.startswith("text_model.") for n in wanted):
            tensors = {n.removeprefix("text_model."): v for n, v in tensors.items()}
        tensors = {n: v for n, v in tensors.items() if n in wanted}  # not SD 2's last layer
    model.load_state_dict(tensors)
    return model.eval()


def tokenizer(vocabulary, pad):
    with open(vocabulary + "/tokenizer_config.json", "w") as f:
        json.dump({"model_max_length": 77, "pad_token": pad, "tokenizer_class": "CLIPTokenizer"}, f)
    made = CLIPTokenizer.from_pretrained(vocabulary)
    os.remove(vocabulary + "/tokenizer_config.json")
    return made


def theirs(path, kind, vocabulary):
    told = json.loads(subprocess.run([PROGRAM, "inspect", "--json", "-m", path], check=True, capture_output=True).stdout)
    tensors = converted(kind, load_file(path))
    parts = {c["name"]: component(c["name"], c["config"], tensors[c["name"]]) for c in told["components"]}
    parts["tokenizer"] = tokenizer(vocabulary, "!" if kind == "sd2" else "<|endoftext|>")
    parts["scheduler"] = DDIMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False,
                                       set_alpha_to_one=False, steps_offset=1, timestep_spacing="leading")
    if kind == "sdxl":
        pipe = StableDiffusionXLPipeline(**parts, tokenizer_2=tokenizer(vocabulary, "!"), add_watermarker=False)
    else:
        pipe = StableDiffusionPipeline(**parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe(PROMPT, negative_prompt=NEGATIVE, num_inference_steps=STEPS, guidance_scale=7.0, width=SIZE, height=SIZE,
                generator=torch.Generator().manual_seed(SEED), output_type="latent").images


def ours(path, folder, vocabulary):
    out = folder + "/latents.safetensors"
    subprocess.run([PROGRAM, "txt2img", "-q", "--force", "--precision", "f32", "--clip-vocab", vocabulary, "-m", path, "-p", PROMPT,
                    "-n", NEGATIVE, "--steps", str(STEPS), "-s", str(SEED), "-W", str(SIZE), "-H", str(SIZE), "--sampler", "ddim",
                    "--scheduler", "leading", "--prediction", "eps", "--save-latents", out, "-o", folder + "/x.png"], check=True)
    return load_file(out)["latents"]


def make_tiny(folder):
    files = []
    for model, kind in ("sd15", "sd1"), ("sd21", "sd2"), ("sdxl", "sdxl"):
        path = f"{folder}/{model}.safetensors"
        subprocess.run([sys.executable, "tests/tools/mkcheckpoint.py", "--model", model, "--size", "tiny", "-o", path], check=True)
        files += [path, kind]
    return files


with tempfile.TemporaryDirectory() as folder:
    vocabulary = folder + "/vocabulary"
    write_vocabulary(vocabulary, clip_merges())
    files = sys.argv[1:] or make_tiny(folder)
    worst = 0.0
    for path, kind in zip(files[::2], files[1::2]):
        want = theirs(path, kind, vocabulary)
        distance = float((ours(path, folder, vocabulary) - want).norm() / want.norm())
        print(f"{os.path.basename(path)}: {distance:.1e} of {float(want.norm()):.3g}")
        worst = max(worst, distance)
sys.exit(not worst <= 1e-4)
