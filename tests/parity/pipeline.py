"""Whole pictures by diffusers' pipelines, from two small models with generated weights.

python tests/parity/pipeline.py     from the repository's root

Writes tests/golden/pipeline/MODEL/: the model (one golden case for each network, which genweights turns into a
folder; the tokenizer's files are those of tests/golden/tokenizer), runs.json with what was asked for, and
runs.safetensors with what came out: N.latents, and N.image as bytes. Float32, as users run it.
"""
import json
import logging
import os
import shutil
import tempfile

import diffusers
import numpy as np
import torch
from diffusers import (AutoencoderKL, DDIMScheduler, DPMSolverMultistepScheduler, EulerAncestralDiscreteScheduler,
                       EulerDiscreteScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline,
                       UNet2DConditionModel)
from safetensors.numpy import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from golden import fill, scale_and_offset

logging.disable(logging.WARNING)
SIZE, TOKENS, WORDS = 8, 12, 574  # latents' side, tokens in a row, ids of the vocabulary
EPS = {"num_train_timesteps": 1000, "beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012,
       "clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1}
V = EPS | {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "timestep_spacing": "trailing",
           "set_alpha_to_one": True, "steps_offset": 0}


def generate(model, name_of=str):
    for n, p in model.named_parameters():
        p.requires_grad_(False)
        fill(p, name_of(n), *scale_and_offset(name_of(n), p.shape))
    return model.eval()


def text_name(n):
    return n if n.startswith(("text_model.", "text_projection.")) else "text_model." + n


def write_case(path, model, file, config, name_of=str):
    tensors = ",\n".join(json.dumps([name_of(n), list(p.shape)]) for n, p in model.named_parameters())
    with open(path, "w") as f:
        f.write(f'{{\n"file": "{file}",\n"config": {json.dumps(config)},\n"tensors": [\n{tensors}\n]\n}}\n')


def tokenizer(pad):
    with tempfile.TemporaryDirectory() as d:
        for n in ("vocab.json", "merges.txt"):
            shutil.copy("tests/golden/tokenizer/" + n, d)
        config = {"model_max_length": TOKENS, "pad_token": pad, "tokenizer_class": "CLIPTokenizer"}
        with open(d + "/tokenizer_config.json", "w") as f:
            json.dump(config, f)
        return CLIPTokenizer.from_pretrained(d), config


def encoder(cls, width, **other):
    config = CLIPTextConfig(vocab_size=WORDS, hidden_size=width, intermediate_size=2 * width, num_hidden_layers=2,
                            num_attention_heads=2, max_position_embeddings=TOKENS, bos_token_id=WORDS - 2,
                            eos_token_id=WORDS - 1, **other)
    return generate(cls(config), text_name)


def unet(**other):
    return generate(UNet2DConditionModel(
        sample_size=SIZE, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, attention_head_dim=2,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        **other))


def vae(scaling):
    return generate(AutoencoderKL(
        block_out_channels=(6, 9, 12), layers_per_block=1, norm_num_groups=3, scaling_factor=scaling, sample_size=4 * SIZE,
        down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3))


def sd():
    tok, tok_config = tokenizer("<|endoftext|>")
    parts = {"text_encoder": encoder(CLIPTextModel, 12), "unet": unet(cross_attention_dim=12), "vae": vae(0.18215)}
    pipe = StableDiffusionPipeline(**parts, tokenizer=tok, scheduler=DDIMScheduler(**EPS), safety_checker=None,
                                   feature_extractor=None, requires_safety_checker=False)
    return pipe, parts, {"tokenizer": tok_config}


def sdxl():
    tok, tok_config = tokenizer("<|endoftext|>")
    tok2, tok2_config = tokenizer("!")
    parts = {"text_encoder": encoder(CLIPTextModel, 12),
             "text_encoder_2": encoder(CLIPTextModelWithProjection, 16, projection_dim=10, hidden_act="gelu"),
             "unet": unet(cross_attention_dim=28, addition_embed_type="text_time", addition_time_embed_dim=4,
                          projection_class_embeddings_input_dim=10 + 6 * 4),
             "vae": vae(0.13025)}
    pipe = StableDiffusionXLPipeline(**parts, tokenizer=tok, tokenizer_2=tok2, scheduler=DDIMScheduler(**EPS),
                                     add_watermarker=False)
    return pipe, parts, {"tokenizer": tok_config, "tokenizer_2": tok2_config}


def write_model(folder, pipe, parts, tokenizers, **flags):
    os.makedirs(folder, exist_ok=True)
    index = {"_class_name": type(pipe).__name__, "_diffusers_version": diffusers.__version__} | flags
    for n, m in parts.items():
        text = n.startswith("text")
        config = json.loads(m.config.to_json_string()) if text else \
            {k: v for k, v in m.config.items() if k not in ("_name_or_path", "_use_default_values")} | {"_class_name": type(m).__name__}
        if text:
            config["architectures"] = [type(m).__name__]
        write_case(f"{folder}/{n}.json", m, "model.safetensors" if text else "diffusion_pytorch_model.safetensors",
                   config, text_name if text else str)
        index[n] = ["transformers" if text else "diffusers", type(m).__name__]
    for n, config in tokenizers.items():
        index[n] = ["transformers", "CLIPTokenizer"]
        with open(f"{folder}/{n}_config.json", "w") as f:
            json.dump(config, f)
    index["scheduler"] = ["diffusers", "DDIMScheduler"]
    with open(folder + "/model_index.json", "w") as f:
        json.dump(index, f, indent=2)


# What a user asks of calotype, and what the same is called in diffusers.
RUNS = [
    {"sampler": "ddim", "steps": 4, "cfg_scale": 7.0, "seed": 3,
     "prompt": "a red balloon over a green hill", "emphasis": "none", "negative_prompt": "blue"},
    {"sampler": "ddim", "steps": 4, "cfg_scale": 3.5, "cfg_rescale": 0.7, "seed": 4, "prompt": "Ein Mond, über dem Meer!", "emphasis": "none",
     "schedule": "v"},
    {"sampler": "euler", "steps": 5, "cfg_scale": 5.0, "seed": 5, "prompt": "two hearts", "scheduler": "karras"},
    {"sampler": "euler_a", "steps": 4, "cfg_scale": 1.0, "seed": 6, "prompt": "a house", "count": 2},
    {"sampler": "dpmpp_2m", "steps": 6, "cfg_scale": 2.0, "seed": 7, "prompt": "a star " * 20, "emphasis": "none", "width": 40, "height": 24},
]
CLASSES = {"ddim": DDIMScheduler, "euler": EulerDiscreteScheduler, "euler_a": EulerAncestralDiscreteScheduler,
           "dpmpp_2m": DPMSolverMultistepScheduler}


def scheduler_of(run):
    config = V if run.get("schedule") == "v" else EPS
    cls = CLASSES[run["sampler"]]
    if run["sampler"] != "ddim":
        config = {k: v for k, v in config.items() if k not in ("clip_sample", "set_alpha_to_one")}
        config["timestep_spacing"] = "linspace"
    if run.get("scheduler") == "karras":
        config["use_karras_sigmas"] = True
    return cls(**config)


def draw(pipe, run):
    pipe.scheduler = scheduler_of(run)
    count = run.get("count", 1)
    generators = [torch.Generator().manual_seed(run["seed"] + i) for i in range(count)]
    kept = []

    def keep(_pipe, _step, _t, tensors):
        kept.append(tensors["latents"].clone())
        return tensors

    out = pipe(run["prompt"], negative_prompt=run.get("negative_prompt"), num_inference_steps=run["steps"],
               guidance_scale=run["cfg_scale"], guidance_rescale=run.get("cfg_rescale", 0.0), generator=generators,
               num_images_per_prompt=count, width=run.get("width", 4 * SIZE), height=run.get("height", 4 * SIZE),
               callback_on_step_end=keep, output_type="np")
    return kept[-1].numpy(), np.ascontiguousarray(np.round(out.images * 255).astype(np.uint8))


def main():
    for name, make in (("sd", sd), ("sdxl", sdxl)):
        pipe, parts, tokenizers = make()
        pipe.set_progress_bar_config(disable=True)
        folder = "tests/golden/pipeline/" + name
        write_model(folder, pipe, parts, tokenizers)
        for schedule, config in (("eps", EPS), ("v", V)):
            with open(f"{folder}/scheduler_{schedule}.json", "w") as f:
                json.dump({"_class_name": "DDIMScheduler"} | config, f)
        data = {}
        for i, run in enumerate(RUNS):
            data[f"{i}.latents"], data[f"{i}.image"] = draw(pipe, run)
            print(name, run["sampler"], np.linalg.norm(data[f"{i}.latents"]), data[f"{i}.image"].std())
        save_file(data, folder + "/runs.safetensors")
        with open(folder + "/runs.json", "w") as f:
            f.write("{\"runs\": [\n" + ",\n".join(json.dumps(r, ensure_ascii=False) for r in RUNS) + "\n]}\n")


if __name__ == "__main__":
    main()
