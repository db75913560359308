"""Times one CmIR training step of the engine and of PyTorch in one run, after comparing their results.

    python3 bench/peers/train_step.py BUILD/bench/train_step_bench [--threads 1 2] [--rounds 7] [--out FILE.json]

Same weights, batch, noise (in the comparison), model and thread count. The two take turns; the figures are the median over rounds. PyTorch pads the
sequences and masks them, as its users do; the engine packs them. "all_50_steps" has no padding at all.
"""

import argparse
import json
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time

import torch
from safetensors.torch import load_file
from torch.nn.utils.rnn import pad_sequence

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from torch_cmir import CmIR, ConvTransformer, Projection  # noqa: E402

WIDTH, HIDDEN = 150, 256
# The engine in either type against PyTorch in f64. In f32 an element of a ReLU or of the sign in R_inv's gradient may fall on the other side
# of the kink, in PyTorch's own f32 as well; that f64 agrees shows that nothing else is the cause.
TOLERANCES = {"f64": 1e-9, "f32": 1e-3}


def build(tensors, dtype):
    networks = {"text": Projection(768, WIDTH)}
    for name, raw in (("audio", 74), ("video", 47)):
        networks[name] = ConvTransformer(raw, WIDTH, layers=4, heads=5, feed_forward=4 * WIDTH, dropout=0.0)
    model = CmIR(networks, WIDTH, HIDDEN, 1, 0.1, (0.1, 0.001, 0.05), alpha=1.0).to(dtype)
    model.load_state_dict({n[10:]: t.to(dtype) for n, t in tensors.items() if n.startswith("parameter.")})
    inputs = {"text": (tensors["input.text"].to(dtype), None)}
    for name in ("audio", "video"):
        offsets = tensors["offsets." + name].tolist()
        parts = [tensors["input." + name][b:e] for b, e in zip(offsets, offsets[1:])]
        inputs[name] = (pad_sequence(parts, batch_first=True).to(dtype), torch.tensor([len(p) for p in parts]))
    return model, inputs, tensors["labels"].to(dtype)


def compare(tensors):
    """The largest relative difference over loss terms and gradients, PyTorch in f64."""
    model, inputs, labels = build(tensors, torch.float64)
    noise = {n: tensors["noise." + n].double()[None] for n in inputs}
    _, terms = model(inputs, labels, noise)
    terms["total"].backward()
    worst = {}
    for name, term in terms.items():
        worst["term " + name] = abs(tensors["term." + name].item() / term.item() - 1)
    for name, parameter in model.named_parameters():
        difference = (tensors["gradient." + name].double() - parameter.grad).norm()
        worst["gradient " + name] = (difference / parameter.grad.norm().clamp(min=1e-30)).item()
        if name.endswith("in_proj_bias"):  # the key's part is 0 but for rounding: judge query and value
            keep = torch.cat([torch.arange(WIDTH), torch.arange(2 * WIDTH, 3 * WIDTH)])
            difference = (tensors["gradient." + name].double() - parameter.grad)[keep].norm()
            worst["gradient " + name] = (difference / parameter.grad[keep].norm()).item()
    name = max(worst, key=worst.get)
    return worst[name], name


class TorchStep:
    def __init__(self, tensors):
        self.model, self.inputs, self.labels = build(tensors, torch.float32)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-5, weight_decay=0.01, fused=True)

    def run(self):
        _, terms = self.model(self.inputs, self.labels)
        self.optimizer.zero_grad()
        terms["total"].backward()
        self.optimizer.step()
        return terms["total"].item()

    def seconds(self, budget):
        count, start = 0, time.perf_counter()
        while time.perf_counter() - start < budget or count < 3:
            self.run()
            count += 1
        return (time.perf_counter() - start) / count


def engine_seconds(binary, case, threads, budget):
    name = f"train_step/{case}/threads:{threads}/real_time"
    text = subprocess.run([binary, f"--benchmark_filter={name}", f"--benchmark_min_time={budget}", "--benchmark_format=json"],
                          check=True, capture_output=True, text=True).stdout
    return json.loads(text)["benchmarks"][0]["real_time"] / 1e3


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--cases", nargs="+", default=["mosi_lengths", "all_50_steps"])
    parser.add_argument("--out")
    options = parser.parse_args()
    rows = []
    for case in options.cases:
        with tempfile.TemporaryDirectory() as folder:
            errors = {}
            for dtype, tolerance in TOLERANCES.items():
                file = f"{folder}/{dtype}.safetensors"
                subprocess.run([options.binary, "--export", case, dtype, file], check=True)
                tensors = load_file(file)
                errors[dtype], where = compare(tensors)
                print(f"{case}, {dtype}: largest relative difference {errors[dtype]:.1e} ({where})")
                if not errors[dtype] <= tolerance:
                    sys.exit(f"results differ by more than {tolerance}: nothing is timed")
        for threads in options.threads:
            torch.set_num_threads(threads)
            peer = TorchStep(tensors)
            peer.seconds(0.3)
            ours, theirs = [], []
            for _ in range(options.rounds):
                ours.append(engine_seconds(options.binary, case, threads, options.seconds))
                theirs.append(peer.seconds(options.seconds))
            row = {"case": case, "threads": threads, "engine_ms": 1e3 * statistics.median(ours),
                   "torch_ms": 1e3 * statistics.median(theirs), "relative_difference": errors,
                   "ratios": [t / o for t, o in zip(theirs, ours)]}
            row["ratio"] = statistics.median(row["ratios"])
            rows.append(row)
            print(f"{case}, {threads} threads: engine {row['engine_ms']:.2f} ms, PyTorch {row['torch_ms']:.2f} ms, "
                  f"{row['ratio']:.2f}x ({min(row['ratios']):.2f} to {max(row['ratios']):.2f} over rounds)")
    if options.out:
        report = {"torch": torch.__version__, "machine": platform.machine(), "rows": rows}
        pathlib.Path(options.out).write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
