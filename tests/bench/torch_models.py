"""The networks of bench_models in PyTorch (see peer.py).

torch_models.py unet|vae_decoder|text_encoder|upscaler CASE.json SIDE VARIANT BF16|F32 THREADS

SIDE is that of the latents; of the upscaler, which has no case ("-"), that of the picture.
"""
import json

import torch

import peer

network, case, side = peer.arguments
side = int(side)
torch.set_grad_enabled(False)
config = json.load(open(case))["config"] if case != "-" else None


def made(cls, *args, **options):
    """Without the minute that random initialisation takes: uniform weights of variance 1 / fan-in."""
    with torch.device("meta"):
        model = cls(*args, **options)
    model = model.to(peer.dtype).to_empty(device="cpu").eval()
    for p in model.parameters():
        bound = (3 / p[0].numel()) ** 0.5 if p.ndim > 1 else 0.1
        p.uniform_(-bound, bound)
    return model


class Rrdb(torch.nn.Module):
    """ESRGAN's network (arXiv 1809.00219), x4."""

    def __init__(self, features=64, growth=32, blocks=23):
        super().__init__()
        conv = lambda of, to: torch.nn.Conv2d(of, to, 3, padding=1)
        self.first, self.last = conv(3, features), conv(features, 3)
        self.dense = torch.nn.ModuleList(
            torch.nn.ModuleList(conv(features + k * growth, growth if k < 4 else features) for k in range(5))
            for _ in range(3 * blocks))
        self.body, self.up1, self.up2, self.hr = (conv(features, features) for _ in range(4))
        self.act = torch.nn.LeakyReLU(0.2, inplace=True)

    def grow(self, x, convs):
        seen = x
        for c in convs[:-1]:
            seen = torch.cat([seen, self.act(c(seen))], 1)
        return x + 0.2 * convs[-1](seen)

    def forward(self, x):
        x = self.first(x)
        y = x
        for i in range(0, len(self.dense), 3):
            z = y
            for convs in self.dense[i:i + 3]:
                z = self.grow(z, convs)
            y = y + 0.2 * z
        y = x + self.body(y)
        for up in self.up1, self.up2:
            y = self.act(up(torch.nn.functional.interpolate(y, scale_factor=2)))
        return self.last(self.act(self.hr(y)))


if network == "upscaler":
    model = made(Rrdb)
    inputs = [torch.rand(1, 3, side, side)]
    run = lambda: model(*inputs)
elif network == "unet":
    from diffusers import UNet2DConditionModel

    model = made(UNet2DConditionModel, **{k: v for k, v in config.items() if k[0] != "_"})
    inputs = [torch.rand(2, 4, side, side), torch.tensor([500.0, 500.0]),
              torch.rand(2, 77, config["cross_attention_dim"])]
    added = None
    if config.get("addition_embed_type"):
        pooled = config["projection_class_embeddings_input_dim"] - 6 * config["addition_time_embed_dim"]
        added = {"text_embeds": torch.rand(2, pooled, dtype=peer.dtype), "time_ids": torch.rand(2, 6, dtype=peer.dtype)}
    run = lambda: model(*inputs, added_cond_kwargs=added, return_dict=False)
elif network == "vae_decoder":
    from diffusers import AutoencoderKL

    model = made(AutoencoderKL, **{k: v for k, v in config.items() if k[0] != "_"})
    model.encoder = None
    inputs = [torch.rand(1, 4, side, side)]
    run = lambda: model.decode(inputs[0], return_dict=False)
else:
    from transformers import CLIPTextConfig, CLIPTextModel

    model = made(CLIPTextModel, CLIPTextConfig(**config))
    ids = torch.arange(2 * 77).reshape(2, 77)
    for m in model.modules():  # buffers have no values after to_empty
        if hasattr(m, "position_ids"):
            m.position_ids = torch.arange(77)[None]
    inputs = []
    run = lambda: model(input_ids=ids)
inputs = [x.to(peer.dtype) for x in inputs]

if peer.channels_last and network != "text_encoder":
    model = model.to(memory_format=torch.channels_last)
    inputs[0] = inputs[0].contiguous(memory_format=torch.channels_last)
if peer.compiled:
    import torch._inductor.config

    # Weights are packed once and their plain copies dropped: the fastest and the smallest that PyTorch has.
    torch._inductor.config.freezing = True
    torch._inductor.config.freezing_discard_parameters = True
    if network == "vae_decoder":
        model.decoder = torch.compile(model.decoder)
    else:
        model = torch.compile(model)

peer.serve(run)
