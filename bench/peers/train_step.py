"""Times one CmIR training step of the engine and of PyTorch in one run, after comparing their results.

    python3 bench/peers/train_step.py BUILD/bench/train_step_bench [--threads 1 2] [--rounds 7] [--out FILE.json]
    python3 bench/peers/train_step.py BUILD/bench/train_step_bench --device cuda [--tf32 | --bf16] [--out FILE.json]

Same weights, batch, noise (in the comparison), model, and thread count or GPU. The two take turns; the figures are the median over rounds.
PyTorch pads the sequences and masks them, as its users do; the engine packs them. "all_50_steps" has no padding at all.

On a GPU the engine, in each way that it can run a step, meets PyTorch in four (--modes): "eager"; "compile", the model through torch.compile;
"reduce-overhead", the same in that mode, which uses CUDA graphs; "graph", forward, backward and optimizer captured in one CUDA graph. Ten
steps are run for each time that the host waits for the GPU. --device simt compares the results of the engine's CUDA kernels, on the host
model of CUDA, and times nothing.

Products are in f32 on both sides. --tf32: in TF32 (the engine's linear layers; PyTorch's convolutions too). --bf16: in bf16 (the engine's
linear layers and convolutions; PyTorch under torch.autocast, which computes other things in bf16 too).

The exit status is not 0 if results differ or a mode of PyTorch cannot be run; the rows of the others are printed and written even so.
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
# of the kink, in PyTorch's own f32 as well; that f64 agrees shows that nothing else is the cause. The CUDA kernels are f32 only.
TOLERANCES = {"f64": 1e-9, "f32": 1e-3}
# Of f32 where products have 10 or 7 bits of mantissa: they catch a wrong result, not an inexact one.
ROUNDED_TOLERANCES = {"tf32": 0.1, "bf16": 0.5}
GPU_STEPS = 10  # as train_step_bench


def build(tensors, dtype, device):
    networks = {"text": Projection(768, WIDTH)}
    for name, raw in (("audio", 74), ("video", 47)):
        networks[name] = ConvTransformer(raw, WIDTH, layers=4, heads=5, feed_forward=4 * WIDTH, dropout=0.0)
    model = CmIR(networks, WIDTH, HIDDEN, 1, 0.1, (0.1, 0.001, 0.05), alpha=1.0).to(device, dtype)
    model.load_state_dict({n[10:]: t.to(dtype) for n, t in tensors.items() if n.startswith("parameter.")})
    inputs = {"text": (tensors["input.text"].to(device, dtype), None)}
    for name in ("audio", "video"):
        offsets = tensors["offsets." + name].tolist()
        parts = [tensors["input." + name][b:e] for b, e in zip(offsets, offsets[1:])]
        lengths = torch.tensor([len(p) for p in parts])
        inputs[name] = (pad_sequence(parts, batch_first=True).to(device, dtype), lengths.to(device))
    return model, inputs, tensors["labels"].to(device, dtype)


def compare(tensors, device):
    """The largest relative difference over loss terms and gradients, PyTorch in f64, and where it is."""
    model, inputs, labels = build(tensors, torch.float64, device)
    noise = {n: tensors["noise." + n].to(device).double()[None] for n in inputs}
    _, terms = model(inputs, labels, noise)
    terms["total"].backward()
    worst = {}
    for name, term in terms.items():
        worst["term " + name] = abs(tensors["term." + name].item() / term.item() - 1)
    for name, parameter in model.named_parameters():
        gradient = parameter.grad.cpu()
        difference = tensors["gradient." + name].double() - gradient
        if name.endswith("in_proj_bias"):  # the key's part is 0 but for rounding: judge query and value
            keep = torch.cat([torch.arange(WIDTH), torch.arange(2 * WIDTH, 3 * WIDTH)])
            gradient, difference = gradient[keep], difference[keep]
        worst["gradient " + name] = (difference.norm() / gradient.norm().clamp(min=1e-30)).item()
    bad = [name for name, error in worst.items() if error != error]  # max() does not see a NaN
    name = bad[0] if bad else max(worst, key=worst.get)
    return worst[name], name


class TorchStep:
    """A training step in one of the modes, warmed up. run() does not wait for a GPU; loss() does."""

    def __init__(self, tensors, options, mode):
        device = options.torch_device
        self.model, self.inputs, self.labels = build(tensors, torch.float32, device)
        self.autocast = torch.autocast(device.type, torch.bfloat16, enabled=options.precision == "bf16")
        self.mode, self.steps = mode, GPU_STEPS if device.type == "cuda" else 1
        self.forward, self.graph = self.model, None
        if mode in ("compile", "reduce-overhead"):
            self.forward = torch.compile(self.model, mode="default" if mode == "compile" else mode)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-5, weight_decay=0.01, fused=True, capturable=mode == "graph")
        if mode == "graph":
            self.capture()
        for _ in range(3 * self.steps):
            self.run()
        self.loss()

    def step(self):
        with self.autocast:
            _, terms = self.forward(self.inputs, self.labels)
        self.optimizer.zero_grad(set_to_none=True)
        terms["total"].backward()
        self.optimizer.step()
        return terms["total"]

    def capture(self):
        """As the PyTorch manual has it: warm up on a side stream, then record, with gradients made inside the graph's memory pool."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(5):
                self.step()
        torch.cuda.current_stream().wait_stream(side)
        self.optimizer.zero_grad(set_to_none=True)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.total = self.step()

    def run(self):
        if self.graph is not None:
            self.graph.replay()
            return
        if self.mode == "reduce-overhead":
            torch.compiler.cudagraph_mark_step_begin()
        self.total = self.step()

    def loss(self):
        value = self.total.item()
        if value != value:
            raise RuntimeError("the loss is not a number")
        return value

    def seconds(self, budget):
        """Of a step: the mean over as many as fit the budget, at least 3 reads of the loss."""
        count, start = 0, time.perf_counter()
        while time.perf_counter() - start < budget or count < 3 * self.steps:
            for _ in range(self.steps):
                self.run()
            self.loss()
            count += self.steps
        return (time.perf_counter() - start) / count


class Engine:
    def __init__(self, options):
        self.command = [options.binary, "--device", options.device, "--precision", options.precision]

    def run(self, *arguments):
        return subprocess.run([*self.command, *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout

    def ways(self):
        """eager, and what else it has on the device: the second part of its benchmarks' names."""
        return list(dict.fromkeys(line.split("/")[1] for line in self.run("--benchmark_list_tests").split()))

    def seconds(self, way, case, samples, threads, budget):
        name = f"^train_step/{way}/{case}/samples:{samples}/" + (f"threads:{threads}/" if threads else "")
        text = self.run(f"--benchmark_filter={name}", f"--benchmark_min_time={budget}", "--benchmark_format=json")
        result = json.loads(text)["benchmarks"][0]
        if result.get("error_occurred"):
            sys.exit(f"{result['name']}: {result['error_message']}")
        return result["real_time"] / 1e3


def checked_tensors(engine, options, case, samples):
    """What the engine exports in f32 for this case, after every dtype agreed, and the differences."""
    errors = {}
    with tempfile.TemporaryDirectory() as folder:
        for dtype, tolerance in TOLERANCES.items():
            if dtype == "f64" and options.device != "cpu":
                continue
            if dtype == "f32":
                tolerance = ROUNDED_TOLERANCES.get(options.precision, tolerance)
            file = f"{folder}/{dtype}.safetensors"
            engine.run("--export", case, dtype, str(samples), file)
            tensors = load_file(file)
            kind = f" with products in {options.precision}" if options.precision != dtype == "f32" else ""
            errors[dtype], where = compare(tensors, options.torch_device)
            print(f"{case}, {samples} samples, {dtype}{kind}: largest relative difference {errors[dtype]:.1e} ({where})", flush=True)
            if not errors[dtype] <= tolerance:
                sys.exit(f"results differ by more than {tolerance}: nothing is timed")
    return tensors, errors


def measure(engine, peer, options, way, case, samples, threads):
    ours, theirs = [], []
    for _ in range(options.rounds):
        ours.append(engine.seconds(way, case, samples, threads, options.seconds))
        theirs.append(peer.seconds(options.seconds))
    ratios = [t / o for t, o in zip(theirs, ours)]
    return {"engine_ms": 1e3 * statistics.median(ours), "torch_ms": 1e3 * statistics.median(theirs),
            "ratio": statistics.median(ratios), "ratios": ratios}


def rows_of(engine, options, case, samples, ways):
    tensors, errors = checked_tensors(engine, options, case, samples)
    for threads in options.threads:
        if threads:
            torch.set_num_threads(threads)
        for mode in options.modes:
            key = {"case": case, "samples": samples, "threads": threads, "torch": mode, "relative_difference": errors}
            try:
                torch.compiler.reset()
                peer = TorchStep(tensors, options, mode)
            except Exception as error:  # whatever stops one mode must not stop the others
                yield {**key, "failed": f"{type(error).__name__}: {error}".splitlines()[0]}
                continue
            for way in ways:
                yield {**key, "engine": way, **measure(engine, peer, options, way, case, samples, threads)}
            del peer
            if options.device == "cuda":
                torch.cuda.empty_cache()


def line_of(row):
    where = f"{row['case']}, {row['samples']} samples" + (f", {row['threads']} threads" if row["threads"] else "")
    if "failed" in row:
        return f"{where}: PyTorch {row['torch']} failed: {row['failed']}"
    return (f"{where}: engine {row['engine']} {row['engine_ms']:.3f} ms, PyTorch {row['torch']} {row['torch_ms']:.3f} ms, "
            f"{row['ratio']:.2f}x ({min(row['ratios']):.2f} to {max(row['ratios']):.2f} over rounds)")


def table(rows):
    lines = ["| case | samples | threads | engine | ms | PyTorch | ms | ratio |", "| --- | --- | --- | --- | --- | --- | --- | --- |"]
    for r in rows:
        figures = f"- | - | {r['torch']} | failed | -" if "failed" in r else (
            f"{r['engine']} | {r['engine_ms']:.3f} | {r['torch']} | {r['torch_ms']:.3f} | {r['ratio']:.2f}")
        lines.append(f"| {r['case']} | {r['samples']} | {r['threads'] or '-'} | {figures} |")
    return "\n".join(lines)


def parse_options():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("--device", choices=["cpu", "cuda", "simt"], default="cpu")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="on the CPU")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0, help="for each round and side")
    parser.add_argument("--cases", nargs="+", default=["mosi_lengths", "all_50_steps"])
    parser.add_argument("--samples", type=int, nargs="+", help="of a batch: 48, and on a GPU 768 too")
    parser.add_argument("--modes", nargs="+", choices=["eager", "compile", "reduce-overhead", "graph"], help="of PyTorch; on the CPU: eager")
    precision = parser.add_mutually_exclusive_group()
    for name, text in (("tf32", "products of the GPU round their factors to TF32, on both sides"),
                       ("bf16", "products round their factors to bf16; PyTorch runs under torch.autocast(bfloat16)")):
        precision.add_argument("--" + name, action="store_const", dest="precision", const=name, default="f32", help=text)
    parser.add_argument("--out", help="a JSON file")
    options = parser.parse_args()
    gpu = options.device == "cuda"
    options.torch_device = torch.device("cuda" if gpu else "cpu")
    options.samples = options.samples or ([48, 768] if gpu else [48])
    options.modes = options.modes or (["eager", "compile", "reduce-overhead", "graph"] if gpu else ["eager"])
    if options.device != "cpu":
        options.threads = [0]
    if gpu and not torch.cuda.is_available():
        sys.exit("PyTorch finds no GPU")
    return options


def main():
    options = parse_options()
    torch.backends.cuda.matmul.allow_tf32 = options.precision == "tf32"
    torch.backends.cudnn.allow_tf32 = options.precision == "tf32"
    engine, rows = Engine(options), []
    ways = engine.ways()
    for case in options.cases:
        for samples in options.samples:
            if options.device == "simt":
                checked_tensors(engine, options, case, samples)
                continue
            for row in rows_of(engine, options, case, samples, ways):
                rows.append(row)
                print(line_of(row), flush=True)
    if rows:
        print(table(rows))
    if options.out:
        report = {"torch": torch.__version__, "machine": platform.machine(), "device": options.device, "precision": options.precision,
                  "gpu": torch.cuda.get_device_name() if options.device == "cuda" else None, "rows": rows}
        pathlib.Path(options.out).write_text(json.dumps(report, indent=2) + "\n")
    failed = [f"{r['torch']} ({r['case']}, {r['samples']})" for r in rows if "failed" in r]
    if failed:
        sys.exit("PyTorch failed in: " + ", ".join(failed))
    if rows:  # one line that says it all
        print("lowest ratios: " + "; ".join(f"{way} against " + ", ".join(
            f"{mode} {min(r['ratio'] for r in rows if (r['engine'], r['torch']) == (way, mode)):.2f}x" for mode in options.modes) for way in ways))


if __name__ == "__main__":
    main()
