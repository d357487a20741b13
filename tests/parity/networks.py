"""Golden outputs and gradients of the networks, from diffusers and transformers, in float64.

python tests/parity/networks.py [NAME...]     from the repository's root; without names all of them
"""
import json
import logging
import sys

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from golden import Case, write_shapes

logging.disable(logging.WARNING)
torch.manual_seed(0)


# ------------------------------------------------------------------------------------------------ text encoders

def encode_text(model, input_ids):
    o = model(input_ids=input_ids, output_hidden_states=True)
    out = {"last_hidden_state": o.last_hidden_state, "penultimate": o.hidden_states[-2]}
    out |= {"text_embeds": o.text_embeds} if "text_embeds" in o else {"pooler_output": o.pooler_output}
    return out


def text(name, ids, cls=CLIPTextModel, prefix="text_model.", samples=16, **config):
    config = CLIPTextConfig(**config)
    model = cls(config)
    model.set_attn_implementation("sdpa")  # the other one takes softmax in float32
    stored = json.loads(config.to_json_string()) | {"architectures": [cls.__name__]}
    bare = ("text_model.", "text_projection.")
    case = Case(name, model, stored, "model.safetensors", samples,
                name_of=lambda n: n if n.startswith(bare) else prefix + n)
    case.run("text_encoder_2" if cls is CLIPTextModelWithProjection else "text_encoder", encode_text,
             {"input_ids": ids})
    case.write()


def text_sd1():  # eos_token_id 2 means: pool at the highest id
    text("text_sd1", [[61, 5, 33, 9, 62, 62, 62], [61, 40, 8, 8, 17, 51, 62]], vocab_size=63, hidden_size=30,
         intermediate_size=44, num_hidden_layers=3, num_attention_heads=2, max_position_embeddings=11,
         hidden_act="quick_gelu", bos_token_id=0, eos_token_id=2, projection_dim=30)


def text_eos():  # an explicit eos_token_id that is not the highest id; tensor names as transformers 5 saves them
    text("text_eos", [[60, 5, 62, 9, 58, 3, 58], [60, 58, 8, 58, 17, 51, 61]], prefix="", vocab_size=63,
         hidden_size=20, intermediate_size=30, num_hidden_layers=2, num_attention_heads=4,
         max_position_embeddings=7, hidden_act="quick_gelu", bos_token_id=60, eos_token_id=58, projection_dim=20)


def text_sd2():  # OpenCLIP's tower: exact GELU, padded with 0, SD2 reads the penultimate layer's state
    text("text_sd2", [[61, 5, 33, 9, 62, 0, 0, 0, 0]], vocab_size=63, hidden_size=36, intermediate_size=50,
         num_hidden_layers=3, num_attention_heads=4, max_position_embeddings=9, hidden_act="gelu", bos_token_id=0,
         eos_token_id=2, projection_dim=18)


def text_sdxl():  # text_encoder_2: with projection, no bias
    text("text_sdxl", [[61, 5, 33, 9, 62, 0, 0], [61, 62, 0, 0, 0, 0, 0]], cls=CLIPTextModelWithProjection,
         vocab_size=63, hidden_size=40, intermediate_size=56, num_hidden_layers=3, num_attention_heads=5,
         max_position_embeddings=7, hidden_act="gelu", bos_token_id=0, eos_token_id=2, projection_dim=28)


def text_sd15_full():
    ids = [49406, 320, 1125, 539, 320, 2368, 6765] + [49407] * 70
    text("text_sd15_full", [ids], samples=64, vocab_size=49408, hidden_size=768, intermediate_size=3072,
         num_hidden_layers=12, num_attention_heads=12, max_position_embeddings=77, hidden_act="quick_gelu",
         bos_token_id=0, eos_token_id=2, projection_dim=768)


# -------------------------------------------------------------------------------------------------- autoencoder

def encode(model, sample):
    d = model.encode(sample).latent_dist
    return {"mean": d.mean, "logvar": d.logvar}


def decode(model, latent):
    return {"sample": model.decode(latent).sample}


def vae(name, sample, latent, samples=16, **config):
    with torch.device("meta"):
        model = AutoencoderKL(in_channels=3, out_channels=3, sample_size=sample[-1], **config)
    case = Case(name, model, json.loads(model.to_json_string()), "diffusion_pytorch_model.safetensors", samples)
    case.run("vae_encoder", encode, {"sample": sample})
    case.run("vae_decoder", decode, {"latent": latent})
    case.write()


def vae_sd():
    vae("vae_sd", (1, 3, 24, 40), (1, 4, 3, 5), block_out_channels=[10, 15, 20, 20], layers_per_block=2,
        latent_channels=4, norm_num_groups=5, down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4)


def vae_talbot():
    vae("vae_talbot", (2, 3, 16, 12), (2, 4, 4, 3), block_out_channels=[6, 9, 12], layers_per_block=1,
        latent_channels=4, norm_num_groups=3, mid_block_add_attention=False,
        down_block_types=["DownEncoderBlock2D"] * 3, up_block_types=["UpDecoderBlock2D"] * 3)


def vae_noquant():  # no 1×1 convolutions around the latent
    vae("vae_noquant", (1, 3, 8, 8), (1, 3, 4, 4), block_out_channels=[6, 9], layers_per_block=1, latent_channels=3,
        norm_num_groups=3, use_quant_conv=False, use_post_quant_conv=False,
        down_block_types=["DownEncoderBlock2D"] * 2, up_block_types=["UpDecoderBlock2D"] * 2)


def vae_sd15_full():
    vae("vae_sd15_full", (1, 3, 64, 64), (1, 4, 8, 8), samples=64, block_out_channels=[128, 256, 512, 512],
        layers_per_block=2, latent_channels=4, norm_num_groups=32, down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4)


# --------------------------------------------------------------------------------------------------------- UNet

def predict(model, sample, timestep, encoder_hidden_states, text_embeds=None, time_ids=None, **other):
    if text_embeds is not None:
        other["added_cond_kwargs"] = {"text_embeds": text_embeds, "time_ids": time_ids}
    return {"sample": model(sample, timestep, encoder_hidden_states, **other).sample}


def unet_model(**config):
    with torch.device("meta"):
        return UNet2DConditionModel(**config)


def unet(name, runs, samples=16, written=None, **config):
    """written: the configuration as an old checkpoint states it, when it is to be stored instead of all fields."""
    model = unet_model(**config)
    stored = json.loads(model.to_json_string()) if written is None else written
    case = Case(name, model, stored, "diffusion_pytorch_model.safetensors", samples)
    for run in runs:
        gradients = run.pop("gradients", True)
        case.run("unet", predict, run, gradients)
    case.write()


SD15 = dict(
    sample_size=8, in_channels=4, out_channels=4, center_input_sample=False, flip_sin_to_cos=True, freq_shift=0,
    down_block_types=["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
    up_block_types=["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3, block_out_channels=[40, 80, 120, 120],
    layers_per_block=2, downsample_padding=1, mid_block_scale_factor=1, act_fn="silu", norm_num_groups=5,
    norm_eps=1e-5, cross_attention_dim=22, attention_head_dim=8)


def unet_sd15():  # attention_head_dim is the number of heads: 8 heads of 5, 10 and 15
    unet("unet_sd15", [
        # 10×14 → 5×7 → 3×4 → 2×2, and up again to the sizes of the skips
        dict(sample=(2, 4, 10, 14), timestep=[701, 21], encoder_hidden_states=(2, 7, 22)),
        dict(sample=(1, 4, 8, 8), timestep=[401], encoder_hidden_states=(1, 7, 22), gradients=False),
    ], samples=8, written={"_class_name": "UNet2DConditionModel", "_diffusers_version": "0.6.0"} | SD15, **SD15)


def unet_sd2():  # heads per level, linear projections
    unet("unet_sd2", [dict(sample=(1, 4, 10, 14), timestep=[401], encoder_hidden_states=(1, 5, 26))], samples=8,
         sample_size=8, down_block_types=["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
         up_block_types=["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3, block_out_channels=[30, 60, 90, 90],
         layers_per_block=2, norm_num_groups=6, cross_attention_dim=26, attention_head_dim=[2, 4, 6, 6],
         use_linear_projection=True, upcast_attention=True)


def unet_sdxl():
    unet("unet_sdxl", [dict(sample=(2, 4, 6, 10), timestep=[61, 901], encoder_hidden_states=(2, 5, 28),
                            text_embeds=(2, 18), time_ids=[[64.0, 96.0, 0.0, 8.0, 64.0, 64.0],
                                                           [48.0, 32.0, 0.0, 0.0, 48.0, 80.0]])], samples=8,
         sample_size=8, down_block_types=["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
         up_block_types=["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"], block_out_channels=[30, 60, 90],
         layers_per_block=2, norm_num_groups=6, cross_attention_dim=28, attention_head_dim=[2, 4, 6],
         transformer_layers_per_block=[1, 2, 4], use_linear_projection=True, addition_embed_type="text_time",
         addition_time_embed_dim=8, projection_class_embeddings_input_dim=6 * 8 + 18)


def unet_talbot():  # the text, pooled by attention, is added to the time embedding
    unet("unet_talbot", [dict(sample=(2, 4, 8, 8), timestep=[701, 21], encoder_hidden_states=(2, 6, 24)),
                         dict(sample=(1, 4, 6, 5), timestep=[999], encoder_hidden_states=(1, 6, 24))],
         sample_size=8, down_block_types=["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
         up_block_types=["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"], block_out_channels=[16, 32, 32],
         layers_per_block=1, norm_num_groups=8, cross_attention_dim=24, attention_head_dim=4,
         resnet_time_scale_shift="scale_shift", addition_embed_type="text", addition_embed_type_num_heads=4)


# Two levels, one layer: each of these shows one option.
SMALL = dict(sample_size=8, down_block_types=["CrossAttnDownBlock2D", "DownBlock2D"],
             up_block_types=["UpBlock2D", "CrossAttnUpBlock2D"], block_out_channels=[20, 30], layers_per_block=1,
             norm_num_groups=5, cross_attention_dim=14, attention_head_dim=2)


def small(name, inputs={}, **config):
    unet(name, [dict(sample=(2, 4, 5, 6), timestep=[701, 21], encoder_hidden_states=(2, 3, 14)) | inputs],
         **(SMALL | config))


def unet_class_label():
    small("unet_class_label", dict(class_labels=[3, 0]), num_class_embeds=4)


def unet_class_timestep():
    small("unet_class_timestep", dict(class_labels=[11, 250]), class_embed_type="timestep")


def unet_class_identity():
    small("unet_class_identity", dict(class_labels=(2, 80)), class_embed_type="identity")


def unet_class_projection():
    small("unet_class_projection", dict(class_labels=(2, 12)), class_embed_type="projection",
          projection_class_embeddings_input_dim=12)


def unet_class_simple():
    small("unet_class_simple", dict(class_labels=(2, 12)), class_embed_type="simple_projection",
          projection_class_embeddings_input_dim=12)


def unet_rare():  # what no published model of these families sets, and the format allows
    small("unet_rare", center_input_sample=True, downsample_padding=0, conv_in_kernel=5, conv_out_kernel=1,
          mid_block_scale_factor=1.5, layers_per_block=[1, 2], norm_eps=1e-4, time_embedding_dim=36,
          transformer_layers_per_block=[2, 1])


def unet_time_cond():
    small("unet_time_cond", dict(timestep_cond=(2, 9)), time_cond_proj_dim=9, flip_sin_to_cos=False, freq_shift=1)


def unet_only_cross():
    small("unet_only_cross", only_cross_attention=[True, False], use_linear_projection=True)


def unet_attn():  # attention without text; here attention_head_dim is the size of a head
    small("unet_attn", down_block_types=["AttnDownBlock2D", "DownBlock2D"],
          up_block_types=["UpBlock2D", "AttnUpBlock2D"], mid_block_type="UNetMidBlock2D", attention_head_dim=5)


def unet_no_mid():
    small("unet_no_mid", mid_block_type=None, resnet_time_scale_shift="scale_shift")


def unet_sd15_full():
    full = SD15 | dict(sample_size=64, block_out_channels=[320, 640, 1280, 1280], norm_num_groups=32,
                       cross_attention_dim=768)
    unet("unet_sd15_full", [dict(sample=(1, 4, 16, 16), timestep=[401], encoder_hidden_states=(1, 77, 768))],
         samples=64, written={"_class_name": "UNet2DConditionModel", "_diffusers_version": "0.6.0"} | full, **full)


def unet_sdxl_full():
    """Only its shapes, for the bench: outputs would need 20 GB here."""
    config = dict(
        sample_size=128, in_channels=4, out_channels=4, flip_sin_to_cos=True, freq_shift=0,
        down_block_types=["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
        up_block_types=["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"], block_out_channels=[320, 640, 1280],
        layers_per_block=2, act_fn="silu", norm_num_groups=32, norm_eps=1e-5, cross_attention_dim=2048,
        transformer_layers_per_block=[1, 2, 10], attention_head_dim=[5, 10, 20], use_linear_projection=True,
        addition_embed_type="text_time", addition_time_embed_dim=256, projection_class_embeddings_input_dim=2816)
    with torch.device("meta"):
        model = UNet2DConditionModel(**config)
    write_shapes("tests/bench/unet_sdxl.json", {"_class_name": "UNet2DConditionModel"} | config, model)


CASES = [text_sd1, text_eos, text_sd2, text_sdxl, vae_sd, vae_talbot, vae_noquant, unet_sd15, unet_sd2, unet_sdxl,
         unet_talbot, unet_class_label, unet_class_timestep, unet_class_identity, unet_class_projection,
         unet_class_simple, unet_rare, unet_time_cond, unet_only_cross, unet_attn, unet_no_mid, text_sd15_full, vae_sd15_full, unet_sd15_full, unet_sdxl_full]

if __name__ == "__main__":
    for case in CASES:
        if len(sys.argv) == 1 or case.__name__ in sys.argv[1:]:
            case()
