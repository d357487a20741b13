"""Upscalers with small random weights in every layout of files, and what PyTorch makes of a small picture.

The networks are written here from their papers (ESRGAN, arXiv 1809.00219; Real-ESRGAN, arXiv 2107.10833), in float64.
Writes tests/golden/upscale: NAME.safetensors or NAME.pth with f16 weights, and goldens.safetensors with the picture
(u8, HWC) and each result (f32, HWC).
"""
import os

import torch
import torch.nn.functional as F
from golden import fill, scale_and_offset
from safetensors.torch import save_file

OUT = os.path.join("tests", "golden", "upscale")
H, W = 9, 7


def made(name, shape):
    """Weights from names as in golden.py, rounded to what the file stores."""
    t = torch.empty(shape, dtype=torch.float64)
    scale, offset = scale_and_offset(name, shape)
    fill(t, name, scale, offset)
    return t.to(torch.float16)


class Weights(dict):
    def conv(self, name, out, of):
        self[name + ".weight"] = made(name + ".weight", (out, of, 3, 3))
        self[name + ".bias"] = made(name + ".bias", (out,))


def conv(w, name, x):
    return F.conv2d(x, w[name + ".weight"].double(), w[name + ".bias"].double(), padding=1)


def rrdb_weights(features, growth, blocks, doublings, unshuffle):
    w = Weights()
    w.conv("conv_first", features, 3 * unshuffle**2)
    for i in range(blocks):
        for j in 1, 2, 3:
            for k in range(1, 6):
                w.conv(f"body.{i}.rdb{j}.conv{k}", features if k == 5 else growth, features + (k - 1) * growth)
    for name in ["conv_body"] + [f"conv_up{k}" for k in range(1, doublings + 1)] + ["conv_hr"]:
        w.conv(name, features, features)
    w.conv("conv_last", 3, features)
    return w


def rrdb(w, x, blocks, doublings, unshuffle):
    def act(v):
        return F.leaky_relu(v, 0.2)

    def dense(x, at):
        seen = [x]
        for k in 1, 2, 3, 4:
            seen.append(act(conv(w, f"{at}.conv{k}", torch.cat(seen, 1))))
        return x + 0.2 * conv(w, f"{at}.conv5", torch.cat(seen, 1))

    first = conv(w, "conv_first", F.pixel_unshuffle(x, unshuffle))
    y = first
    for i in range(blocks):
        z = y
        for j in 1, 2, 3:
            z = dense(z, f"body.{i}.rdb{j}")
        y = y + 0.2 * z
    y = first + conv(w, "conv_body", y)
    for k in range(1, doublings + 1):
        y = act(conv(w, f"conv_up{k}", F.interpolate(y, scale_factor=2, mode="nearest")))
    return conv(w, "conv_last", act(conv(w, "conv_hr", y)))


def compact_weights(features, convs, scale):
    w = Weights()
    w.conv("body.0", features, 3)
    for k in range(convs + 1):
        w[f"body.{2 * k + 1}.weight"] = made(f"slopes.{k}", (features,)) + 0.25
        last = k == convs
        w.conv(f"body.{2 * k + 2}", 3 * scale**2 if last else features, features)
    return w


def compact(w, x, convs, scale):
    y = conv(w, "body.0", x)
    for k in range(convs + 1):
        y = conv(w, f"body.{2 * k + 2}", F.prelu(y, w[f"body.{2 * k + 1}.weight"].double()))
    return F.pixel_shuffle(y, scale) + F.interpolate(x, scale_factor=scale, mode="nearest")


def old_name(name, blocks, doublings):
    """ESRGAN's first layout: one Sequential, in which upsampling and activations count."""
    part, kind = name.rsplit(".", 1)
    if part.startswith("body."):
        _, i, rdb, c = part.split(".")
        return f"model.1.sub.{i}.{rdb.upper()}.{c}.0.{kind}"
    at = {"conv_first": "0", "conv_body": f"1.sub.{blocks}", "conv_hr": str(3 * doublings + 2),
          "conv_last": str(3 * doublings + 4)}
    at.update({f"conv_up{k}": str(3 * k) for k in range(1, doublings + 1)})
    return f"model.{at[part]}.{kind}"


def trunk_name(name):
    """ESRGAN's second layout."""
    for ours, theirs in ("conv_body", "trunk_conv"), ("body.", "RRDB_trunk."), (".rdb", ".RDB"), \
            ("conv_up", "upconv"), ("conv_hr", "HRconv"):
        name = name.replace(ours, theirs)
    return name


def main():
    os.makedirs(OUT, exist_ok=True)
    torch.manual_seed(6)
    picture = torch.randint(0, 256, (H, W, 3), dtype=torch.uint8)
    x = picture.permute(2, 0, 1)[None].double() / 255
    goldens = {"picture": picture}

    def keep(name, y):
        goldens[name] = y[0].permute(1, 2, 0).float().contiguous()

    def save(name, w):
        save_file({k: v.contiguous() for k, v in w.items()}, os.path.join(OUT, name + ".safetensors"))

    w = rrdb_weights(8, 4, 1, 2, 1)
    keep("x4", rrdb(w, x, 1, 2, 1))
    save("x4", w)
    save("x4_old", {old_name(k, 1, 2): v for k, v in w.items()})
    save("x4_trunk", {trunk_name(k): v for k, v in w.items()})
    small = rrdb_weights(4, 2, 2, 1, 1)
    keep("x2_old", rrdb(small, x, 2, 1, 1))
    torch.save({old_name(k, 2, 1): v for k, v in small.items()}, os.path.join(OUT, "x2_old.pth"))
    other = {k: v * 0 for k, v in small.items()}
    torch.save({"params": other, "params_ema": dict(small)}, os.path.join(OUT, "x2.pth"))
    # Pictures whose sides are no multiple of the unshuffling go on with their last pixels.
    for name, unshuffle in ("x2_shuffled", 2), ("x1_shuffled", 4):
        w = rrdb_weights(4, 2, 1, 2, unshuffle)
        padded = F.pad(x, (0, -W % unshuffle, 0, -H % unshuffle), mode="replicate")
        scale = 4 // unshuffle
        keep(name, rrdb(w, padded, 1, 2, unshuffle)[:, :, :H * scale, :W * scale])
        save(name, w)
    w = compact_weights(8, 2, 4)
    keep("compact", compact(w, x, 2, 4))
    save("compact", w)
    save_file(goldens, os.path.join(OUT, "goldens.safetensors"))


if __name__ == "__main__":
    main()
