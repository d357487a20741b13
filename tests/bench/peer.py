"""The network of bench_models in PyTorch: one evaluation for each line on stdin, answered by its seconds and
the peak memory in GB.

peer.py unet|vae_decoder|text_encoder CASE.json BF16|F32 eager|channels_last|compile THREADS
"""
import json
import sys
import time

import torch

network, case, precision, variant, threads = sys.argv[1:]
torch.set_num_threads(int(threads))
torch.set_grad_enabled(False)
dtype = {"BF16": torch.bfloat16, "F32": torch.float32}[precision.upper()]
config = json.load(open(case))["config"]


def made(cls, *args, **options):
    """Without the minute that random initialisation takes: uniform weights of variance 1 / fan-in."""
    with torch.device("meta"):
        model = cls(*args, **options)
    model = model.to(dtype).to_empty(device="cpu").eval()
    for p in model.parameters():
        bound = (3 / p[0].numel()) ** 0.5 if p.ndim > 1 else 0.1
        p.uniform_(-bound, bound)
    return model


if network == "unet":
    from diffusers import UNet2DConditionModel

    model = made(UNet2DConditionModel, **{k: v for k, v in config.items() if k[0] != "_"})
    inputs = [torch.rand(2, 4, 64, 64), torch.tensor([500.0, 500.0]), torch.rand(2, 77, 768)]
    run = lambda: model(*inputs, return_dict=False)
elif network == "vae_decoder":
    from diffusers import AutoencoderKL

    model = made(AutoencoderKL, **{k: v for k, v in config.items() if k[0] != "_"})
    model.encoder = None
    inputs = [torch.rand(1, 4, 64, 64)]
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
inputs = [x.to(dtype) for x in inputs]

if variant == "channels_last" and network != "text_encoder":
    model = model.to(memory_format=torch.channels_last)
    inputs[0] = inputs[0].contiguous(memory_format=torch.channels_last)
if variant == "compile":
    import torch._inductor.config

    torch._inductor.config.freezing = True
    if network == "vae_decoder":
        model.decoder = torch.compile(model.decoder)
    else:
        model = torch.compile(model)

run()
for _ in sys.stdin:
    start = time.perf_counter()
    run()
    seconds = time.perf_counter() - start
    peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
    print(seconds, peak * 1024e-9, flush=True)
