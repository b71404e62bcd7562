"""What this machine does in a second, by class of operation, for `sirocco plan`: left in the user's cache directory as JSON.

The classes are those of crates/plan/src/flops.rs. Products and memory are measured with the libtorch that the trainer links, attention and the
process itself with the trainer; what a whole step reaches of them is set by one step, LoRA on sequences of 512 tokens, on one rank with all cores
and on ranks of one core each, and by no other.
"""

import datetime
import json
import os
import pathlib
import re
import statistics
import sys
import tempfile
import time

from common import RUN_FILE, Clock, Section, on_ranks, run, run_json, say, table

FORMAT = 2
CORES = os.cpu_count()
TOKENS = 1024
PLACE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "sirocco" / "calibration.json"

# The step that the trainer's bench measures, for `sirocco plan`. The data is not there: whole sequences, every token a target.
SETTINGS = {"name": "calibration", "data": "no-data.jsonl", "steps": 1, "batch": 4, "micro_batch": 4}


def bench(args, ranks=1, **options):
    """One report of the trainer's bench on 4 × 512 tokens in bf16, on all cores."""
    words = [args.bin / "sirocco-train", "bench", "--model", args.model, "--dtype", "bf16", "--sequences", "4", "--length", "512"]
    words += ["--threads", str(max(CORES // ranks, 1)), "--steps", "2" if args.quick else "5"]
    for name, value in options.items():
        words += [f"--{name}"] if value is True else [f"--{name}", str(value)]
    return run_json(on_ranks(ranks, words), {"OMP_NUM_THREADS": str(max(CORES // ranks, 1))})


def shapes(sizes):
    """`(outputs, inputs)` of the seven weights of a block."""
    width, feed_forward = sizes["hidden_size"], sizes["intermediate_size"]
    head = sizes.get("head_dim") or width // sizes["num_attention_heads"]
    queries, keys = sizes["num_attention_heads"] * head, sizes["num_key_value_heads"] * head
    return [(queries, width), (keys, width), (keys, width), (width, queries), (feed_forward, width), (feed_forward, width), (width, feed_forward)]


def best(work, quick):
    """Seconds of one turn: the shortest of several, after one that does not count; what else runs only makes turns longer."""
    work()
    seconds = []
    for _ in range(5 if quick else 25):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def products(torch, sizes, dtype, quick):
    """10⁹ operations per second over a block's products: with the weights, and those that make their gradients."""
    forward = backward = operations = 0.0
    for outputs, inputs in shapes(sizes):
        x, w, dy = torch.randn(TOKENS, inputs, dtype=dtype), torch.randn(outputs, inputs, dtype=dtype), torch.randn(TOKENS, outputs, dtype=dtype)
        operations += 4.0 * TOKENS * outputs * inputs
        forward += best(lambda: x @ w.T, quick) + best(lambda: dy @ w, quick)
        backward += best(lambda: dy.T @ x, quick)
    return {"products_gflops": CORES * operations / forward / 1e9, "gradients_gflops": CORES * operations / 2 / backward / 1e9}


def factors(torch, sizes, quick):
    """10⁹ bytes per second of the products with factors of rank 16, by the reading and writing that cannot be less: input and output once
    ahead; the output's gradient twice, the input and its gradient once back. What the factors' terms add to the product with W is in it."""
    seconds = moved = 0.0
    for outputs, inputs in shapes(sizes):
        x, dy, a, b = (torch.randn(*shape, dtype=torch.bfloat16) for shape in ((TOKENS, inputs), (TOKENS, outputs), (16, inputs), (outputs, 16)))
        low = x @ a.T
        work = [lambda: x @ a.T * 2.0, lambda: low @ b.T, lambda: dy @ b * 2.0, lambda: dy.T @ low, lambda: low.T @ x, lambda: low @ a]
        seconds += sum(best(turn, quick) for turn in work)
        moved += 3.0 * (inputs + outputs) * TOKENS * 2
    return CORES * moved / seconds / 1e9


def memory(torch, quick):
    """10⁹ bytes per second of a sum of two arrays that no cache holds: two are read, one is written."""
    torch.set_num_threads(CORES)
    a, b, c = (torch.ones(1 << 25) for _ in range(3))
    return 3 * a.numel() * 4 / best(lambda: torch.add(a, b, out=c), quick) / 1e9


def attention(args, sizes):
    """From a step with documents of 512 tokens beside one with documents of 64: seconds of attention in the first, 10⁹ operations of it, and
    that step's report."""
    long, short = bench(args), bench(args, document=64)
    head = sizes.get("head_dim") or sizes["hidden_size"] // sizes["num_attention_heads"]
    each = 4 * sizes["num_attention_heads"] * head * 3.5 * sizes["num_hidden_layers"] * 4 * 512
    longer = statistics.median(long["seconds_per_step"]) - statistics.median(short["seconds_per_step"])
    attended, fewer = (512 + 128) / 2, (64 + 1) / 2
    if longer <= 0:
        sys.exit("calibration: long documents took no longer than short ones: something else ran, too, and nothing was written")
    seconds = longer * attended / (attended - fewer)
    return seconds, each * attended / 1e9, long


def base(report):
    """What a rank has before it loads a model: its own memory then, and the pages of programs and libraries that a step touches."""
    resident = report["ranks"][0]["resident"] if "ranks" in report else report["resident"]
    return resident["before"]["anonymous"] + resident["end"]["file"] + resident["end"]["shared"]


def expected(args, found):
    """Seconds of the same step without attention, if it reached all that its parts reach alone: `sirocco plan` is asked with a share of 1."""
    with tempfile.TemporaryDirectory() as directory:
        cache = pathlib.Path(directory) / "sirocco"
        cache.mkdir()
        (cache / "calibration.json").write_text(json.dumps({**found, "attention_gflops": 1e9, "step_share": 1.0, "thread_share": 1.0}), encoding="utf-8")
        (pathlib.Path(directory) / "run.toml").write_text(RUN_FILE.format(model=args.model.resolve(), **SETTINGS), encoding="utf-8")
        plan = json.loads(run([args.bin / "sirocco", "plan", "run.toml", "--json"], {"XDG_CACHE_HOME": directory}, directory))
    return plan["as_typed"]["step"]["seconds"]


def disk(args):
    """10⁹ bytes per second of a checkpoint that somebody waits for."""
    with tempfile.TemporaryDirectory(dir=args.scratch) as directory:
        rates = [run_json([args.examples / "save_speed", directory, "400"])["bytes_per_s"] for _ in range(3)]
    return statistics.median(rates) / 1e9


def link(args):
    """10⁹ bytes per second of gradients summed over two ranks; measured between barriers, nothing else computing."""
    words = [args.bin / "sirocco-train", "bench", "--overlap", "--full", "--model", args.model, "--threads", "1", "--steps", "1"]
    report = run_json(on_ranks(2, [*words, "--sequences", "1", "--length", "64", "--dtype", "bf16"]), {"OMP_NUM_THREADS": "1"})
    return report["gradient_bytes"] / statistics.median(report["communication_s"]) / 1e9


def measure(args):
    """Everything, and the file."""
    import torch  # noqa: PLC0415  the other benches do not need it in this process

    # One thread, counted for each core: several that wait for each other measure what else runs, too. What is lost is in the share.
    torch.set_num_threads(1)
    clock, sizes = Clock(), json.loads((args.model / "config.json").read_text(encoding="utf-8"))
    say("calibration: products and memory")
    with open("/proc/cpuinfo", encoding="utf-8") as lines:
        processor = re.search(r"model name\s*: (.*)", lines.read())
    found = {
        "format": FORMAT,
        "measured": f"{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M} UTC",
        "processor": processor[1] if processor else os.uname().machine,
        "cores": CORES,
        "bf16": products(torch, sizes, torch.bfloat16, args.quick),
        "fp32": products(torch, sizes, torch.float32, args.quick),
        "factors_gb_s": factors(torch, sizes, args.quick),
        "memory_gb_s": memory(torch, args.quick),
    }
    clock.note()
    say("calibration: attention, steps, ranks, the disk")
    attending, operations, step = attention(args, sizes)
    apart = bench(args, ranks=CORES, dp=CORES) if CORES > 1 else step
    found["link_gb_s"], found["disk_gb_s"], found["base_bytes"] = link(args), disk(args), base(apart)
    measured = statistics.median(step["seconds_per_step"])
    # Attention was measured inside of steps, so it has the share in it already.
    found["step_share"] = expected(args, found) / (measured - attending)
    found["attention_gflops"] = operations / attending / found["step_share"]
    together = statistics.median(apart["seconds_per_step"])
    found["thread_share"] = found["step_share"] * CORES * measured / together
    if not (0 < found["step_share"] <= 1 and 0 < found["thread_share"] <= 1):
        sys.exit(f"calibration: a step takes {measured:.2f} s, less than its parts alone: something else ran, too, and nothing was written")
    PLACE.parent.mkdir(parents=True, exist_ok=True)
    PLACE.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    rows = [
        ["products with weights, bf16", f"{found['bf16']['products_gflops']:.0f} GFLOP/s"],
        ["products that make gradients, bf16", f"{found['bf16']['gradients_gflops']:.0f} GFLOP/s"],
        ["products with weights, fp32", f"{found['fp32']['products_gflops']:.0f} GFLOP/s"],
        ["products that make gradients, fp32", f"{found['fp32']['gradients_gflops']:.0f} GFLOP/s"],
        ["attention, from steps with documents of 512 and of 64 tokens, alone", f"{found['attention_gflops']:.0f} GFLOP/s"],
        ["products with factors of LoRA", f"{found['factors_gb_s']:.1f} GB/s"],
        ["memory, a sum of two arrays", f"{found['memory_gb_s']:.1f} GB/s"],
        ["from rank to rank", f"{found['link_gb_s']:.1f} GB/s"],
        ["a checkpoint to the disk", f"{found['disk_gb_s']:.2f} GB/s"],
        ["a rank before it loads a model", f"{found['base_bytes'] / 1e6:.0f} MB"],
        [f"of these, a LoRA step of 4 × 512 tokens ({measured:.2f} s) reaches on one rank with all cores", f"{found['step_share']:.2f}"],
        [f"and of {CORES} such steps on ranks of one core each ({together:.2f} s)", f"{found['thread_share']:.2f}"],
    ]
    text = f"All cores together. {clock}.\n\n{table(['what', 'measured'], rows)}\n\n`sirocco plan` reads it from `sirocco/calibration.json` in the user's cache directory."
    return Section("What this machine does in a second", [], text)
