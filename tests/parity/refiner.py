"""Pictures that a refiner finishes, by diffusers' pipelines.

python tests/parity/refiner.py     from the repository's root, after pipeline.py

Writes the model "refiner" (one text encoder, with a projection; five numbers beside the pooled text) with pictures.json and
.safetensors of what it draws alone, and refiner.json and .safetensors beside pipeline.py's runs of the model "sdxl". There
diffusers' pipeline of that model runs its own loop, so that the scheduler's history goes on, and behind step k a callback puts
the refiner's UNet and the refiner's texts and numbers, which diffusers' pipeline of the refiner has made, in place of the
others. Where the scheduler has no history the two pipelines are also run one after the other with `denoising_end` and
`denoising_start`, which must give the same.
"""
import json

import numpy as np
import torch
from diffusers import StableDiffusionXLImg2ImgPipeline
from PIL import Image
from safetensors.numpy import save_file
from transformers import CLIPTextModelWithProjection

from pictures import picture
from pipeline import EPS, SIZE, encoder, scheduler_of, sdxl, tokenizer, unet, vae, write_model

FLAGS = {"requires_aesthetics_score": True, "force_zeros_for_empty_prompt": False}
SCORES = {"aesthetic_score": 6.0, "negative_aesthetic_score": 2.5}
ALONE = [
    {"sampler": "ddim", "steps": 4, "cfg_scale": 3.0, "strength": 0.5},
    {"sampler": "euler", "steps": 5, "cfg_scale": 2.0, "strength": 0.6, "width": 40, "height": 24},
    {"sampler": "dpmpp_2m", "steps": 6, "cfg_scale": 1.0, "strength": 0.5},
]
RUNS = [
    {"sampler": "ddim", "steps": 5, "cfg_scale": 3.0, "refiner_switch_at": 0.6},
    {"sampler": "dpmpp_2m", "steps": 5, "cfg_scale": 4.0, "refiner_switch_at": 0.6},
    {"sampler": "euler_a", "steps": 4, "cfg_scale": 1.0, "refiner_switch_at": 0.75, "count": 2},
    {"sampler": "euler", "steps": 5, "cfg_scale": 2.0, "refiner_switch_at": 0.8, "scheduler": "karras", "width": 40, "height": 24},
    {"sampler": "dpmpp_2m", "steps": 6, "cfg_scale": 2.0, "refiner_switch_at": 0.5, "strength": 0.7},
    {"sampler": "ddim", "steps": 4, "cfg_scale": 3.0, "refiner_switch_at": 0.5, "refiner": "v"},
]
WORDS = {"prompt": "a red boat", "negative_prompt": "fog", "emphasis": "none"}


def refiner():
    tok, tok_config = tokenizer("!")
    parts = {"text_encoder_2": encoder(CLIPTextModelWithProjection, 16, projection_dim=10, hidden_act="gelu"),
             "unet": unet(cross_attention_dim=16, addition_embed_type="text_time", addition_time_embed_dim=4,
                          projection_class_embeddings_input_dim=10 + 5 * 4),
             "vae": vae(0.13025)}
    pipe = StableDiffusionXLImg2ImgPipeline(
        **parts, text_encoder=None, tokenizer=None, tokenizer_2=tok, scheduler=scheduler_of({"sampler": "ddim"}),
        **FLAGS, add_watermarker=False)
    return pipe, parts, {"tokenizer_2": tok_config}


def size_of(run):
    return run.get("width", 4 * SIZE), run.get("height", 4 * SIZE)


def request(run):
    """What both pipelines are asked for."""
    w, h = size_of(run)
    begins = {"image": Image.fromarray(picture(w, h)), "strength": run["strength"]} if "strength" in run else \
        {"width": w, "height": h}
    return {"prompt": run["prompt"], "negative_prompt": run["negative_prompt"], "guidance_scale": run["cfg_scale"],
            "num_images_per_prompt": run.get("count", 1), "num_inference_steps": run["steps"], "output_type": "np",
            "generator": [torch.Generator().manual_seed(run["seed"] + i) for i in range(run.get("count", 1))]} | begins


def refiner_reads(pipe, run):
    """Text, pooled text and numbers of the refiner, negative and positive as diffusers stacks them."""
    guided, n, (w, h) = run["cfg_scale"] != 1, run.get("count", 1), size_of(run)
    text, none, pooled, no_pooled = pipe.encode_prompt(
        run["prompt"], num_images_per_prompt=n, do_classifier_free_guidance=guided, negative_prompt=run["negative_prompt"])
    positive, negative = (x.repeat(n, 1) for x in pipe._get_add_time_ids(
        (h, w), (0, 0), (h, w), *SCORES.values(), (h, w), (0, 0), (h, w), dtype=text.dtype,
        text_encoder_projection_dim=pipe.text_encoder_2.config.projection_dim))
    if not guided:
        return {"prompt_embeds": text, "add_text_embeds": pooled, "add_time_ids": positive}
    return {"prompt_embeds": torch.cat([none, text]), "add_text_embeds": torch.cat([no_pooled, pooled]),
            "add_time_ids": torch.cat([negative, positive])}


class Expert(torch.nn.Module):
    """The refiner's UNet; where it predicts v, what the scheduler wants instead is made of that."""

    def __init__(self, unet, schedule, v):
        super().__init__()
        self.unet, self.config, self.schedule, self.v = unet, unet.config, schedule, v

    def forward(self, x, t, *args, **kwargs):
        out = self.unet(x, t, *args, **kwargs)
        if not self.v:
            return out
        a = self.schedule.alphas_cumprod[t.long()].to(x.dtype)
        return (a.sqrt() * out[0] + (1 - a).sqrt() * x,)


def keeper(kept):
    def keep(_pipe, _step, _t, tensors):
        kept.append(tensors["latents"].clone())
        return tensors
    return keep


def bytes_of(out):
    return np.ascontiguousarray(np.round(out.images * 255).astype(np.uint8))


def draw_alone(pipe, run):
    pipe.scheduler, kept = scheduler_of(run), []
    out = pipe(**request(run), **SCORES, callback_on_step_end=keeper(kept))
    return np.ascontiguousarray(kept[-1].numpy()), bytes_of(out)


def draw(pipe, second, run):
    pipe.scheduler, own, kept = scheduler_of(run), pipe.unet, []
    taken = int(run["steps"] * run.get("strength", 1))
    first = next(k for k in range(taken + 1) if k >= run["refiner_switch_at"] * taken - 1e-9)
    reads = refiner_reads(second, run)

    def switch(pipe, step, _t, tensors):
        kept.append(tensors["latents"].clone())
        if step == first - 1:
            pipe.unet = Expert(second.unet, pipe.scheduler, run.get("refiner") == "v")
            return {"latents": tensors["latents"]} | reads
        return {"latents": tensors["latents"]}

    assert 0 < first < taken
    out = pipe(**request(run), callback_on_step_end=switch)
    assert len(kept) == taken
    pipe.unet = own
    return np.ascontiguousarray(kept[-1].numpy()), bytes_of(out)


def draw_one_after_the_other(pipe, second, run):
    """With DDIM a step's timestep says how much of the way is done, so the share is a little less than the steps'."""
    pipe.scheduler, second.scheduler, kept = scheduler_of(run), scheduler_of(run), []
    pipe.scheduler.set_timesteps(run["steps"])
    k = int(np.ceil(run["refiner_switch_at"] * run["steps"]))
    share = 1 - (pipe.scheduler.timesteps[k].item() + 1) / 1000
    half = pipe(**request(run) | {"output_type": "latent"}, denoising_end=share).images
    rest = {k: v for k, v in request(run).items() if k not in ("width", "height")}
    second(**rest | {"image": half}, **SCORES, denoising_start=share, callback_on_step_end=keeper(kept))
    assert len(kept) == run["steps"] - k, (len(kept), k)
    return kept[-1].numpy()


def write_runs(name, runs, drawn):
    save_file({f"{i}.{what}": d for i, two in enumerate(drawn) for what, d in zip(("latents", "image"), two)},
              f"tests/golden/pipeline/{name}.safetensors")
    with open(f"tests/golden/pipeline/{name}.json", "w") as f:
        f.write("{\"runs\": [\n" + ",\n".join(json.dumps(r) for r in runs) + "\n]}\n")


def main():
    second, parts, tokenizers = refiner()
    write_model("tests/golden/pipeline/refiner", second, parts, tokenizers, **FLAGS)
    for schedule, config in (("eps", EPS), ("v", EPS | {"prediction_type": "v_prediction"})):
        with open(f"tests/golden/pipeline/refiner/scheduler_{schedule}.json", "w") as f:
            json.dump({"_class_name": "DDIMScheduler"} | config, f)
    runs = [WORDS | {"seed": 80 + i} | r for i, r in enumerate(ALONE)]
    write_runs("refiner/pictures", runs, [draw_alone(second, r) for r in runs])

    pipe, _, _ = sdxl()
    begin = StableDiffusionXLImg2ImgPipeline(**pipe.components, add_watermarker=False)
    for p in (pipe, begin, second):
        p.set_progress_bar_config(disable=True)
    runs = [WORDS | {"seed": 90 + i} | r for i, r in enumerate(RUNS)]
    drawn = [draw(begin if "strength" in r else pipe, second, r) for r in runs]
    other = draw_one_after_the_other(pipe, second, runs[0])
    print("one after the other", np.linalg.norm(other - drawn[0][0]) / np.linalg.norm(other))
    assert np.linalg.norm(other - drawn[0][0]) < 1e-5 * np.linalg.norm(other)
    write_runs("sdxl/refiner", runs, drawn)


if __name__ == "__main__":
    with torch.no_grad():
        main()
