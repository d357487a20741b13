"""Golden values of the random generators and samplers, from torch and diffusers.

Run from the repository root: python tests/parity/samplers.py
Writes tests/golden/samplers_rng.h and tests/golden/samplers.h, which the C tests include.
"""
import zlib

import torch


def c_array(name, values, kind="float", fmt="%.9g"):
    lines, line = [], "   "
    for v in values:
        word = " " + fmt % v + ","
        if len(line) + len(word) > 108:
            lines.append(line)
            line = "   "
        line += word
    lines.append(line)
    return f"static const {kind} {name}[] = {{\n" + "\n".join(lines) + "\n};\n"


def rng():
    """torch's CPU generator. Long outputs are kept as a checksum (uniforms) or every 997th value (normals)."""
    out = ["// Made by tests/parity/samplers.py with torch %s.\n" % torch.__version__.split("+")[0]]
    for seed in (0, 42, 2**32 + 5):
        g = torch.Generator().manual_seed(seed)
        u = torch.rand(100_000, generator=g)
        out.append(f"#define TORCH_RAND_CRC_{seed} 0x{zlib.crc32(u.numpy().tobytes()):08x}u\n")
        out.append(c_array(f"torch_randn_{seed}", torch.randn(100_003, generator=g)[::997].tolist()))
    # One generator, many calls: short calls keep a spare normal over a long one.
    g = torch.Generator().manual_seed(7)
    calls = [torch.randn(n, generator=g) for n in (3, 1, 5, 16, 2, 15, 17, 40, 1)]
    out.append(c_array("torch_randn_calls", torch.cat(calls).tolist()))
    open("tests/golden/samplers_rng.h", "w").write("".join(out))


if __name__ == "__main__":
    rng()
