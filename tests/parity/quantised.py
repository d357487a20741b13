"""Golden files for tests/test_quantised.c: weights as codes of 8 and 4 bits, and what the codes stand for, in numpy.

python tests/parity/quantised.py        from the repository's root; writes tests/golden/quantised/
core/files/quantised.h and quantise.h say what the formats are.
"""
import pathlib

import numpy as np
from safetensors.numpy import save_file

OUT = pathlib.Path("tests/golden/quantised")
OUT.mkdir(parents=True, exist_ok=True)
STEPS, GROUP = 1 << 16, 32
rng = np.random.default_rng(11)


def groups(rows, length):
    """Views of [O, row] in groups of `length` values, the last maybe shorter."""
    return [rows[:, i:i + length] for i in range(0, rows.shape[1], length)]


def spread(scale, row, length):
    """[O, G] → [O, row]"""
    return np.repeat(scale, length, axis=1)[:, :row]


def percentile_bins(u, bits):
    """The bin of each value and the mean of each bin, by percentiles on a grid of 2^-15."""
    n = 1 << bits
    step = np.clip(np.floor((u + 1) * (STEPS // 2)), 0, STEPS - 1).astype(np.int64)
    count = np.bincount(step.ravel(), minlength=STEPS)
    total = np.bincount(step.ravel(), weights=u.ravel(), minlength=STEPS)
    last = np.searchsorted(np.cumsum(count) * n, (np.arange(n) + 1) * u.size)
    last[-1] = STEPS - 1
    bin_of = np.searchsorted(last, np.arange(STEPS))
    counts = np.bincount(bin_of, weights=count, minlength=n)
    sums = np.bincount(bin_of, weights=total, minlength=n)
    levels = np.zeros(n, np.float32)
    for k in range(n):
        levels[k] = np.float32(sums[k] / counts[k]) if counts[k] else levels[k - 1] if k else 0
    return bin_of[step], levels, counts


def quantise(name, w, how):
    """The tensors that are stored for w, and its values again."""
    bits, balanced = int(how[1]), how.endswith("balanced")
    v = w.reshape(w.shape[0], -1).astype(np.float64)
    row = v.shape[1]
    length = GROUP if bits == 4 else row
    stored = {}
    with np.errstate(divide="ignore", invalid="ignore"):
        if how == "q4":
            low = np.stack([g.min(1) for g in groups(v, length)], 1)
            high = np.stack([g.max(1) for g in groups(v, length)], 1)
            scale, minimum = ((high - low) / 15).astype(np.float16), low.astype(np.float16)
            s, m = (spread(x.astype(np.float64), row, length) for x in (scale, minimum))
            code = np.where(s > 0, np.clip(np.rint((v - m) / s), 0, 15), 0).astype(np.uint8)
            value = (m + s * code).astype(np.float32)
            stored |= {"scale": scale, "minimum": minimum}
        else:
            most = np.stack([np.abs(g).max(1) for g in groups(v, length)], 1)
            scale = (most if balanced else most / 127).astype(np.float16 if bits == 4 else np.float32)
            s = spread(scale.astype(np.float64), row, length)
            u = np.where(s > 0, v / s, 0)
            if balanced:
                code, levels, counts = percentile_bins(u, bits)
                print(f"{how} {name}: {counts.min():.0f} to {counts.max():.0f} values in a bin")
                value = (s * levels[code].astype(np.float64)).astype(np.float32)
                stored["levels"] = levels
            else:
                code = np.clip(np.rint(u), -127, 127).astype(np.int8)
                value = (s * code).astype(np.float32)
            stored["scale"] = scale if bits == 4 else scale[:, 0]
    shape = list(w.shape)
    if bits == 4:
        code = code.astype(np.uint8).reshape(v.shape[0], -1, 2)
        code = code[..., 0] | code[..., 1] << 4
        shape[1] //= 2
    elif balanced:
        code = code.astype(np.uint8)
    size = np.sqrt(((value - v) ** 2).sum() / (v ** 2).sum())
    print(f"{how} {name}: error {size:.4f}")
    out = {name: np.ascontiguousarray(code.reshape(shape))}
    return out | {f"{name}_{k}": np.ascontiguousarray(x) for k, x in stored.items()}, value.reshape(w.shape)


linear = rng.standard_normal((16, 64)) * np.exp(rng.standard_normal((16, 1)))
linear[3] = 0  # a row, and below a group, of zeros
linear[5, 32:] = 0
linear[7, :32] = 0.25
conv = rng.standard_t(4, (18, 8, 3, 3)) * 0.05  # groups of 32, 32 and 8
tiny = rng.standard_normal((16, 64)) * 3e-8  # scales that f16 holds as multiples of 2^-24, or not at all
weights = {
    "down_blocks.0.attentions.0.proj_in.weight": linear,
    "mid_block.resnets.0.conv1.weight": conv,
    "text_model.encoder.layers.0.mlp.fc1.weight": tiny,
    "conv_in.weight": rng.standard_normal((16, 64)),
    "decoder.mid_block.resnets.0.conv1.weight": rng.standard_normal((16, 64)),
    "mid_block.resnets.0.conv1.bias": rng.standard_normal(18),
    "down_blocks.0.attentions.0.odd.weight": rng.standard_normal((16, 65)),
}
weights = {k: v.astype(np.float16 if k.startswith("conv_in") else np.float32) for k, v in weights.items()}
save_file(weights, OUT / "weights.safetensors")
for how in "q8", "q4", "q8-balanced", "q4-balanced":
    stored, values = {}, {}
    for name, w in weights.items():
        stays = name.startswith(("conv_in", "decoder")) or name.endswith("bias") or "odd" in name
        a, b = ({name: w}, w) if stays else quantise(name, w, how)
        stored |= a
        values[name] = b.astype(np.float32)
    save_file(stored, OUT / f"{how}.safetensors", {"calotype.quantised": how})
    save_file(values, OUT / f"{how}-f32.safetensors")
