"""Least squares from latents to colours by numpy: golden/latent_rgb.safetensors.

python tests/parity/latent_rgb.py     from the repository's root
"""
import numpy as np
from safetensors.numpy import save_file

from golden import uniform


def main():
    data = {}
    for i, (n, C) in enumerate([(40, 4), (100, 16)]):
        x = uniform(f"latent_rgb:x:{i}", 0, n * C).astype(np.float32).reshape(n, C)
        rgb = uniform(f"latent_rgb:rgb:{i}", 0, n * 3).astype(np.float32).reshape(n, 3)
        a = np.concatenate([x.astype(np.float64), np.ones((n, 1))], 1)
        fit = np.linalg.lstsq(a, rgb.astype(np.float64), rcond=None)[0]
        data |= {f"{i}.x": x, f"{i}.rgb": rgb, f"{i}.map": fit.astype(np.float32)}
    save_file(data, "tests/golden/latent_rgb.safetensors")


if __name__ == "__main__":
    main()
