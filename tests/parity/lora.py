"""Golden output and gradients of LoRA on every linear layer of a UNet, from peft, in float64.

python tests/parity/lora.py     from the repository's root
"""
import torch
from peft import LoraConfig

from golden import Case
from networks import SD15, predict, unet_model

RANK, ALPHA = 4, 8

model = unet_model(**SD15)
linear = [n for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)]
model.add_adapter(LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=linear, init_lora_weights=False))
case = Case("lora_sd15", model, {"_class_name": "UNet2DConditionModel", "_diffusers_version": "0.6.0"} | SD15,
            "diffusion_pytorch_model.safetensors", folder="lora",
            name_of=lambda n: n.replace(".base_layer.", ".").replace(".default.", "."),
            added=lambda n: ".lora_" in n)
case.head["lora"] = {"rank": RANK, "alpha": ALPHA}
case.run("unet", predict,
         dict(sample=(1, 4, 10, 14), timestep=[701], encoder_hidden_states=(1, 7, SD15["cross_attention_dim"])))
case.write()
