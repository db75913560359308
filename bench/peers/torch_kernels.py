"""Times the PyTorch expression of each kernel that has one, and PyTorch's training step, on the kernel's own inputs, after comparing their results.

    python3 bench/peers/torch_kernels.py PROGRAMS [--family F ...] [--filter REGEX] [--quick] [--seconds 0.1] [--repetitions 3]

PROGRAMS is a build's folder of benchmark programs, which write the inputs and the results of their cases to files (--export). Prints Google
Benchmark's JSON, to which `cmir bench --torch PYTHON` joins it: places torch_eager, torch_compiled (--compile) and, where there is a GPU,
torch_eager@cuda, torch_compiled@cuda, torch_graph@cuda, the expression captured in a CUDA graph, and for attention torch_flash@cuda,
torch_efficient@cuda, torch_cudnn@cuda and torch_math@cuda, those of its backends that take the case. Attention of samples that vary in length
("varied") is padded, with a mask of the keys, but for torch_jagged (nested tensors) and torch_varlen@cuda (torch.nn.attention.varlen). On a GPU conv1d is cuDNN's, whose
algorithm is measured before, and products are cuBLAS's, in f32 without TF32. A case whose results differ is an error and is not timed; the
exit status is then 1. One that does not fit in memory is a row without a time, labelled "not run: ...". Threads: as the programs', CMIR_THREADS or all.
"""
import argparse
import contextlib
import itertools
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch.nn.attention import SDPBackend, sdpa_kernel

try:
    from torch.nn.attention.varlen import varlen_attn
except ImportError:  # PyTorch before 2.10
    varlen_attn = None

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import train_step  # noqa: E402

TOLERANCES = {"<f32>": 2e-4, "<bf16>": 2e-2}  # of the largest element
BACKENDS = {"flash": SDPBackend.FLASH_ATTENTION, "efficient": SDPBackend.EFFICIENT_ATTENTION, "cudnn": SDPBackend.CUDNN_ATTENTION, "math": SDPBackend.MATH}


class LeftOut(Exception):
    """A case that is not run, and why: its row has no time and says so."""


def masked(t, s):
    x = t["x"].view(s["rows"], s["width"])
    return x.masked_fill(torch.arange(s["width"], device=x.device) >= t["lengths"][:, None], float("-inf"))


def matrix(t, name, rows):
    return t[name].view(rows, -1)


def softmax(t, s):
    x = masked(t, s)
    return lambda: (torch.softmax(x, -1),)


def softmax_backward(t, s):
    y, dy = matrix(t, "y", s["rows"]), matrix(t, "dy", s["rows"])
    return lambda: (torch.ops.aten._softmax_backward_data(dy, y, -1, torch.float32),)


def layer_norm(t, s):
    x = matrix(t, "x", s["rows"])
    return lambda: (F.layer_norm(x, (s["width"],), t["gamma"], t["beta"]),)


def layer_norm_backward(t, s):
    x, dy = matrix(t, "x", s["rows"]), matrix(t, "dy", s["rows"])
    _, mean, rstd = torch.native_layer_norm(x, [s["width"]], t["gamma"], t["gamma"], 1e-5)
    return lambda: torch.ops.aten.native_layer_norm_backward(dy, x, [s["width"]], mean, rstd, t["gamma"], t["gamma"], [True] * 3)


def linear_gelu(t, s):
    x, weight = matrix(t, "x", s["rows"]), matrix(t, "weight", s["out"])
    return lambda: (F.gelu(F.linear(x, weight, t["bias"])),)


def unary(f):
    return lambda t, s: lambda: (f(t["x"]),)


def sums(dims):
    def make(t, s):
        x = matrix(t, "x", s["rows"])
        return lambda: (x.sum(dims),)
    return make


def gemm(t, s):
    a, b = t["a"], t["b"]
    if s["product"] == 0:
        a, b = a.view(s["rows"], s["in"]), b.view(s["out"], s["in"]).t()
    elif s["product"] == 1:
        a, b = a.view(s["rows"], s["out"]), b.view(s["out"], s["in"])
    else:
        a, b = a.view(s["rows"], s["out"]).t(), b.view(s["rows"], s["in"])
    return lambda: (a @ b,)


def padded(rows, offsets, longest):
    """Packed rows as [samples, longest, ...], zeros behind each sample's own."""
    out = rows.new_zeros(len(offsets) - 1, longest, *rows.shape[1:])
    for sample, (begin, end) in zip(out, itertools.pairwise(offsets.tolist())):
        sample[: end - begin] = rows[begin:end]
    return out


def packed(x, offsets):
    """The inverse."""
    return torch.cat([sample[:length] for sample, length in zip(x, offsets.diff().tolist())])


def heads(t, s):
    """query [samples, queries, heads, width], and key beside value, by heads; dy as query, where there is one. Padded."""
    rows = {"query": t["query"].view(-1, s["heads"], s["width"]), "key_value": t["key_value"].view(-1, 2, s["heads"], s["width"])}
    if "dy" in t:
        rows["dy"] = t["dy"].view(rows["query"].shape)
    return [padded(x, t["key_offsets"], s["keys"]) if name == "key_value" else padded(x, t["query_offsets"], s["queries"]) for name, x in rows.items()]


def key_mask(t, s):
    """[samples, 1, 1, keys], or none where all samples have all keys: a mask keeps backends away."""
    lengths = t["key_offsets"].diff()
    return None if (lengths == s["keys"]).all() else (torch.arange(s["keys"], device=lengths.device) < lengths[:, None])[:, None, None]


def attend(query, key_value, mask=None):
    key, value = key_value.transpose(1, 3).unbind(2)
    return F.scaled_dot_product_attention(query.transpose(1, 2), key, value, mask).transpose(1, 2)


def attention(t, s, inputs=heads, attend=attend):
    inputs, mask = inputs(t, s), key_mask(t, s)
    return lambda: (attend(*inputs, mask),)


def attention_backward(t, s, inputs=heads, attend=attend):
    *inputs, dy = inputs(t, s)
    inputs = [x.detach().requires_grad_() for x in inputs]
    y = attend(*inputs, key_mask(t, s))
    return lambda: torch.autograd.grad(y, inputs, dy, retain_graph=True)


def rows_by_head(t, s):
    """query, key, value and, where there is one, dy, without padding: the packed rows."""
    query, key_value = t["query"].view(-1, s["heads"], s["width"]), t["key_value"].view(-1, 2, s["heads"], s["width"])
    return [query, *(x.contiguous() for x in key_value.unbind(1))] + ([t["dy"].view(query.shape)] if "dy" in t else [])


def attention_jagged(t, s):
    def nested(rows, which, longest):
        return torch.nested.nested_tensor_from_jagged(rows, t[which + "_offsets"], max_seqlen=longest).transpose(1, 2)

    def attend(query, key, value, _mask):
        key, value = nested(key, "key", s["keys"]), nested(value, "key", s["keys"])
        return F.scaled_dot_product_attention(nested(query, "query", s["queries"]), key, value).transpose(1, 2).values()
    return (attention_backward if "dy" in t else attention)(t, s, rows_by_head, attend)


def attention_varlen(t, s):
    offsets = [t[name].int() for name in ("query_offsets", "key_offsets")]

    def attend(query, key, value, _mask):
        return varlen_attn(query, key, value, *offsets, s["queries"], s["keys"])
    return (attention_backward if "dy" in t else attention)(t, s, rows_by_head, attend)


def cross_entropy(t, s):
    """The values, and the derivatives that the kernel makes in the same pass."""
    logits, classes = matrix(t, "logits", s["rows"]), t["classes"].long()
    one_hot = F.one_hot(classes, s["classes"]).float()
    return lambda: (F.cross_entropy(logits, classes, reduction="none"), torch.softmax(logits, -1) - one_hot)


def embedding(t, s):
    table, indices = matrix(t, "table", s["table"]), t["indices"].long()
    return lambda: (F.embedding(indices, table),)


def embedding_backward(t, s):
    dy, indices = matrix(t, "dy", s["rows"]), t["indices"].long()
    return lambda: (torch.ops.aten.embedding_dense_backward(dy, indices, s["table"], -1, False),)


LENGTH, OUT, TAPS = 50, 150, 3  # of conv1d_bench


def channels_first(x):
    """[rows, width] as PyTorch wants it, [samples, width, length]; made before the clock starts."""
    return x.view(-1, LENGTH, x.shape[-1]).transpose(1, 2).contiguous()


def conv1d(t, s):
    x, weight = channels_first(t["x"].view(-1, s["in"])), t["weight"].view(OUT, s["in"], TAPS)
    return lambda: (F.conv1d(x, weight, t["bias"], padding=1),)


def convolution_backward(dy, x, weight, mask):
    return torch.ops.aten.convolution_backward(dy, x, weight, [OUT], [1], [1], [1], False, [0], 1, mask)


def conv1d_backward_input(t, s):
    dy, weight = channels_first(t["dy"].view(-1, OUT)), t["weight"].view(OUT, s["in"], TAPS)
    x = dy.new_zeros(dy.shape[0], s["in"], LENGTH)
    return lambda: convolution_backward(dy, x, weight, [True, False, False])[:1]


def conv1d_backward_weight(t, s):
    dy, x = channels_first(t["dy"].view(-1, OUT)), channels_first(t["x"].view(-1, s["in"]))
    weight = dy.new_zeros(OUT, s["in"], TAPS)
    return lambda: convolution_backward(dy, x, weight, [False, True, True])[1:]


def adamw(t, s):
    """The step that the kernel makes is the tenth. Later calls go on from there: only the first is compared."""
    count = sum(name.startswith("p.") for name in t)
    parameters = [torch.nn.Parameter(t[f"p.{i}"].clone()) for i in range(count)]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01, fused=True)
    for i, p in enumerate(parameters):
        p.grad = t[f"g.{i}"]
        optimizer.state[p] = {"step": torch.tensor(9.0, device=p.device), "exp_avg": t[f"m.{i}"].clone(), "exp_avg_sq": t[f"v.{i}"].clone()}

    def step():
        optimizer.step()
        return [p.detach() for p in parameters]
    return step


def available_bytes(device):
    if device.type == "cuda":
        return torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
    return 1024 * int(re.search(r"MemAvailable: *(\d+)", pathlib.Path("/proc/meminfo").read_text())[1])


MATRICES = 7  # [N, N] in f32 that an eager InfoNCE holds at its most: scores, log-softmax of rows and of columns, and their gradients
TEMPERATURE = 0.07  # of info_nce_loss_bench


def info_nce(symmetric, dtype):
    """Loss and both gradients by cross-entropy over the scores of all pairs, whose factors, and so the scores, are rounded to dtype."""
    def make(t, s):
        a, b = (matrix(t, name, s["N"]).requires_grad_() for name in ("a", "b"))
        needed = 4 * MATRICES * s["N"] ** 2
        if needed > available_bytes(a.device):
            raise LeftOut(f"its matrices need {needed / 1e9:.0f} GB, {available_bytes(a.device) / 1e9:.0f} are available")
        targets = torch.arange(s["N"], device=a.device)

        def loss_of(a, b):
            scores = (a.to(dtype) @ b.to(dtype).t()).float() / TEMPERATURE
            loss = F.cross_entropy(scores, targets)
            return 0.5 * (loss + F.cross_entropy(scores.t(), targets)) if symmetric else loss

        def step_with(loss_function):
            def step():
                loss = loss_function(a, b)
                return (loss, *torch.autograd.grad(loss, (a, b)))
            return step
        step = step_with(loss_of)
        step.compiled = lambda: step_with(torch.compile(loss_of))
        return step
    return make


def in_kernels_order(name, results, tensors):
    """Those of conv1d [samples, length, width]; of attention packed, dkey beside dvalue."""
    if name.startswith(("conv1d_forward", "conv1d_backward_input")):
        return [result.transpose(1, 2) for result in results]
    if not name.startswith("attention"):
        return results
    if results[0].dim() == 3:  # rows_by_head
        return [results[0]] + ([torch.stack(results[1:], 1)] if results[1:] else [])
    return [packed(result, tensors[offsets]) for result, offsets in zip(results, ("query_offsets", "key_offsets"))]


# Kernel (and form) -> family, expression. The results are compared in the order of the files' "out." names.
KERNELS = {
    "softmax_forward<f32>": ("softmax", softmax),
    "softmax_backward<f32>": ("softmax", softmax_backward),
    "layer_norm_forward<f32>": ("layer_norm", layer_norm),
    "layer_norm_backward<f32>": ("layer_norm", layer_norm_backward),
    "linear_forward<f32>/gelu": ("linear", linear_gelu),
    "activation_forward<f32>/gelu": ("elementwise", unary(F.gelu)),
    "activation_forward<f32>/tanh": ("elementwise", unary(torch.tanh)),
    "activation_forward<f32>/exp": ("elementwise", unary(torch.exp)),
    "sum_all<f32>": ("reduce", sums(None)),
    "sum_over_rows<f32>": ("reduce", sums(0)),
    "sum_over_columns<f32>": ("reduce", sums(1)),
    "gemm<f32>": ("gemm", gemm),
    "attention_forward<f32>": ("attention", attention),
    "attention_backward<f32>": ("attention", attention_backward),
    "attention_forward<bf16>": ("attention", attention),
    "attention_backward<bf16>": ("attention", attention_backward),
    "attention_forward<f32>/varied": ("attention", attention),
    "attention_backward<f32>/varied": ("attention", attention_backward),
    "attention_forward<bf16>/varied": ("attention", attention),
    "attention_backward<bf16>/varied": ("attention", attention_backward),
    "cross_entropy<f32>": ("loss_kernels", cross_entropy),
    "embedding_forward<f32>": ("embedding", embedding),
    "embedding_backward<f32>": ("embedding", embedding_backward),
    "conv1d_forward<f32>": ("conv1d", conv1d),
    "conv1d_backward_input<f32>": ("conv1d", conv1d_backward_input),
    "conv1d_backward_weight<f32>": ("conv1d", conv1d_backward_weight),
    "adamw_step<f32>": ("adamw", adamw),
    "info_nce_loss<f32>/symmetric": ("info_nce_loss", info_nce(True, torch.float32)),
    "info_nce_loss<f32>/one_way": ("info_nce_loss", info_nce(False, torch.float32)),
    "info_nce_loss<bf16>/symmetric": ("info_nce_loss", info_nce(True, torch.bfloat16)),
    "info_nce_loss<bf16>/one_way": ("info_nce_loss", info_nce(False, torch.bfloat16)),
}
NOT_PLAIN = ("attention_backward", "adamw")  # no function that could be compiled or captured
BY_AUTOGRAD = ("attention_backward", "info_nce_loss")


def exported(options, device, folder):
    """Lets each family's program run its cases that have an expression on the device, and write them; yields (kernel, sizes text, file)."""
    for family in dict.fromkeys(family for family, _ in KERNELS.values()):
        program = pathlib.Path(options.programs) / f"{family}_bench"
        if (options.family and family not in options.family) or not program.exists():
            continue
        names = "|".join(re.escape(name).replace("/", f"/{device}/", 1) if "/" in name else re.escape(name) + f"/{device}/[^/]*:"
                         for name, (of, _) in KERNELS.items() if of == family)
        command = [program, f"--devices={device}", f"--export={folder}", f"--benchmark_filter=^({names})"] + ["--quick"] * options.quick
        run = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if run.returncode != 0:
            sys.exit(f"{program} fails: {run.stderr.strip()[-400:]}")
        for file in sorted(pathlib.Path(folder).glob("*.safetensors"), key=lambda f: f.stat().st_mtime_ns):
            parts = file.name.removesuffix(".safetensors").split("%")
            kernel = "/".join([parts[0]] + [p for p in parts[2:] if ":" not in p])
            if re.search(options.filter, "/".join(parts)):
                yield kernel, "/".join(p for p in parts[2:] if ":" in p), file
            file.unlink()


def difference(name, results, expected):
    """The largest, NaN where there is one: max() would lose it. Sums are the first elements of an array that has room for more."""
    differences = []
    for result, wanted in zip(results, expected, strict=True):
        result = result.reshape(-1).double().cpu()
        wanted = wanted.reshape(-1)[: result.numel() if name.startswith("sum_") else None].double()
        differences.append((result - wanted).abs().max() / wanted.abs().max().clamp(min=1e-30))
    return torch.stack(differences).max().item()


def captured(call):
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = call()

    def replay():
        graph.replay()
        return results
    return replay


def ways_of_attention(name, make, device, suffix):
    """Each backend on a GPU; of samples that vary in length also the forms without padding. Those that take the case."""
    makers = {backend: (kernel, make) for backend, kernel in BACKENDS.items()} if device == "cuda" else {}
    if name.endswith("varied"):
        every = [*BACKENDS.values()] if device == "cuda" else [SDPBackend.MATH]
        makers["jagged"] = (every, lambda: make(attention_jagged))
        if device == "cuda" and varlen_attn is not None:
            makers["varlen"] = (every, lambda: make(attention_varlen))
    for place, (backends, make_call) in makers.items():
        with sdpa_kernel(backends):
            try:
                call = make_call()
                call()
            except torch.OutOfMemoryError:
                raise
            except (RuntimeError, ValueError) as why:  # it takes no such type, width or mask
                print(f"{name}: torch_{place}{suffix} is left out: {str(why).splitlines()[0]}", file=sys.stderr)
                continue
            yield f"torch_{place}{suffix}", call


def ways(name, make, device, compiled):
    """(place, function)"""
    suffix = "@cuda" if device == "cuda" else ""
    call = make()
    yield "torch_eager" + suffix, call
    if name.startswith("attention"):
        yield from ways_of_attention(name, make, device, suffix)
    if name.startswith(NOT_PLAIN):
        return
    if compiled:
        yield "torch_compiled" + suffix, call.compiled() if hasattr(call, "compiled") else torch.compile(call)
    if device == "cuda":
        yield "torch_graph" + suffix, captured(call)


def seconds_of(call, budget, device):
    """Of a call: the mean over as many as fit the budget, after some that warm up."""
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    for _ in range(3):
        call()
    wait()
    count, batch, start = 0, 1, time.perf_counter()
    while True:
        for _ in range(batch):
            call()
        wait()
        count += batch
        elapsed = time.perf_counter() - start
        if elapsed >= budget:
            return elapsed / count, count
        batch = min(2 * batch, 1000)


def timed(entry_of, kernel, function, tensors, expected, device, options):
    """One entry a repetition; or one that says that the results differ."""
    worst = difference(kernel, in_kernels_order(kernel, function(), tensors), expected)
    if not worst <= next(allowed for dtype, allowed in TOLERANCES.items() if dtype in kernel):
        yield entry_of(error_occurred=True, error_message=f"PyTorch's result differs by {worst:.1e}")
        return
    for repetition in range(options.repetitions):
        seconds, count = seconds_of(function, options.seconds, device)
        yield entry_of(repetition_index=repetition, iterations=count, real_time=1e6 * seconds, cpu_time=1e6 * seconds, time_unit="us")


def entries(kernel, sizes, file, device, options):
    """Google Benchmark's entries for one case."""
    values = {name: int(value) for name, value in (part.split(":") for part in sizes.split("/"))}
    form = "".join("/" + part for part in kernel.split("/")[1:])
    tensors = {name: tensor.to(device) for name, tensor in load_file(file).items()}
    expected = [tensors[name].cpu() for name in tensors_in_order(tensors)]
    place = "torch_eager" + "@cuda" * (device == "cuda")

    def entry_of(**more):
        name = f"{kernel.split('/')[0]}/{place}{form}/{sizes}/real_time"
        return {"name": name, "run_name": name, "run_type": "iteration", "repetitions": options.repetitions, **more}

    def left_out(why):
        return entry_of(repetition_index=0, iterations=0, real_time=0, cpu_time=0, time_unit="us", label=f"not run: {why}")
    try:
        with torch.enable_grad() if kernel.startswith(BY_AUTOGRAD) else torch.no_grad():
            for place, function in ways(kernel, lambda expression=KERNELS[kernel][1]: expression(tensors, values), device, options.compile):
                yield from timed(entry_of, kernel, function, tensors, expected, device, options)
    except LeftOut as why:
        yield left_out(why)
    except torch.OutOfMemoryError:  # which ends the case: what comes after needs no less
        yield left_out("no memory for its matrices, nor for those of the ways after it")


def step_entries(options):
    """Those of the whole training step on the CPU, compared first as train_step.py does, which has the GPU's."""
    program = pathlib.Path(options.programs) / "train_step_bench"
    if (options.family and "train_step" not in options.family) or not program.exists():
        return
    step = argparse.Namespace(binary=program, device="cpu", precision="f32", torch_device=torch.device("cpu"))
    threads = torch.get_num_threads()
    for case in ["mosi_lengths"] + ["all_50_steps"] * (not options.quick):
        names = {t: f"train_step/torch_eager/{case}/samples:48/threads:{t}" for t in dict.fromkeys((1, threads))}
        if not any(re.search(options.filter, name) for name in names.values()):
            continue
        with contextlib.redirect_stdout(sys.stderr):  # ends the program where results differ
            tensors, _ = train_step.checked_tensors(train_step.Engine(step), step, case, 48)
        for count, name in names.items():
            torch.set_num_threads(count)
            peer = train_step.TorchStep(tensors, step, "eager")
            for repetition in range(options.repetitions):
                seconds = peer.seconds(options.seconds)
                yield {"name": name, "run_name": name, "run_type": "iteration", "repetitions": options.repetitions, "repetition_index": repetition,
                       "iterations": 1, "real_time": 1e6 * seconds, "cpu_time": 1e6 * seconds, "time_unit": "us"}
        torch.set_num_threads(threads)


def tensors_in_order(tensors):
    """Names of the results in the order of the expression's: PyTorch's own order of gradients."""
    order = ["out." + name for name in ("y", "value", "values", "da", "db", "derivatives", "dx", "dquery", "dkey_value", "dtable", "dgamma", "dbeta", "dweight", "dbias")]
    names = [name for name in tensors if name.startswith("out.")]
    return sorted(names, key=lambda n: order.index(n) if n in order else len(order) + int(n.rsplit(".", 1)[1]))


def parse_options():
    parser = argparse.ArgumentParser()
    parser.add_argument("programs")
    parser.add_argument("--family", nargs="*", default=[])
    parser.add_argument("--filter", default="")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--compile", action="store_true", help="time torch.compile too (it needs a C++ compiler, and time)")
    parser.add_argument("--seconds", type=float, default=0.1)
    parser.add_argument("--repetitions", type=int, default=1)
    options = parser.parse_args()
    options.devices = ["cpu"] + ["cuda"] * torch.cuda.is_available()
    return options


def main():
    options = parse_options()
    torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32 = True, False
    torch.set_num_threads(int(os.environ.get("CMIR_THREADS", os.cpu_count())))
    print('{"context": ' + json.dumps({"torch": torch.__version__, "torch_threads": torch.get_num_threads()}) + ',\n"benchmarks": [')
    wrong, comma = False, ""
    with tempfile.TemporaryDirectory() as folder:
        of_kernels = (entry for device in options.devices for case in exported(options, device, folder)
                      for entry in entries(*case, device, options))
        for entry in itertools.chain(of_kernels, step_entries(options)):
            wrong = wrong or "error_occurred" in entry
            print(comma + json.dumps(entry), flush=True)
            comma = ","
    print("]}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
