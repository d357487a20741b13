"""Golden values of the random generators and samplers, from torch and diffusers.

Run from the repository root: python tests/parity/samplers.py
Writes tests/golden/samplers_*.h, which the C tests include.
"""
import zlib

import diffusers
import numpy as np
import torch
import torchsde

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


def brownian():
    """Seed sequences of numpy and Brownian trees of torchsde: increments over their root."""
    out = ["// Made by tests/parity/samplers.py with numpy %s and torchsde %s.\n" % (np.__version__, torchsde.__version__)]
    seeds = [(0, [], 24), (42, [], 24), (2**40 + 5, [], 24), (42, [0, 0], 24), (7, [2**33 + 1, 34], 24), (9, [3, 2], 4)]
    rows = []
    for entropy, key, pool in seeds:
        word = np.random.SeedSequence(entropy=entropy, spawn_key=key, pool_size=pool).generate_state(1)[0]
        a, b = key or (0, 0)
        rows.append(f"    {{{entropy}u, {{{a}u, {b}u}}, {len(key)}, {pool}, 0x{word:08x}u}},\n")
    out.append("static const struct {\n    uint64_t entropy, key[2];\n    int keys, pool;\n    uint32_t first;\n"
               "} seed_sequences[] = {\n" + "".join(rows) + "};\n\n")
    walks = {}
    for n, low, high in ((8, 0.0291675, 14.614643), (20, 0.0291675, 14.614643), (20, 0.03, 4518.763699)):
        middle = (low + high) / 2
        times = [high, 7.25, 7.25, 3.1, 1.0, 0.6, 0.0291685, low]  # pairs from one to the next: one is empty
        walks[n, low, high] = times + [middle, 0.1, 14.6, 5.0]  # the last three go up and down
    rows = []
    for (n, low, high), times in walks.items():
        for seed in (3, 2**40 + 5):
            tree = torchsde.BrownianTree(low, torch.zeros(n), high, entropy=seed)
            values = []
            for a, b in zip(times, times[1:]):
                w = tree(min(a, b), max(a, b)) * (1 if a < b else -1)
                values.append(w if a == b else w / abs(b - a) ** 0.5)
            x = torch.stack(values)[:, [0, 1, n // 2, n - 1]].flatten().tolist()
            body = c_array("x", x).split("\n", 1)[1].rsplit("}", 1)[0].rstrip(",\n")
            rows.append(f"    {{{seed}u, {n}, {low!r}, {high!r}, {{{', '.join(map(repr, times))}}}, {{\n{body}}}}},\n")
    out.append("// Increments of values 0, 1, n/2 and n - 1 from each time to the next, over the root of their distance.\n"
               f"enum {{ TIMES = {len(times)} }};\nstatic const struct {{\n    uint64_t seed;\n    int n;\n"
               "    double low, high, times[TIMES];\n    float x[(TIMES - 1) * 4];\n} brownian_walks[] = {\n"
               + "".join(rows) + "};\n")
    open("tests/golden/samplers_brownian.h", "w").write("".join(out))


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
    out += spacings()
    open("tests/golden/samplers_steps.h", "w").write("".join(out))


def spacings():
    """sigma/alpha of n points as the programs that have these spacings compute them, for the SD schedule."""
    betas = np.linspace(SD["beta_start"] ** 0.5, SD["beta_end"] ** 0.5, 1000) ** 2
    bar = np.cumprod(1 - betas)
    sigmas = np.sqrt((1 - bar) / bar)
    big, small = sigmas[-1], sigmas[0]
    ays = {"sd15": [14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029],
           "sdxl": [14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113, 0.029]}

    def at(t):
        return np.interp(t, np.arange(1000), sigmas)

    def beta_ppf(u):
        """Quantiles of Beta(0.6, 0.6): x = sin² v makes its density smooth."""
        v = np.linspace(0, np.pi / 2, 2_000_001)
        middle = (v[1:] + v[:-1]) / 2
        cdf = np.concatenate([[0], np.cumsum((np.sin(middle) * np.cos(middle)) ** 0.2)])
        return np.sin(np.interp(u, cdf / cdf[-1], v)) ** 2

    def log_linear(points, n):
        x = np.linspace(0, 1, len(points))
        return np.exp(np.interp(np.linspace(0, 1, n), x, np.log(points)))

    def lcm(n):
        origin = (np.arange(1, 51) * 20 - 1)[::-1]
        return origin[np.floor(np.linspace(0, 50, n, endpoint=False)).astype(int)]

    def ramp(n):
        return np.linspace(0, 1, n)

    known = {
        "NORMAL": lambda n: at(np.linspace(999, 0, n)),
        "SIMPLE": lambda n: np.array([sigmas[-(1 + int(x * (1000 / n)))] for x in range(n)]),
        "SGM_UNIFORM": lambda n: at(np.linspace(999, 0, n + 1)[:-1]),
        "DDIM_UNIFORM": lambda n: sigmas[np.arange(1, 1000, 1000 // n)[:n][::-1]],
        "BETA": lambda n: sigmas[np.rint(np.round(beta_ppf(1 - np.arange(n) / n) * 999, 3)).astype(int)],
        "EXPONENTIAL": lambda n: np.exp(np.linspace(np.log(big), np.log(small), n)),
        "POLYEXPONENTIAL": lambda n: np.exp(ramp(n)[::-1] ** 1.0 * (np.log(big) - np.log(small)) + np.log(small)),
        "KL_OPTIMAL": lambda n: np.tan(ramp(n) * np.arctan(small) + (1 - ramp(n)) * np.arctan(big)),
        "AYS": lambda n: log_linear(ays["sd15"], n + 1)[:-1],
        "AYS_SDXL": lambda n: log_linear(ays["sdxl"], n + 1)[:-1],
        "LCM": lambda n: sigmas[lcm(n)],
    }
    rows = []
    for name, ratios in known.items():
        for n in (2, 5, 10, 20, 25, 40):
            r = ratios(n)
            picked = [r[0], r[1], r[n // 2], r[-1]]
            rows.append(f"    {{SPACING_{name}, {n}, {{" + ", ".join("%.12g" % v for v in picked) + "}},\n")
    return ["\n// sigma/alpha of points 0, 1, n/2 and n-1\nstatic const struct {\n    spacing how;\n    int n;\n"
            "    double ratio[4];\n} spaced[] = {\n", *rows, "};\n"]


N, STEPS = 4, 10


def fake_model(x, t):
    """A deterministic network, stated again in test_samplers.c."""
    a = torch.tensor([0.9, 0.7, 1.1, 0.5]).reshape(x.shape)
    return torch.tanh(a * x + 0.3 * torch.roll(x, -1, -1) + 0.4 * (float(t) / 1000) - 0.2)


def trajectory(sched, eta=None):
    """x after each step in (alpha, sigma) space, from noise of generator seed 5; step noise from seed 6."""
    sched.set_timesteps(STEPS)
    name = type(sched).__name__
    g = torch.Generator().manual_seed(6)
    x = torch.randn(1, 1, 1, N, generator=torch.Generator().manual_seed(5)) * sched.init_noise_sigma
    sigma_space = any(k in name for k in ("Euler", "Heun", "KDPM2"))
    takes_noise = not any(k in name for k in ("Multistep", "PNDM", "Heun", "KDPM2"))
    takes_noise |= getattr(sched.config, "algorithm_type", None) == "sde-dpmsolver++"
    out, last = [], len(sched.timesteps) - 1
    for i, t in enumerate(sched.timesteps):
        extra = {} if eta is None else {"eta": eta}
        if takes_noise:
            extra["generator"] = g
        x = sched.step(fake_model(sched.scale_model_input(x, t), t), t, x, **extra).prev_sample
        if i < last and not getattr(sched, "state_in_first_order", True):
            continue  # half a step
        if name == "PNDMScheduler" and i == 0:
            continue  # the first step is taken twice
        scale = 1 / (sched.sigmas[sched.step_index if i < last else -1] ** 2 + 1) ** 0.5 if sigma_space else 1
        out += (x * scale).flatten().tolist()
    assert len(out) == N * STEPS, name
    return out


class KDiffusion:
    """The samplers as their papers and k-diffusion write them: y = x/alpha and sigma for sigma/alpha, in double."""

    def __init__(self, n, kind="epsilon"):
        betas = np.linspace(SD["beta_start"] ** 0.5, SD["beta_end"] ** 0.5, 1000) ** 2
        bar = np.cumprod(1 - betas)
        self.table = np.sqrt((1 - bar) / bar)
        self.kind = kind
        rho = 7
        first, last = self.table[-1] ** (1 / rho), self.table[0] ** (1 / rho)
        self.s = np.append((first + np.linspace(0, 1, n) * (last - first)) ** rho, 0)
        self.g = torch.Generator().manual_seed(6)
        self.tree = None
        start = torch.randn(N, generator=torch.Generator().manual_seed(5)).double().numpy()
        self.y, self.out, self.looks = start * self.s[0], [], []

    def on_a_path(self):
        """Noise of a Brownian tree of seed 6, as k-diffusion's BrownianTreeNoiseSampler gives it."""
        self.tree = torchsde.BrownianTree(self.s[-2], torch.zeros(N), self.s[0], entropy=6)
        return self

    def noise(self, s=None, to=None):
        if self.tree:
            return -self.tree(to, s).double().numpy() / (s - to) ** 0.5
        return torch.randn(N, generator=self.g).double().numpy()

    def x0(self, y, s):
        t = np.interp(np.log(s), np.log(self.table), np.arange(1000))
        x = y / np.hypot(1, s)
        self.looks.append(x)
        a = np.array([0.9, 0.7, 1.1, 0.5])
        out = np.tanh(a * x + 0.3 * np.roll(x, -1) + 0.4 * t / 1000 - 0.2)
        return y - s * out if self.kind == "epsilon" else x / np.hypot(1, s) - s / np.hypot(1, s) * out

    def eps(self, y, s):
        return (y - self.x0(y, s)) / s

    @staticmethod
    def split(s, to, eta=1.0):
        up = min(to, eta * (to**2 * (s**2 - to**2) / s**2) ** 0.5)
        return (to**2 - up**2) ** 0.5, up

    def run(self, name):
        self.hist = []
        for i in range(len(self.s) - 1):
            getattr(self, name)(i, self.s[i], self.s[i + 1])
            self.out.append(self.y / np.hypot(1, self.s[i + 1]))
        return np.concatenate(self.out).tolist()

    def dpm2_a(self, i, s, to):
        down, up = self.split(s, to)
        d = self.eps(self.y, s)
        if down == 0:
            self.y = self.y + d * (down - s)
            return
        mid = (s * down) ** 0.5
        self.y = self.y + self.eps(self.y + d * (mid - s), mid) * (down - s) + self.noise() * up

    def dpmpp_2s_a(self, i, s, to):
        down, up = self.split(s, to)
        x0 = self.x0(self.y, s)
        if down == 0:
            self.y = x0
            return
        t, t_next = -np.log(s), -np.log(down)
        h = t_next - t
        mid = np.exp(-(t + h / 2))
        y2 = mid / s * self.y - np.expm1(-h / 2) * x0
        self.y = down / s * self.y - np.expm1(-h) * self.x0(y2, mid) + self.noise() * up

    def dpmpp_sde(self, i, s, to):
        x0 = self.x0(self.y, s)
        if to == 0:
            self.y = x0
            return
        mid = (s * to) ** 0.5
        down, up = self.split(s, mid)
        y2 = down / s * self.y + (1 - down / s) * x0 + self.noise(s, mid) * up
        x0 = self.x0(y2, mid)
        down, up = self.split(s, to)
        self.y = down / s * self.y + (1 - down / s) * x0 + self.noise(s, to) * up

    def dpmpp_2m_sde(self, i, s, to, solver="midpoint"):
        x0 = self.x0(self.y, s)
        if to == 0:
            self.y = x0
        else:
            h = np.log(s / to)
            y = to / s * np.exp(-h) * self.y - np.expm1(-2 * h) * x0
            if self.hist:
                old, h_last = self.hist[-1]
                d = (x0 - old) * h / h_last
                y = y + (0.5 * -np.expm1(-2 * h) if solver == "midpoint" else np.expm1(-2 * h) / (2 * h) + 1) * d
            self.y = y + self.noise(s, to) * to * np.sqrt(-np.expm1(-2 * h))
            self.hist.append((x0, h))

    def dpmpp_2m_sde_heun(self, i, s, to):
        self.dpmpp_2m_sde(i, s, to, "heun")

    def dpmpp_3m_sde(self, i, s, to):
        x0 = self.x0(self.y, s)
        if to == 0:
            self.y = x0
            return
        h = np.log(s / to)
        he = 2 * h
        y = np.exp(-he) * self.y - np.expm1(-he) * x0
        phi_2 = np.expm1(-he) / he + 1
        if len(self.hist) > 1:
            (b, h2), (a, h1) = self.hist[-2:]
            r0, r1 = h1 / h, h2 / h
            d10, d11 = (x0 - a) / r0, (a - b) / r1
            d1 = d10 + (d10 - d11) * r0 / (r0 + r1)
            y = y + phi_2 * d1 - (phi_2 / he - 0.5) * (d10 - d11) / (r0 + r1)
        elif self.hist:
            a, h1 = self.hist[-1]
            y = y + phi_2 * (x0 - a) / (h1 / h)
        self.y = y + self.noise(s, to) * to * np.sqrt(-np.expm1(-2 * h))
        self.hist.append((x0, h))

    def ipndm(self, i, s, to):
        d = self.eps(self.y, s)
        e = (self.hist + [d])[::-1]
        w = {1: [1], 2: [3, -1], 3: [23, -16, 5], 4: [55, -59, 37, -9]}[min(4, len(e))]
        self.y = self.y + (to - s) * sum(k * x for k, x in zip(w, e)) / sum(w)
        self.hist.append(d)

    def lms(self, i, s, to):
        """The polynomial in sigma through four derivatives, integrated."""
        self.hist.append(self.eps(self.y, s))
        d, nodes = self.hist[-4:], self.s[max(0, i - 3) : i + 1]
        for j, node in enumerate(nodes):
            others = np.delete(nodes, j)
            basis = np.polynomial.Polynomial.fromroots(others) if len(others) else np.polynomial.Polynomial([1])
            whole = (basis / np.prod(node - others)).integ()
            self.y = self.y + (whole(to) - whole(s)) * d[j]

    def gradient_estimation(self, i, s, to):
        d = self.eps(self.y, s)
        self.y = self.y + (to - s) * (2 * d - self.hist[-1] if self.hist else d)
        self.hist.append(d)

    def res_multistep(self, i, s, to):
        x0 = self.x0(self.y, s)
        if to == 0 or not self.hist:
            self.y = x0 + to / s * (self.y - x0)
        else:
            old, before = self.hist[-1]
            h, c2 = np.log(s / to), np.log(s / before) / np.log(s / to)
            phi1 = -np.expm1(-h) / h
            phi2 = (1 - phi1) / h
            self.y = np.exp(-h) * self.y + h * ((phi1 - phi2 / c2) * x0 + phi2 / c2 * old)
        self.hist.append((x0, s))

    def er_sde(self, i, s, to):
        scale = lambda l: l * (np.exp(l**0.3) + 10)
        x0 = self.x0(self.y, s)
        if to == 0:
            self.y = x0
            return
        r, dt = scale(to) / scale(s), to - s
        at = np.exp(np.linspace(np.log(to), np.log(s), 20001))
        y = r * self.y + (1 - r) * x0
        d1 = (x0 - self.hist[-1][0]) / (s - self.s[i - 1]) if i else None
        if i:
            y = y + (dt + np.trapezoid(1 / scale(at), at) * scale(to)) * d1
        if i > 1:
            d2 = (d1 - self.hist[-1][1]) / ((s - self.s[i - 2]) / 2)
            y = y + (dt**2 / 2 + np.trapezoid((at - s) / scale(at), at) * scale(to)) * d2
        self.y = y + self.noise() * np.sqrt(to**2 - s**2 * r**2)
        self.hist.append((x0, d1))

    def dpm_solver(self, order, s, to, x0, r1):
        """y at `to` by DPM-Solver of orders 2 and (of 3) 3, or 1, and the looks in between."""
        h = np.log(s / to)
        at = lambda c: s * np.exp(-c * h)
        eps = (self.y - x0) / s
        first = self.y - to * np.expm1(h) * eps
        if order == 1:
            return first, None
        eps1 = self.eps(self.y - at(r1) * np.expm1(r1 * h) * eps, at(r1))
        second = first - to / (2 * r1) * np.expm1(h) * (eps1 - eps)
        if order == 2:
            return second, None
        r2, phi = 2 / 3, lambda z: np.expm1(z) / z - 1
        u2 = self.y - at(r2) * np.expm1(r2 * h) * eps - at(r2) * (r2 / r1) * phi(r2 * h) * (eps1 - eps)
        return second, first - to / r2 * phi(h) * (self.eps(u2, at(r2)) - eps)

    def dpm_fast(self, eta):
        n, start, end = len(self.s) - 1, self.s[0], self.table[0]
        m = n // 3 + 1
        orders = [3] * (m - 2) + [2, 1] if n % 3 == 0 else [3] * (m - 1) + [n % 3]
        points = np.exp(np.linspace(np.log(start), np.log(end), m + 1))
        for order, s, to in zip(orders, points, points[1:]):
            down = max(end, self.split(s, to, eta)[0]) if eta else to
            low, high = self.dpm_solver(order, s, down, self.x0(self.y, s), 1 / 3 if order == 3 else 1 / 2)
            self.y = (low if high is None else high) + (to**2 - down**2) ** 0.5 * self.noise()
        return np.concatenate(self.looks[1:] + [self.y / np.hypot(1, end)]).tolist()

    def dpm_adaptive(self, eta):
        s, end, h, before = self.s[0], self.table[0], 0.05, self.y
        x0 = None
        while np.log(s / end) > 1e-5:
            to = max(end, s * np.exp(-h))
            down = max(end, self.split(s, to, eta)[0]) if eta else to
            x0 = self.x0(self.y, s) if x0 is None else x0
            low, high = self.dpm_solver(3, s, down, x0, 1 / 3)
            delta = np.maximum(0.0078, 0.05 * np.maximum(abs(low), abs(before)))
            error = np.linalg.norm((low - high) / delta) / N**0.5
            factor = 1 + np.arctan((1 / (error + 1e-8)) ** (1 / (1.5 if eta else 3)) - 1)
            h *= factor
            if factor >= 0.81:
                before, self.y = low, high + (to**2 - down**2) ** 0.5 * self.noise()
                s, x0 = to, None
        return self.looks, (self.y / np.hypot(1, end)).tolist()

    def heun(self, i, s, to):
        d = self.eps(self.y, s)
        y2 = self.y + (to - s) * d
        self.y = y2 if to == 0 else self.y + (to - s) * (d + self.eps(y2, to)) / 2

    def restart(self):
        """Of 20 steps; one return from sigma 0.1 to sigma 2."""
        s, n = self.s, len(self.s) - 1
        high, low = np.argmax(s <= 2), np.argmax(s <= 0.1)
        for i in [*range(low), None, *range(high, n)]:
            if i is None:
                self.y = self.y + self.noise() * np.sqrt(s[high] ** 2 - s[low] ** 2)
            else:
                self.heun(i, s[i], s[i + 1])
        return self.y.tolist()


def row(name, eta, kind, spacing, zero, x):
    values = c_array("x", x).split("\n", 1)[1].rsplit("}", 1)[0].rstrip(",\n")
    return f'    {{"{name}", {eta}, {kind}, {spacing}, {str(zero).lower()}, {{\n{values}}}}},\n'


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
    sde = {"algorithm_type": "sde-dpmsolver++"}
    more = [("dpmpp_2m_sde", dpmpp, 1.0, "linspace", sde),
            ("heun", diffusers.HeunDiscreteScheduler, 0.0, "linspace", {}),
            ("dpm2", diffusers.KDPM2DiscreteScheduler, 0.0, "linspace", {}),
            ("pndm", diffusers.PNDMScheduler, 0.0, "leading", {"skip_prk_steps": True}),
            ("deis", diffusers.DEISMultistepScheduler, 0.0, "linspace",
             {"solver_order": 3, "lower_order_final": False}),
            ("unipc", diffusers.UniPCMultistepScheduler, 0.0, "linspace", {"solver_order": 2}),
            ("unipc_3", diffusers.UniPCMultistepScheduler, 0.0, "linspace", {"solver_order": 3}),
            ("sa_solver", diffusers.SASolverScheduler, 1.0, "linspace", {}),
            ("sa_solver", diffusers.SASolverScheduler, 1.0, "trailing", {}),
            ("sa_solver", diffusers.SASolverScheduler, 0.0, "linspace", {"tau_func": lambda t: 0}),
            ("lcm", diffusers.LCMScheduler, 1.0, "lcm", {}), ("tcd", diffusers.TCDScheduler, 0.3, "lcm", {})]
    cases += [(name, cls, eta, kind, spacing, False, extra) for name, cls, eta, spacing, extra in more
              for kind in ("epsilon", "v_prediction") if (name, kind) != ("pndm", "v_prediction")]
    where = {**SPACINGS, "karras": "SPACING_KARRAS", "lcm": "SPACING_LCM"}
    for name, cls, eta, kind, spacing, zero, *extra in cases:
        options = dict(SD, prediction_type=kind, rescale_betas_zero_snr=zero, steps_offset=1, **(extra or [{}])[0])
        if any(k in cls.__name__ for k in ("PNDM", "Heun", "KDPM2", "DEIS", "SASolver")):
            del options["rescale_betas_zero_snr"]
        if spacing == "karras":
            options["use_karras_sigmas"] = True
        elif spacing != "lcm":
            options["timestep_spacing"] = spacing
        if cls is ddim or cls is ddpm:
            options["clip_sample"] = False
        if cls in (ddim, diffusers.TCDScheduler, diffusers.PNDMScheduler):
            options["set_alpha_to_one"] = False
        x = trajectory(cls(**options), eta if cls in (ddim, diffusers.TCDScheduler) else None)
        out.append(row(name, eta, kinds[kind], where[spacing], zero, x))
    for name in ("dpm2_a", "dpmpp_2s_a", "dpmpp_sde", "dpmpp_2m_sde_heun", "dpmpp_3m_sde", "lms", "ipndm",
                 "gradient_estimation", "res_multistep", "er_sde", "heun"):
        eta = 0.0 if name in ("lms", "ipndm", "gradient_estimation", "res_multistep", "heun") else 1.0
        for kind in ("epsilon", "v_prediction"):
            out.append(row(name, eta, kinds[kind], "SPACING_KARRAS", False, KDiffusion(STEPS, kind).run(name)))
    for eta in (0.0, 1.0):
        for kind in ("epsilon", "v_prediction"):
            out.append(row("dpm_fast", eta, kinds[kind], "SPACING_KARRAS", False, KDiffusion(STEPS, kind).dpm_fast(eta)))
    out.append("};\n\nstatic const struct {\n    const char *name;\n    float x[STEPS * N];\n} on_a_path[] = {\n")
    for name in ("dpmpp_sde", "dpmpp_2m_sde", "dpmpp_2m_sde_heun", "dpmpp_3m_sde"):
        values = c_array("x", KDiffusion(STEPS).on_a_path().run(name)).split("\n", 1)[1].rsplit("}", 1)[0].rstrip(",\n")
        out.append(f'    {{"{name}", {{\n{values}}}}},\n')
    out.append("};\n\n")
    for eta in (0, 1):
        looks, end = KDiffusion(STEPS).dpm_adaptive(eta)
        out.append(f"enum {{ ADAPTIVE_LOOKS_{eta} = {len(looks)} }};\n")
        out.append(c_array(f"adaptive_{eta}", np.concatenate(looks).tolist() + end))
    out.append(c_array("restart_of_20", KDiffusion(20).restart()))
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
    brownian()
    steps()
    samplers()
