"""Golden files for tests/test_ckpt.c: what torch.save writes, and the same tensors as safetensors.

python tests/parity/ckpt.py        from the repository's root; writes tests/golden/ckpt/
"""
import collections
import pathlib

import numpy
import torch
from safetensors.torch import save_file

OUT = pathlib.Path("tests/golden/ckpt")
OUT.mkdir(parents=True, exist_ok=True)
torch.manual_seed(7)


def flatten(tree, prefix=""):
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{key}.")
        elif isinstance(value, torch.Tensor):
            yield f"{prefix}{key}", value.detach().clone(memory_format=torch.contiguous_format)


def golden(name, tree, **how):
    """NAME.ckpt, and what is expected of it in NAME.safetensors."""
    torch.save(tree, OUT / f"{name}.ckpt", **how)
    weights = tree
    while inside := [weights[k] for k in ("state_dict", "module", "model") if isinstance(weights.get(k), dict)]:
        weights = inside[0]
    save_file(dict(flatten(weights)), OUT / f"{name}.safetensors", metadata={"format": "pt"})


def every_type():
    small = torch.tensor([[0., 1, 2], [3, 4, 5]])
    floats = dict(f64=torch.float64, f32=torch.float32, bf16=torch.bfloat16, f16=torch.float16,
                  e4m3=torch.float8_e4m3fn, e5m2=torch.float8_e5m2)
    whole = dict(i64=torch.int64, i32=torch.int32, i16=torch.int16, i8=torch.int8, u8=torch.uint8, bool=torch.bool,
                 u16=torch.uint16, u32=torch.uint32, u64=torch.uint64)
    t = {name: small.to(d) for name, d in (floats | whole).items()}
    t |= {f"random.{name}": torch.randn(3, 5).to(d) for name, d in floats.items()}
    return t | {"scalar": torch.tensor(-1.5), "empty": torch.zeros(3, 0, 2), "é 中": torch.tensor([0.1, -0.0, float("inf")])}


def views():
    """Shared storages, and elements that do not lie one after another."""
    x = torch.randn(4, 6)
    c = torch.randn(3, 4, 2, 5)
    return {"whole": x, "row": x[2], "rows": x[1:3], "column": x[:, 3], "transposed": x.t(), "steps": x[::2, 1::2],
            "same": x, "one": x[3:, 5:], "channels_last": c.to(memory_format=torch.channels_last),
            "permuted": c.permute(3, 1, 0, 2), "middle": c[:, 1:3].half().transpose(1, 3)}


model = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.GroupNorm(1, 3), torch.nn.Linear(3, 2))
optimiser = torch.optim.AdamW(model.parameters())
model(torch.ones(1, 2, 3, 5)).sum().backward()
optimiser.step()

golden("types", every_type())
golden("views", views())
golden("module", collections.OrderedDict(model.state_dict()))
golden("protocol4", model.state_dict(), pickle_protocol=4)
golden("parameters", {"a": torch.nn.Parameter(torch.ones(2)), "b": {"c": {"d": torch.arange(3), "e": torch.ones(1)}, 7: torch.zeros(2)},
                      "list": [torch.ones(1)], "text": "x", "none": None, "size": torch.Size([2, 3])})
golden("trainer", {"epoch": 3, "seed": 2**80, "lr": 1e-4, "device": torch.device("cpu"), "history": [1, (2, 3), {4}],
                   "state_dict": {"a.b": torch.ones(2, 2), "c": torch.arange(3)}, "optimizer_states": [optimiser.state_dict()]})
golden("nested", {"module": {"state_dict": {"state_dict": {"a": torch.ones(2), "b": {"model": torch.zeros(1)}}}, "epoch": 2},
                  "loss": numpy.float64(0.5), "history": numpy.arange(3.0), "type": torch.bfloat16})
if not (OUT / "old_format.pt").exists():  # which names storages by their addresses: every run writes another
    torch.save({"a": torch.ones(2)}, OUT / "old_format.pt", _use_new_zipfile_serialization=False)

# Every byte as each of the two 8-bit floats, and what torch makes of it.
every = torch.arange(256, dtype=torch.uint8)
eights = {"e4m3": every.clone().view(torch.float8_e4m3fn), "e5m2": every.clone().view(torch.float8_e5m2)}
save_file(eights | {f"{k}.{n}": v.to(d) for k, v in eights.items() for n, d in [("f32", torch.float32), ("bf16", torch.bfloat16)]},
          OUT / "eights.safetensors")

# Two models that change with their types, what torch rounds them to, and merges of three.
a, b, c = ({"w": torch.randn(40, 7) * s, "h": (torch.randn(9) * s).half(), "n": torch.arange(4)} for s in (1, 2, 3))
a["w"][0, :4] = torch.tensor([65519.0, 65520.0, -1e30, 1 + 2**-11 + 2**-20])
a["d"] = torch.tensor([1 + 2**-11 + 2**-40, 1 + 2**-8 + 2**-40, -1e-8, 3.5], dtype=torch.float64)
a["only"] = torch.ones(3)
for name, m in zip("abc", (a, b, c)):
    torch.save(m, OUT / f"model_{name}.ckpt")


def rounded(m, dtype):
    """Through float64 where it matters: torch rounds float64 twice on its way to bfloat16."""
    near = dict(m)
    for k, v in m.items():
        if v.dtype.is_floating_point:
            near[k] = v.to(dtype)
    return near


def merged(w, minus):
    t = {k: v.clone() for k, v in a.items()}
    for k in ("w", "h"):
        x, y, z = (m[k].double() for m in (a, b, minus))
        t[k] = (x + w * (y - z)).to(a[k].dtype)
    return t


def save(name, tensors):
    save_file(tensors, OUT / f"{name}.safetensors", metadata={"format": "pt"})


f16, bf16 = rounded(a, torch.float16), rounded(a, torch.bfloat16)
f16["d"][0], bf16["d"][1] = 1 + 2**-10, 1 + 2**-7  # rounded once
save("to_f16", f16)
save("to_bf16", bf16)
save("to_f32", rounded(a, torch.float32))
save("merge", merged(0.3, a))
save("difference", merged(1.0, c))
