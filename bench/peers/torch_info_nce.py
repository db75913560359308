"""Symmetric InfoNCE, forward and backward, in PyTorch on the CPU: the peer of `loss/...` in info_nce_bench.

    python3 bench/peers/torch_info_nce.py [THREADS]

Prints the best of several runs: wall-clock time, and the process's CPU time, which other programs on the machine disturb less.
"""
import sys
import time

import torch
import torch.nn.functional as F

TEMPERATURE = 0.07


def step(a, b, targets):
    scores = a @ b.t() / TEMPERATURE
    loss = 0.5 * (F.cross_entropy(scores, targets) + F.cross_entropy(scores.t(), targets))
    loss.backward()


def main():
    torch.set_num_threads(int(sys.argv[1]) if len(sys.argv) > 1 else 2)
    for n in (128, 1024, 8192):
        for d in (64, 256):
            a, b = (F.normalize(torch.randn(n, d), dim=1).requires_grad_() for _ in range(2))
            targets = torch.arange(n)
            times = []
            for _ in range(5 if n > 4000 else 30):
                a.grad = b.grad = None
                wall, cpu = time.perf_counter(), time.process_time()
                step(a, b, targets)
                times.append((time.perf_counter() - wall, time.process_time() - cpu))
            wall, cpu = (1e3 * min(column) for column in zip(*times))
            print(f"N {n} d {d}: {wall:.2f} ms, CPU {cpu:.2f} ms", flush=True)


main()
