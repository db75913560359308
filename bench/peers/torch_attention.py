"""Attention, forward and backward, beside PyTorch's scaled_dot_product_attention on the CPU.

    python3 bench/peers/torch_attention.py build/release/bench/attention_peer_bench [--threads 1 2] [--rounds 7]

Each shape once with full lengths, where nothing is padded and PyTorch gets no mask, and once with lengths drawn between 1 and the full one (the
first sample's is full): packed rows for the engine, padding and a boolean mask [samples, 1, 1, keys] for PyTorch.
Results are compared before anything is timed, padded queries left out. Rounds are interleaved, and of a round the shortest call counts; the table
has the median round's wall-clock and CPU times (of all threads; other programs disturb it less) and the ratio of each round's, PyTorch over engine.
The engine's memory is the largest that a call took beside its inputs: results, gradients, log-sum-exp and workspace; `scores` is what one
matrix of all scores would take.
"""

import argparse
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import scaled_dot_product_attention

SHAPES = [(48, 5, 50, 500, 30), (32, 8, 50, 375, 64), (8, 8, 1024, 1024, 64)]  # samples, heads, queries, keys, head width
TOLERANCE = 1e-4  # of the largest element


class Case:
    """A batch in both forms: packed rows [rows, heads * width], and [samples, heads, length, width]."""

    def __init__(self, shape, full, folder):
        samples, heads, queries, keys, width = shape
        generator = torch.Generator().manual_seed(1)
        self.shape, self.full = shape, full
        self.lengths = {}
        for name, longest in (("query", queries), ("key", keys)):
            drawn = torch.randint(1, longest + 1, (samples,), generator=generator)
            drawn[0] = longest
            self.lengths[name] = torch.full((samples,), longest) if full else drawn
        self.packed = {}
        for name, of in (("query", "query"), ("key", "key"), ("value", "key"), ("doutput", "query")):
            self.packed[name] = torch.randn(int(self.lengths[of].sum()), heads * width, generator=generator)
        self.padded = {name: self.pad(rows, "query" if name in ("query", "doutput") else "key") for name, rows in self.packed.items()}
        self.mask = None if full else (torch.arange(keys) < self.lengths["key"][:, None])[:, None, None, :]
        for name in ("query", "key", "value"):
            self.padded[name].requires_grad_()
        self.file = f"{folder}/inputs.safetensors"
        offsets = {f"{name}_offsets": torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)]) for name, lengths in self.lengths.items()}
        save_file({**self.packed, **offsets, "heads": torch.tensor([heads])}, self.file)

    def longest(self, of):
        return self.shape[2] if of == "query" else self.shape[3]

    def pad(self, rows, of):
        samples, heads, _, _, width = self.shape
        padded = torch.zeros(samples, self.longest(of), heads * width)
        for sample, part in zip(padded, rows.split(self.lengths[of].tolist())):
            sample[: len(part)] = part
        return padded.view(samples, -1, heads, width).transpose(1, 2).contiguous()

    def pack(self, padded, of):
        rows = padded.transpose(1, 2).flatten(2)
        return torch.cat([sample[:length] for sample, length in zip(rows, self.lengths[of].tolist())])

    def step(self):
        for name in ("query", "key", "value"):
            self.padded[name].grad = None
        output = scaled_dot_product_attention(self.padded["query"], self.padded["key"], self.padded["value"], attn_mask=self.mask)
        output.backward(self.padded["doutput"])
        return output

    def compare(self, results):
        expected = {"output": self.pack(self.step().detach(), "query")}
        for name in ("query", "key", "value"):
            expected["d" + name] = self.pack(self.padded[name].grad, "query" if name == "query" else "key")
        worst = 0
        for name, value in expected.items():
            error = ((results[name] - value).abs().max() / value.abs().max()).item()
            if not error <= TOLERANCE:
                sys.exit(f"{self.shape}: {name} differs by {error:.1e} of its largest element; nothing is timed")
            worst = max(worst, error)
        return worst

    def seconds(self, calls):
        times = []
        for _ in range(calls):
            wall, cpu = time.perf_counter(), time.process_time()
            self.step()
            times.append((time.perf_counter() - wall, time.process_time() - cpu))
        return [min(column) for column in zip(*times)]


class Engine:
    def __init__(self, binary, case, threads, folder):
        results = f"{folder}/results.safetensors"
        self.process = subprocess.Popen([binary, case.file, results, str(threads)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if self.process.stdout.readline() != "ready\n":
            sys.exit("the engine failed")
        self.results = load_file(results)

    def seconds(self, calls):
        self.process.stdin.write(f"{calls}\n")
        self.process.stdin.flush()
        return [float(x) for x in self.process.stdout.readline().split()]

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def row_of(case, options, threads, folder):
    torch.set_num_threads(threads)
    engine = Engine(options.binary, case, threads, folder)
    error = case.compare(engine.results)
    ours, theirs = [], []
    for _ in range(options.rounds):
        ours.append(engine.seconds(options.calls))
        theirs.append(case.seconds(options.calls))
    engine.close()
    samples, heads, queries, keys, width = case.shape
    ratio = [statistics.median(t[i] / o[i] for o, t in zip(ours, theirs)) for i in (0, 1)]
    milliseconds = [1e3 * statistics.median(x[i] for x in side) for i in (0, 1) for side in (ours, theirs)]
    scores = 4 * heads * int((case.lengths["query"] * case.lengths["key"]).sum())
    cells = [str(case.shape), "full" if case.full else "varied", str(threads), *(f"{x:.2f}" for x in milliseconds[:2]), f"{ratio[0]:.2f}",
             *(f"{x:.2f}" for x in milliseconds[2:]), f"{ratio[1]:.2f}", f"{ours[-1][2] / 2**20:.1f}", f"{scores / 2**20:.1f}", f"{error:.0e}"]
    return "| " + " | ".join(cells) + " |"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--calls", type=int, default=3, help="in a round, of each side")
    options = parser.parse_args()
    columns = ["samples, heads, queries, keys, width", "lengths", "threads", "engine ms", "PyTorch ms", "ratio", "engine CPU ms", "PyTorch CPU ms",
               "ratio", "engine MiB", "scores MiB", "difference"]
    print(f"PyTorch {torch.__version__}\n| " + " | ".join(columns) + " |\n|" + " --- |" * len(columns), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for shape in SHAPES:
            for full in (True, False):
                case = Case(shape, full, folder)
                for threads in options.threads:
                    print(row_of(case, options, threads, folder), flush=True)


if __name__ == "__main__":
    main()
