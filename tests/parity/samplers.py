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
    """torch's CPU generator. Long outputs are kept as a checksum (uniforms), or every 997th value and the
    largest ones (normals; rounding shows most there)."""
    out = ["// Made by tests/parity/samplers.py with torch %s.\n" % torch.__version__.split("+")[0]]
    for seed in (0, 42, 2**32 + 5):
        g = torch.Generator().manual_seed(seed)
        u = torch.rand(100_000, generator=g)
        out.append(f"#define TORCH_RAND_CRC_{seed} 0x{zlib.crc32(u.numpy().tobytes()):08x}u\n")
        x = torch.randn(100_003, generator=g)
        largest = x.abs().topk(40).indices
        out.append(c_array(f"torch_randn_{seed}", x[::997].tolist()))
        out.append(c_array(f"torch_randn_{seed}_where", largest.tolist(), "int", "%d"))
        out.append(c_array(f"torch_randn_{seed}_largest", x[largest].tolist()))
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


N, STEPS = 4, 10


def fake_model(x, t):
    """A deterministic network, stated again in test_samplers.c."""
    a = torch.tensor([0.9, 0.7, 1.1, 0.5]).reshape(x.shape)
    return torch.tanh(a * x + 0.3 * torch.roll(x, -1, -1) + 0.4 * (float(t) / 1000) - 0.2)


def trajectory(sched, eta=None):
    """x after each step in (alpha, sigma) space, from noise of generator seed 5; step noise from seed 6."""
    sched.set_timesteps(STEPS)
    g = torch.Generator().manual_seed(6)
    x = torch.randn(1, 1, 1, N, generator=torch.Generator().manual_seed(5)) * sched.init_noise_sigma
    sigma_space = "Euler" in type(sched).__name__
    out = []
    for i, t in enumerate(sched.timesteps):
        model_in = sched.scale_model_input(x, t)
        extra = {} if eta is None else {"eta": eta}
        if "Multistep" not in type(sched).__name__:
            extra["generator"] = g
        x = sched.step(fake_model(model_in, t), t, x, **extra).prev_sample
        scale = 1 / (sched.sigmas[i + 1] ** 2 + 1) ** 0.5 if sigma_space else 1
        out += (x * scale).flatten().tolist()
    return out


def samplers():
    out = ["// Made by tests/parity/samplers.py with diffusers %s.\n" % diffusers.__version__,
           f"enum {{ N = {N}, STEPS = {STEPS} }};\n\n",
           "static const struct {\n    const char *name;\n    double eta;\n    int predicts, spacing;\n"
           "    bool zero_snr;\n    float x[STEPS * N];\n} trajectories[] = {\n"]
    ddim, ddpm = diffusers.DDIMScheduler, diffusers.DDPMScheduler
    euler, euler_a = diffusers.EulerDiscreteScheduler, diffusers.EulerAncestralDiscreteScheduler
    dpmpp = diffusers.DPMSolverMultistepScheduler
    kinds = {"epsilon": "PREDICT_EPS", "v_prediction": "PREDICT_V", "sample": "PREDICT_X0"}
    cases = [("ddim", ddim, 0.0, kind, "leading", False) for kind in kinds]
    cases += [("ddim", ddim, 0.0, "v_prediction", "trailing", True), ("ddim", ddim, 0.0, "sample", "trailing", True),
              ("ddim", ddim, 1.0, "epsilon", "leading", False), ("ddim", ddim, 0.4, "v_prediction", "trailing", True)]
    cases += [("ddpm", ddpm, 1.0, kind, "leading", False) for kind in kinds]
    cases += [("ddpm", ddpm, 1.0, "v_prediction", "trailing", True)]
    for name, cls in (("euler", euler), ("euler_a", euler_a)):
        eta = 1.0 if name == "euler_a" else 0.0
        cases += [(name, cls, eta, "epsilon", s, False) for s in SPACINGS]
        cases += [(name, cls, eta, "v_prediction", "trailing", z) for z in (False, True)]
    cases += [("euler", euler, 0.0, "epsilon", "karras", False)]
    cases += [("dpmpp_2m", dpmpp, 0.0, "epsilon", s, False) for s in SPACINGS]
    cases += [("dpmpp_2m", dpmpp, 0.0, kind, "linspace", False) for kind in ("v_prediction", "sample")]
    for name, cls, eta, kind, spacing, zero in cases:
        options = dict(SD, prediction_type=kind, rescale_betas_zero_snr=zero, steps_offset=1)
        options.update(dict(use_karras_sigmas=True) if spacing == "karras" else dict(timestep_spacing=spacing))
        if cls is ddim or cls is ddpm:
            options["clip_sample"] = False
        if cls is ddim:
            options["set_alpha_to_one"] = False
        x = trajectory(cls(**options), eta if cls is ddim else None)
        values = c_array("x", x).split("\n", 1)[1].rsplit("}", 1)[0].rstrip(",\n")
        where = SPACINGS.get(spacing, "SPACING_KARRAS")
        out.append(f'    {{"{name}", {eta}, {kinds[kind]}, {where}, {str(zero).lower()}, {{\n{values}}}}},\n')
    out.append("};\n\n")
    out.append(guidance())
    open("tests/golden/samplers.h", "w").write("".join(out))


def guidance():
    """The pipelines' rescale_noise_cfg on two samples of (2, 2, 2)."""
    from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg
    g = torch.Generator().manual_seed(8)
    pos, neg = (torch.randn(2, 2, 2, 2, generator=g) for _ in range(2))
    cfg = neg + 7.5 * (pos - neg)
    return (c_array("guidance_pos", pos.flatten().tolist()) + c_array("guidance_neg", neg.flatten().tolist())
            + c_array("guidance_cfg", cfg.flatten().tolist())
            + c_array("guidance_rescaled", rescale_noise_cfg(cfg, pos, guidance_rescale=0.7).flatten().tolist()))


if __name__ == "__main__":
    rng()
    steps()
    samplers()
