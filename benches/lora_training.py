#!/usr/bin/env python3
"""LoRA training speed and memory, Sirocco against Transformers + PEFT, in turn on the same machine; prints a report in Markdown.

    benches/lora_training.py --bin DIR [--model DIR] [--rounds N] [--steps N] [--threads N]

Each round runs both programs one after the other, in alternating order: 4 sequences of 512 random tokens, every token a target, LoRA of
rank 16 on all seven projections, bf16 base, forward, backward and AdamW. The ratio is that of the medians over all measured steps.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
TOKENS = 4 * 512


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", type=pathlib.Path, required=True, help="where the programs are")
    parser.add_argument("--model", type=pathlib.Path, default=pathlib.Path("models/smollm2-135m"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=3, help="measured steps of each program in a round, after one to warm up")
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


# As `sirocco train` starts its ranks (crates/config/src/environment.rs says why). PEFT runs with the same spin count; its allocator is glibc's.
ENVIRONMENT = {**os.environ, "GOMP_SPINCOUNT": "1000", "MIMALLOC_PURGE_DELAY": "-1"}


def measure(command):
    """Runs a program that prints one JSON line and returns it."""
    done = subprocess.run(command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{command[0]} ended with {done.returncode}:\n{done.stderr}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def commands(args):
    """The same work for each program."""
    same = ["--model", str(args.model), "--sequences", "4", "--length", "512", "--rank", "16"]
    same += ["--threads", str(args.threads), "--steps", str(args.steps), "--dtype", "bf16"]
    return {
        "Sirocco": [str(args.bin / "sirocco-train"), "bench", *same],
        "Transformers + PEFT": [sys.executable, str(HERE / "peers" / "peft_lora.py"), *same],
    }


def cpu():
    """The processor's own name."""
    with open("/proc/cpuinfo", encoding="utf-8") as lines:
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores"


def main():
    args = arguments()
    runs = {name: [] for name in commands(args)}
    loads = [os.getloadavg()[0]]
    for turn in range(args.rounds):
        for name in sorted(runs, reverse=turn % 2 == 1):
            print(f"round {turn + 1} of {args.rounds}: {name}", file=sys.stderr)
            runs[name].append(measure(commands(args)[name]))
        loads.append(os.getloadavg()[0])
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=HERE, check=False).stdout.strip()
    rows = {}
    for name, results in runs.items():
        seconds = [second for result in results for second in result["seconds_per_step"]]
        rows[name] = (TOKENS / statistics.median(seconds), max(result["peak_rss_bytes"] for result in results), sorted(seconds))
    ours, peer = rows["Sirocco"], rows["Transformers + PEFT"]
    print(f"# LoRA training, {datetime.date.today().isoformat()}\n")
    print(f"{cpu()}; {args.threads} threads; commit {commit}; load average {', '.join(f'{load:.1f}' for load in loads)}\n")
    print("| program | tokens/s (median) | peak memory | seconds per step, sorted |\n| --- | --: | --: | --- |")
    for name, (speed, memory, seconds) in rows.items():
        print(f"| {name} | {speed:.0f} | {memory / 1e9:.2f} GB | {', '.join(f'{second:.2f}' for second in seconds)} |")
    print(f"| **ratio** | **{ours[0] / peer[0]:.2f}** (at least 1.5) | **{ours[1] / peer[1]:.2f}** (at most 0.5) | |\n")
    versions = runs["Transformers + PEFT"][-1].get("versions")
    print(f"Peer: {json.dumps(versions)}")


if __name__ == "__main__":
    main()
