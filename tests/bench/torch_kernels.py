"""PyTorch's times (microseconds, CPU time of one thread, best of several) for the cases of bench_kernels."""
import time

import torch
import torch.nn.functional as F

torch.set_num_threads(1)


def best(f, rounds=4):
    f()
    times = []
    for _ in range(rounds):
        start, runs = time.thread_time(), 0
        while time.thread_time() - start < 5e-3:
            f()
            runs += 1
        times.append((time.thread_time() - start) / runs)
    return min(times) * 1e6


for dtype in (torch.float32, torch.bfloat16):
    for B, S, C in [(16, 256, 32), (16, 1024, 64), (32, 256, 128), (2, 4096, 320), (1, 262144, 128)]:
        H = int(S**0.5)
        image = torch.randn(B, C, H, S // H).to(dtype).contiguous(memory_format=torch.channels_last)
        rows, other = image.permute(0, 2, 3, 1).reshape(B * S, C), torch.randn(B * S, C).to(dtype)
        one = torch.ones(C, dtype=dtype)
        cases = {
            "group_norm+silu": lambda: F.silu(F.group_norm(image, 32, one, one)),
            "layer_norm": lambda: F.layer_norm(rows, (C,), one, one),
            "gelu": lambda: F.gelu(rows),
            "silu": lambda: F.silu(rows),
            "softmax": lambda: F.softmax(rows, -1),
            "add": lambda: rows + other,
            "bias grad": lambda: rows.sum(0),
        }
        with torch.no_grad():
            for name, f in cases.items():
                print(f"{name:22} {str(dtype)[6:]:9} {B}x{S}x{C} {best(f):9.1f} us", flush=True)
