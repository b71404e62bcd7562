#!/usr/bin/env python3
"""LoRA training speed and memory, Sirocco against Transformers + PEFT, in turn on the same machine; prints a report in Markdown.

    benches/lora_training.py --bin DIR [--model DIR] [--rounds N] [--steps N] [--threads N]

Each round runs both programs one after the other, in alternating order: 4 sequences of 512 random tokens, every token a target, LoRA of
rank 16 on all seven projections, bf16 base, forward, backward and AdamW. The ratio is that of the medians over all measured steps.
"""

import argparse
import json
import pathlib
import statistics
import sys

from common import HERE, Clock, Row, Section, facts, listed, run_json, say, table

TOKENS = 4 * 512
PEER = "Transformers + PEFT"


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", type=pathlib.Path, required=True, help="where the programs are")
    parser.add_argument("--model", type=pathlib.Path, default=pathlib.Path("models/smollm2-135m"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=3, help="measured steps of each program in a round, after one to warm up")
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def commands(args, steps, threads):
    """The same work for each program."""
    same = ["--model", str(args.model), "--sequences", "4", "--length", "512", "--rank", "16"]
    same += ["--threads", str(threads), "--steps", str(steps), "--dtype", "bf16"]
    return {
        "Sirocco": [str(args.bin / "sirocco-train"), "bench", *same],
        PEER: [sys.executable, str(HERE / "peers" / "peft_lora.py"), *same],
    }


def measure(args, rounds=3, steps=3, threads=2):
    """Both programs in turn."""
    programs, clock = commands(args, steps, threads), Clock()
    runs = {name: [] for name in programs}
    for turn in range(rounds):
        for name in sorted(runs, reverse=turn % 2 == 1):
            say(f"LoRA training: round {turn + 1} of {rounds}, {name}")
            runs[name].append(run_json(programs[name]))
        clock.note()
    speed, memory, lines = {}, {}, []
    for name, results in runs.items():
        seconds = sorted(second for result in results for second in result["seconds_per_step"])
        speed[name], memory[name] = TOKENS / statistics.median(seconds), max(result["peak_rss_bytes"] for result in results)
        lines.append([name, f"{speed[name]:.0f}", f"{memory[name] / 1e9:.2f} GB", listed(seconds)])
    rows = [
        Row("LoRA training", f"{speed['Sirocco']:.0f} tokens/s", f"PEFT {speed[PEER]:.0f} tokens/s", speed["Sirocco"] / speed[PEER], "≥ 1.50"),
        Row("its peak memory", f"{memory['Sirocco'] / 1e9:.2f} GB", f"PEFT {memory[PEER] / 1e9:.2f} GB", memory["Sirocco"] / memory[PEER], "≤ 0.50"),
    ]
    lines.append(["**ratio**", f"**{rows[0].ratio:.2f}**", f"**{rows[1].ratio:.2f}**", ""])
    text = f"4 × 512 random tokens, {threads} threads. Peer: {json.dumps(runs[PEER][-1].get('versions'))}. {clock}.\n\n"
    text += table(["program", "tokens/s, median", "peak memory", "seconds per step, sorted"], lines)
    return Section("LoRA training beside Transformers + PEFT", rows, text)


def main():
    """Prints the report."""
    args = arguments()
    section = measure(args, args.rounds, args.steps, args.threads)
    print(f"# {section.title}\n\n" + "\n".join(f"- {fact}" for fact in facts(args.bin)) + f"\n\n{section.text}")


if __name__ == "__main__":
    main()
