"""AdamW with clipping, warm-up and cosine as torch computes it: tests/golden/adamw.safetensors."""
import math

import torch
from safetensors.torch import save_file

STEPS, WARMUP, LR, LR_END = 12, 3, 0.05, 0.001
generator = torch.Generator().manual_seed(7)
a = torch.randn(3, 5, generator=generator)
b = torch.randn(37, generator=generator)
gradients_a = torch.randn(STEPS, 3, 5, generator=generator)
gradients_b = 0.1 * torch.randn(STEPS, 37, generator=generator)
start_a, start_b = a.clone(), b.clone()

params = [torch.nn.Parameter(a), torch.nn.Parameter(b)]
optimizer = torch.optim.AdamW(params, lr=LR, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.02)
warm = torch.optim.lr_scheduler.LambdaLR(
    optimizer,
    lambda i: (i + 1) / (WARMUP + 1) if i < WARMUP else
    (LR_END + (LR - LR_END) * (0.5 + 0.5 * math.cos(math.pi * (i - WARMUP) / (STEPS - WARMUP)))) / LR)
values_a, values_b, norms = [], [], []
for i in range(STEPS):
    params[0].grad, params[1].grad = gradients_a[i].clone(), gradients_b[i].clone()
    norms.append(torch.nn.utils.clip_grad_norm_(params, 3.5))
    optimizer.step()
    warm.step()
    values_a.append(params[0].detach().clone())
    values_b.append(params[1].detach().clone())

save_file({"start.a": start_a, "start.b": start_b, "gradient.a": gradients_a, "gradient.b": gradients_b,
           "value.a": torch.stack(values_a), "value.b": torch.stack(values_b), "norm": torch.stack(norms)},
          "tests/golden/adamw.safetensors")
