"""Prompts with weights, breaks, editing and clip skip, read as A1111 and ComfyUI read them, drawn by diffusers.

python tests/parity/prompts.py     from the repository's root, after pipeline.py

Writes prompts.json and prompts.safetensors beside pipeline.py's runs of the same two models. Nothing is parsed here:
a run says by hand what its prompts mean, as pieces of text with weights, "BREAK" between rows, and from which step on.
"""
import json

import numpy as np
import torch
from safetensors.numpy import save_file

from pipeline import SIZE, TOKENS, sd, sdxl, scheduler_of

ROOM, BACKTRACK = TOKENS - 2, 20
EMPTY = [["", 1.0]]

RUNS = [
    {"prompt": "a (red:1.5) [balloon] over a green hill", "negative_prompt": "((blue))", "cfg_scale": 5.0,
     "positive": {0: [["a ", 1], ["red", 1.5], [" ", 1], ["balloon", 1 / 1.1], [" over a green hill", 1]]},
     "negative": {0: [["blue", 1.21]]}},
    {"prompt": "two (hearts:1.4), a star, a moon BREAK \\(x\\) [y]", "negative_prompt": "b", "emphasis": "no-norm",
     "positive": {0: [["two ", 1], ["hearts", 1.4], [", a star, a moon", 1], "BREAK", ["(x) ", 1], ["y", 1 / 1.1]]},
     "negative": {0: [["b", 1]]}},
    {"prompt": "a (house:0.5) and a (tree:2)", "negative_prompt": "c BREAK d BREAK e", "emphasis": "comfy",
     "positive": {0: [["a ", 1], ["house", .5], [" and a ", 1], ["tree", 2]]},
     "negative": {0: [["c", 1], "BREAK", ["d", 1], "BREAK", ["e", 1]]}},
    {"prompt": "[a cat:a (dog:1.2) BREAK a boat:2] by the sea", "negative_prompt": "[|g]", "steps": 5,
     "positive": {0: [["a cat by the sea", 1]],
                  3: [["a ", 1], ["dog", 1.2], "BREAK", ["a boat by the sea", 1]]},
     "negative": {0: EMPTY, 2: [["g", 1]], 3: EMPTY, 4: [["g", 1]]}},
    {"prompt": "a star, " * 6 + "a moon", "negative_prompt": "a BREAK b",
     "positive": {0: [["a star, " * 6 + "a moon", 1]]}, "negative": {0: [["a", 1], "BREAK", ["b", 1]]}},
    {"prompt": "a (red:1.5) boat", "negative_prompt": "", "clip_skip": 1,
     "positive": {0: [["a ", 1], ["red", 1.5], [" boat", 1]]}, "negative": {0: EMPTY}},
    {"prompt": "a red boat", "negative_prompt": "fog", "clip_skip": 2,
     "positive": {0: [["a red boat", 1]]}, "negative": {0: [["fog", 1]]}},
]


def rows_of(tokenizer, pieces):
    """Rows of (id, weight), without start, end and padding."""
    comma = tokenizer(",", add_special_tokens=False).input_ids
    rows, row = [], []
    for piece in pieces:
        if piece == "BREAK":
            rows.append(row)
            row = []
            continue
        for i in tokenizer(piece[0], add_special_tokens=False).input_ids if piece[0] else []:
            if len(row) == ROOM:
                commas = [k for k, x in enumerate(row) if [x[0]] == comma]
                near = commas and [i] != comma and len(row) - commas[-1] <= BACKTRACK
                cut = commas[-1] + 1 if near else len(row)
                rows.append(row[:cut])
                row = row[cut:]
            row.append((i, piece[1]))
    return rows + [row] if row or not rows else rows


def features(encoder, tokenizer, row, skip, two):
    ids = [tokenizer.bos_token_id, *(i for i, _ in row), tokenizer.eos_token_id]
    ids += [tokenizer.pad_token_id] * (TOKENS - len(ids))
    out = encoder(torch.tensor([ids]), output_hidden_states=True)
    pooled = out.text_embeds if hasattr(out, "text_embeds") else out.pooler_output
    if two:
        return out.hidden_states[-(skip or 2)][0], pooled
    norm = encoder.text_model.final_layer_norm if hasattr(encoder, "text_model") else encoder.final_layer_norm
    return norm(out.hidden_states[-(skip or 1)])[0], pooled


def emphasize(x, weights, empty, how):
    w = torch.tensor(weights)[:, None]
    if how == "comfy":
        return empty + (x - empty) * w
    return x * w * (x.mean() / (x * w).mean() if how == "original" else 1)


def encode(pipe, pieces, run):
    """[1, tokens, features] and the pooled text."""
    two = hasattr(pipe, "text_encoder_2")
    how, skip = run.get("emphasis", "original"), run.get("clip_skip", 0)
    columns = []
    for tokenizer, encoder in [(pipe.tokenizer, pipe.text_encoder)] + \
            ([(pipe.tokenizer_2, pipe.text_encoder_2)] if two else []):
        empty, _ = features(encoder, tokenizer, [], skip, two)
        done, first = [], None
        for row in rows_of(tokenizer, pieces):
            x, pooled = features(encoder, tokenizer, row, skip, two)
            first = pooled if first is None else first
            weights = [1.0, *(w for _, w in row)]
            weights += [1.0] * (TOKENS - len(weights))
            done.append(emphasize(x, weights, empty, how) if any(w != 1 for w in weights) else x)
        columns.append(torch.cat(done))
    return torch.cat(columns, -1)[None], first


def at_step(schedule, step):
    return schedule[max(s for s in schedule if s <= step)]


def both(pipe, run, step):
    """Negative and positive of one length, as rows of the UNet's batch."""
    out = [encode(pipe, at_step(run[k], step), run) for k in ("negative", "positive")]
    empty, _ = encode(pipe, EMPTY, run)
    n = max(c.shape[1] for c, _ in out)
    contexts = []
    for c, _ in out:
        while n % c.shape[1]:
            c = torch.cat([c, empty], 1)
        contexts.append(c.repeat(1, n // c.shape[1], 1))
    return torch.cat(contexts), torch.cat([p for _, p in out])


def draw(pipe, run):
    pipe.scheduler = scheduler_of(run)
    two = hasattr(pipe, "text_encoder_2")
    kept = []

    def follow(_pipe, step, _t, tensors):
        kept.append(tensors["latents"].clone())
        if step + 1 == run["steps"]:
            return tensors
        context, pooled = both(pipe, run, step + 1)
        tensors["prompt_embeds"] = context
        if two:
            tensors["add_text_embeds"] = pooled
        return tensors

    context, pooled = both(pipe, run, 0)
    texts = {"negative_prompt_embeds": context[:1], "prompt_embeds": context[1:]}
    if two:
        texts |= {"negative_pooled_prompt_embeds": pooled[:1], "pooled_prompt_embeds": pooled[1:]}
    names = ["latents", "prompt_embeds"] + (["add_text_embeds"] if two else [])
    out = pipe(**texts, num_inference_steps=run["steps"], guidance_scale=run["cfg_scale"],
               generator=torch.Generator().manual_seed(run["seed"]), width=4 * SIZE, height=4 * SIZE,
               callback_on_step_end=follow, callback_on_step_end_tensor_inputs=names, output_type="np")
    return kept[-1].numpy(), np.ascontiguousarray(np.round(out.images * 255).astype(np.uint8))


def main():
    runs = [{"sampler": "ddim", "steps": 3, "cfg_scale": 3.0, "seed": 20 + i} | r for i, r in enumerate(RUNS)]
    for name, make in (("sd", sd), ("sdxl", sdxl)):
        pipe = make()[0]
        pipe.set_progress_bar_config(disable=True)
        data = {}
        with torch.no_grad():
            for i, run in enumerate(runs):
                data[f"{i}.latents"], data[f"{i}.image"] = draw(pipe, run)
        folder = "tests/golden/pipeline/" + name
        save_file(data, folder + "/prompts.safetensors")
        asked = [{k: v for k, v in r.items() if k not in ("positive", "negative")} for r in runs]
        with open(folder + "/prompts.json", "w") as f:
            f.write("{\"runs\": [\n" + ",\n".join(json.dumps(r) for r in asked) + "\n]}\n")


if __name__ == "__main__":
    main()
