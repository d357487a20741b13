"""The training of bench_train in PyTorch (see peer.py): one run is one update of talbot's text encoder and UNet.

torch_train.py SAMPLES SIZE TOKENS VARIANT BF16|F32 THREADS

v-prediction's mean squared error, AdamW, clipping by the norm of all gradients, a moving average of the values;
BF16 is autocast. Latents and captions are always the same ones and in memory, noise and times are drawn anew.
"""
import json

import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

import peer

samples, size, tokens = map(int, peer.arguments)
unet_config, text_config = (json.load(open(f"assets/talbot/{n}/config.json")) for n in ("unet", "text_encoder"))
unet = UNet2DConditionModel(**{k: v for k, v in unet_config.items() if k[0] != "_"}).train()
text = CLIPTextModel(CLIPTextConfig(**text_config)).train()

parameters = [*unet.parameters(), *text.parameters()]
optimizer = torch.optim.AdamW(parameters, lr=1e-3, betas=(0.9, 0.99), weight_decay=1e-2, fused=True)
average = [p.detach().clone() for p in parameters]

clean = torch.randn(samples, unet.config.in_channels, size, size)
ids = torch.randint(0, text.config.vocab_size - 1, (samples, tokens))
ids[:, -1] = text.config.eos_token_id
if peer.channels_last:
    unet = unet.to(memory_format=torch.channels_last)
    clean = clean.contiguous(memory_format=torch.channels_last)


def loss(noise, u):
    # The schedule's values do not matter here, only that they differ from sample to sample.
    alpha, sigma = torch.cos(u * torch.pi / 2), torch.sin(u * torch.pi / 2)
    with torch.autocast("cpu", torch.bfloat16, enabled=peer.dtype == torch.bfloat16):
        context = text(input_ids=ids).last_hidden_state
        v = unet(alpha * clean + sigma * noise, 1000 * u.flatten(), context, return_dict=False)[0]
    return F.mse_loss(v.float(), alpha * noise - sigma * clean)


if peer.compiled:
    loss = torch.compile(loss)


def update():
    loss(torch.randn_like(clean), torch.rand(samples, 1, 1, 1)).backward()
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    with torch.no_grad():
        torch._foreach_lerp_(average, parameters, 1e-3)


peer.serve(update)
