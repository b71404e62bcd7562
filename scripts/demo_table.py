#!/usr/bin/env python3
"""Prints what `make demo` measured.

    scripts/demo_table.py samples EVAL.json                 loss and a few translations of one evaluation
    scripts/demo_table.py summary NOTES RUN_DIR ADAPTER_DIR the table at the end; NOTES holds before.json, after.json and stages
"""

import json
import os
import sys


def load(*path):
    with open(os.path.join(*path), encoding="utf-8") as file:
        return json.load(file)


def samples(path):
    result = load(path)
    print(f"\nheld-out loss per target token: {result['total']['loss']:.4f}\n")
    for sample in result["samples"]:
        print(f"  {sample['prompt']}")
        print(f"    a person:  {sample['reference']}")
        print(f"    the model: {' '.join(sample['answer'].split())[:150]}\n")


def steps_of(run):
    with open(os.path.join(run, "metrics.jsonl"), encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return [row for row in rows if "loss" in row]


def summary(notes, run, adapter):
    before, after = (load(notes, name)["total"]["loss"] for name in ("before.json", "after.json"))
    steps = steps_of(run)
    tokens, seconds = sum(row["tokens"] for row in steps), sum(row["seconds"] for row in steps)
    size = sum(entry.stat().st_size for entry in os.scandir(adapter) if entry.name.endswith(".safetensors"))
    rows = [
        ("steps", f"{len(steps)}"),
        ("tokens trained on", f"{tokens:,}, of which {sum(row['target_tokens'] for row in steps):,} are targets"),
        ("training speed", f"{tokens / seconds:,.0f} tokens/s over all ranks"),
        ("held-out loss per target token", f"{before:.4f} before, {after:.4f} after ({100 * (after / before - 1):+.1f} %)"),
        ("adapter", f"{size / 1e6:.1f} MB in {adapter}"),
    ]
    with open(os.path.join(notes, "stages"), encoding="utf-8") as lines:
        stages = [line.rstrip("\n").split("\t") for line in lines]
    rows += [(f"  {title.split(':')[0]}", f"{seconds} s") for title, seconds in stages]
    rows.append(("all stages", f"{sum(int(seconds) for _, seconds in stages)} s, building not counted"))
    width = max(len(name) for name, _ in rows)
    print("\n".join(f"  {name:<{width}}  {value}" for name, value in rows))


if __name__ == "__main__":
    {"samples": samples, "summary": summary}[sys.argv[1]](*sys.argv[2:])
