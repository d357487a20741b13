"""One picture with diffusers, for programs.py: FOLDER PROMPT SIZE STEPS bf16|f32 THREADS OUT.

Weights go straight into the type that computes; the layout is the one PyTorch's convolutions are fastest in. Compiling
would take longer than the picture.
"""
import sys

import torch
from diffusers import EulerDiscreteScheduler, StableDiffusionPipeline

folder, prompt, size, steps, precision, threads, out = sys.argv[1:]
torch.set_num_threads(int(threads))
dtype = {"bf16": torch.bfloat16, "f32": torch.float32}[precision]
pipe = StableDiffusionPipeline.from_pretrained(folder, torch_dtype=dtype, safety_checker=None, local_files_only=True)
pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config)
pipe.unet.to(memory_format=torch.channels_last)
pipe.vae.to(memory_format=torch.channels_last)
pipe(prompt, width=int(size), height=int(size), num_inference_steps=int(steps), guidance_scale=7.0,
     generator=torch.Generator().manual_seed(1)).images[0].save(out)
