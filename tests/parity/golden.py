"""Random weights that any language reproduces, and the golden files made with them. See README.md beside this."""
import json
import math
import os

import numpy as np
import torch
from safetensors.numpy import save_file

GOLDEN = 0x9E3779B97F4A7C15
M64 = (1 << 64) - 1
CHUNK = 1 << 20
FULL = 4096  # outputs up to this size are stored whole
OUT_SAMPLES = 64


def fnv1a64(text):
    h = 0xCBF29CE484222325
    for byte in text.encode():
        h = ((h ^ byte) * 0x100000001B3) & M64
    return h


def words(name, begin, end):
    """Outputs begin..end-1 of splitmix64 seeded with the hash of the name."""
    z = np.arange(begin + 1, end + 1, dtype=np.uint64) * np.uint64(GOLDEN) + np.uint64(fnv1a64(name))
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def uniform(name, begin, end):
    """float64 in [-1, 1), multiples of 2^-23: exact in float32 too."""
    return (words(name, begin, end) >> np.uint64(40)).astype(np.float64) * 2.0**-23 - 1.0


def scale_and_offset(name, shape):
    if len(shape) < 2:
        return 0.1, 1.0 if name.endswith(".weight") else 0.0
    return 0.1 if name.endswith(".lora_B.weight") else math.sqrt(3.0 / math.prod(shape[1:])), 0.0


def fill(out, name, scale=1.0, offset=0.0):
    """Fills a tensor with float32 values offset + scale·u."""
    flat = out.view(-1)
    for b in range(0, flat.numel(), CHUNK):
        e = min(b + CHUNK, flat.numel())
        flat[b:e] = torch.from_numpy((offset + scale * uniform(name, b, e)).astype(np.float32))


def generated(name, shape, dtype=torch.float64):
    out = torch.empty(shape, dtype=dtype)
    fill(out, name)
    return out


def dot(name, flat):
    """Σ value·u with the vector u of that name."""
    return sum(float(flat[b:b + CHUNK] @ uniform(name, b, min(b + CHUNK, flat.size)))
               for b in range(0, flat.size, CHUNK))


def measure(tensor, name, samples):
    """Norm, dot with the vector "dot:name", and `samples` entries (all, in order, when there are no more)."""
    flat = tensor.detach().reshape(-1).double().numpy()
    if flat.size > samples:
        picked = flat[(words("index:" + name, 0, samples) % np.uint64(flat.size)).astype(np.int64)]
    else:
        picked = flat
    return float(np.linalg.norm(flat)), dot("dot:" + name, flat), picked.astype(np.float32)


def json_line(value):
    return json.dumps(value, separators=(",", ":"))


def tensor_table(parameters):
    """Pairs of name and shape, a line each."""
    return ",\n".join(json_line([n, list(p.shape)]) for n, p in parameters)


def write_shapes(path, config, model):
    with open(path, "w") as f:
        f.write(f'{{\n"config": {json_line(config)},\n"tensors": [\n{tensor_table(model.named_parameters())}\n]\n}}\n')


class Case:
    """One model with generated weights, its runs, and the two files tests/golden/FOLDER/NAME.{json,safetensors}."""

    def __init__(self, name, model, config, file, samples=16, folder="networks", name_of=str, added=None):
        """name_of: from the module's parameter names to the file's. added(name): is it an adapter's? Then the
        model's own weights are frozen."""
        self.path = os.path.join("tests", "golden", folder, name)
        self.model, self.samples = model.eval(), samples
        if any(p.is_meta for p in model.parameters()):
            self.model = model.double().to_empty(device="cpu")
        else:
            self.model = model.double()
        self.names = {name_of(n): p for n, p in self.model.named_parameters()}
        self.added = [n for n in self.names if added and added(n)]
        self.trained = self.added or list(self.names)
        self.head = {"model": type(model).__name__, "file": file, "samples": samples, "config": config}
        self.runs, self.data = [], {}
        for n, p in self.names.items():
            p.requires_grad_(False)
            with torch.no_grad():
                fill(p, n, *scale_and_offset(n, p.shape))
        for n in self.trained:
            self.names[n].requires_grad_(True)

    def run(self, network, call, inputs, gradients=True):
        """inputs: name → shape (generated) or a list or tensor of explicit values.
        call(model, **tensors) → dictionary of outputs. The loss is Σ over outputs of out·u("dout:" + name)."""
        r, tensors, stated = len(self.runs), {}, []
        for name, v in inputs.items():
            if isinstance(v, tuple):
                tensors[name] = generated("input:" + name, v).requires_grad_(gradients)
                stated.append({"name": name, "shape": list(v)})
            else:
                t = torch.tensor(v)
                whole = not t.is_floating_point()
                tensors[name] = t if whole else t.double()
                stated.append({"name": name, "dtype": "I64" if whole else "F32", "shape": list(t.shape),
                               "values": t.reshape(-1).tolist()})
        rows = {}
        hooks = []
        if gradients:
            def keep(name):
                def hook(p):
                    rows[name] = measure(p.grad, name, self.samples)
                    p.grad = None  # the full-width models have no room for all of them
                return hook
            for n, p in [*self.names.items(), *(("input:" + n, t) for n, t in tensors.items())]:
                if p.requires_grad:
                    hooks.append(p.register_post_accumulate_grad_hook(keep(n)))
        with torch.set_grad_enabled(gradients):
            out = call(self.model, **tensors)
            if gradients:
                sum((o * generated("dout:" + n, o.shape)).sum() for n, o in out.items()).backward()
        for h in hooks:
            h.remove()
        measured = [measure(o, "out:" + n, FULL if o.numel() <= FULL else OUT_SAMPLES) for n, o in out.items()]
        self.data[f"{r}.out.norm"] = np.float32([m[0] for m in measured])
        self.data[f"{r}.out.dot"] = np.float32([m[1] for m in measured])
        for n, m in zip(out, measured):
            self.data[f"{r}.out.{n}"] = m[2]
        if gradients:
            self.store_gradients(r, rows, tensors)
        self.runs.append({"network": network, "inputs": stated, "gradients": gradients,
                          "outputs": [{"name": n, "shape": list(o.shape)} for n, o in out.items()]})

    def store_gradients(self, r, rows, tensors):
        largest = max(row[0] for row in rows.values())
        sizes = {n: self.names[n].numel() for n in self.trained}
        sizes |= {"input:" + n: t.numel() for n, t in tensors.items() if t.is_floating_point() and t.requires_grad}
        table = []
        for n, size in sizes.items():
            row = rows.get(n)
            # Exact zeros (a key bias under softmax) come out as rounding noise, of float32 where diffusers
            # takes a softmax in it; the smallest real gradients are 1e-4 of the largest.
            if row is None or row[0] < 1e-7 * largest:
                row = (0.0, 0.0, np.zeros(min(size, self.samples), np.float32))
            table.append(row)
        self.data[f"{r}.grad.norm"] = np.float32([t[0] for t in table])
        self.data[f"{r}.grad.dot"] = np.float32([t[1] for t in table])
        self.data[f"{r}.grad.samples"] = np.concatenate([t[2] for t in table])

    def write(self):
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        save_file(self.data, self.path + ".safetensors")
        table = lambda names: tensor_table((n, self.names[n]) for n in names)
        with open(self.path + ".json", "w") as f:
            f.write("{\n")
            for k, v in self.head.items():
                f.write(f'"{k}": {json_line(v)},\n')
            f.write('"runs": [\n' + ",\n".join(json_line(v) for v in self.runs) + "\n],\n")
            if self.added:
                f.write('"trained": [\n' + table(self.added) + "\n],\n")
            f.write('"tensors": [\n' + table(n for n in self.names if n not in self.added) + "\n]\n}\n")
        size = sum(os.path.getsize(self.path + e) for e in (".json", ".safetensors"))
        print(f"{self.path}: {len(self.names)} tensors, {size >> 10} KiB", flush=True)
