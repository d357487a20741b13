"""How far the golden files in the work tree are from the committed ones: the largest ‖a − b‖ / ‖b‖ of a tensor.

python tests/parity/compare.py     from the repository's root; fails when it is above 1e-5
"""
import subprocess
import sys

from safetensors.torch import load, load_file


def git(*args):
    return subprocess.run(["git", *args], check=True, capture_output=True).stdout


worst_of_all = 0.0
for path in git("diff", "--name-only", "--", "tests/golden/*.safetensors").decode().split():
    new, old = load_file(path), load(git("show", "HEAD:" + path))
    if {k: v.shape for k, v in new.items()} != {k: v.shape for k, v in old.items()}:
        print(f"{path}: other tensors than the committed ones")
        worst_of_all = float("inf")
        continue
    distance = lambda k: float((new[k].double() - old[k].double()).norm() / max(float(old[k].double().norm()), 1e-30))
    key = max(new, key=distance)
    print(f"{path}: {distance(key):.1e} in {key}")
    worst_of_all = max(worst_of_all, distance(key))
sys.exit(not worst_of_all <= 1e-5)
