"""Golden values of the random generators and samplers, from torch and diffusers.

Run from the repository root: python tests/parity/samplers.py
Writes tests/golden/samplers_*.h, which the C tests include.
"""
import zlib

import diffusers
import numpy as np
import torch

SD = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
SPACINGS = {"leading": "SPACING_LEADING", "linspace": "SPACING_LINSPACE", "trailing": "SPACING_TRAILING"}


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


def steps():
    """Timestep lists as weighted sums. Trailing lists of n that meet a float error of the reference are left out
    (an extra entry, or a tie that its float sum misses)."""
    out = ["// Made by tests/parity/samplers.py with diffusers %s.\n" % diffusers.__version__]
    rows = []
    grids = {"GRID_INTEGER": diffusers.DDIMScheduler, "GRID_FRACTIONAL": diffusers.EulerDiscreteScheduler,
             "GRID_OPEN": diffusers.DPMSolverMultistepScheduler}
    for grid, cls in grids.items():
        for spacing, name in SPACINGS.items():
            sched = cls(**SD, steps_offset=1, timestep_spacing=spacing)
            for n in [2, 3, 4, 5, 7, 8, 11, 16, 20, 25, 28, 30, 37, 48, 50, 61, 75, 100, 103, 250, 333, 500]:
                sched.set_timesteps(n)
                t = sched.timesteps.numpy().astype(np.float64)
                if spacing == "trailing" and (len(t) != n or n == 48):
                    continue
                sum_ = float(np.sum(t * [(i * 7 + 7) % 31 for i in range(n)]))
                rows.append(f"    {{{n}, {name}, {grid}, {sum_:.9g}}},\n")
    out.append("static const struct {\n    int n, spacing, grid;\n    double sum;\n} step_sums[] = {\n")
    out += rows + ["};\n"]
    euler = diffusers.EulerDiscreteScheduler(**SD, use_karras_sigmas=True)
    euler.set_timesteps(20)
    out.append(c_array("karras_sigmas", euler.sigmas[:-1].tolist(), "double"))
    out.append(c_array("karras_timesteps", euler.timesteps.tolist(), "double"))
    open("tests/golden/samplers_steps.h", "w").write("".join(out))


if __name__ == "__main__":
    rng()
    steps()
