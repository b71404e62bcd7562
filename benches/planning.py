"""What `sirocco plan` says a step takes and a rank needs, beside what `sirocco train` measures: the table of docs/plan.md.

Every run goes through its run file and the two commands, as a person's would. The plan knows the machine from sirocco/calibration.json in the user's
cache directory, which `--only calibration` writes, from steps like those of the two rows that say so.
"""

import json
import pathlib
import statistics
import tempfile

from common import ENVIRONMENT, RUN_FILE, Clock, Row, Section, listed, run, say, table

LONG = ["data.sequence_length=2048", "train.global_batch=4", "train.micro_batch=1"]
FULL = ["method.kind=full", "train.micro_batch=1"]

# Name, and the settings that differ from the run file's.
RUNS = [
    ("LoRA, 512 tokens, one rank (calibrates)", []),
    ("LoRA, 512 tokens, recompute attention", ["parallel.recompute=attention"]),
    ("LoRA, 512 tokens, recompute full", ["parallel.recompute=full"]),
    ("LoRA, 512 tokens, dp = 2 (calibrates)", ["parallel.dp=2"]),
    ("LoRA, 512 tokens, fsdp = 2", ["parallel.fsdp=2"]),
    ("LoRA, 512 tokens, pp = 2", ["parallel.pp=2"]),
    ("LoRA, 2048 tokens, one rank", LONG),
    ("LoRA, 2048 tokens, dp = 2", [*LONG, "parallel.dp=2"]),
    ("LoRA, 2048 tokens, fsdp = 2, recompute full", [*LONG, "parallel.fsdp=2", "parallel.recompute=full"]),
    ("full, 512 tokens, one rank", FULL),
    ("full, 512 tokens, recompute full", [*FULL, "parallel.recompute=full"]),
    ("full, 512 tokens, dp = 2", [*FULL, "parallel.dp=2"]),
    ("full, 512 tokens, fsdp = 2", [*FULL, "parallel.fsdp=2"]),
    ("full, 2048 tokens, one rank, recompute full", [*FULL, *LONG, "parallel.recompute=full"]),
]


def texts(args, path):
    """Texts longer than any sequence, so that sequences are full and documents as long as they."""
    with open(args.data / "train.jsonl", encoding="utf-8") as lines:
        words = [message["content"] for line in lines for message in json.loads(line)["messages"]]
    long = "\n".join(words)
    pieces = [long[start : start + 100_000] for start in range(0, len(long), 100_000)]
    path.write_text("".join(json.dumps({"text": piece}, ensure_ascii=False) + "\n" for piece in pieces), encoding="utf-8")


def one(args, directory, number, changes):
    """Seconds of the plan and of each step but the first, bytes of the plan and of the largest rank."""
    options = [word for change in changes for word in ("--set", change)]
    environment = {key: value for key, value in ENVIRONMENT.items() if key not in ("GOMP_SPINCOUNT", "MIMALLOC_PURGE_DELAY")}
    plan = json.loads(run([args.bin / "sirocco", "plan", "run.toml", "--json", *options], environment, directory))["as_typed"]
    run([args.bin / "sirocco", "train", "run.toml", "--dir", f"run-{number}", *options], environment, directory)
    steps = [json.loads(line) for line in (directory / f"run-{number}/metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    steps = [step for step in steps if "loss" in step]
    return plan["step"]["seconds"], [step["seconds"] for step in steps[1:]], plan["memory_bytes"], max(step["peak_memory_bytes"] for step in steps)


def measure(args):
    """All runs, each once."""
    clock, rows, lines = Clock(), [], []
    with tempfile.TemporaryDirectory() as name:
        directory = pathlib.Path(name)
        texts(args, directory / "text.jsonl")
        steps = 2 if args.quick else 4
        settings = {"name": "planned", "data": "text.jsonl", "steps": steps, "batch": 8, "micro_batch": 2}
        (directory / "run.toml").write_text(RUN_FILE.format(model=args.model.resolve(), **settings), encoding="utf-8")
        for number, (what, changes) in enumerate(RUNS[:2] if args.quick else RUNS):
            say(f"planning: {what}")
            planned, measured, room, peak = one(args, directory, number, changes)
            median = statistics.median(measured)
            bound = "" if "calibrates" in what else "≤ 0.20"
            rows.append(Row(f"plan off by, seconds of a step: {what}", f"{median:.2f} s", f"{planned:.2f} s planned", abs(planned / median - 1), bound))
            rows.append(Row(f"plan off by, memory: {what}", f"{peak / 1e6:.0f} MB", f"{room / 1e6:.0f} MB planned", abs(room / peak - 1), "≤ 0.10"))
            say(f"  {median:.2f} s, {planned:.2f} s planned; {peak / 1e6:.0f} MB, {room / 1e6:.0f} MB planned")
            lines.append([what, f"{median:.2f} s", f"{planned:.2f} s", f"{planned / median - 1:+.0%}", listed(measured), f"{peak / 1e6:.0f} MB", f"{room / 1e6:.0f} MB", f"{room / peak - 1:+.0%}"])
            clock.note()
    head = ["run", "a step", "planned", "error", "each step", "peak of a rank", "planned", "error"]
    return Section("Plans beside runs", rows, f"{clock}.\n\n{table(head, lines)}")
