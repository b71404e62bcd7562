#!/usr/bin/env python3
"""Measures what is said of training on several ranks; prints one table with ratios and writes a dated report.

    benches/scaling.py --bin DIR [--only NAME …] [--quick] [--reports DIR]

NAME: overlap, memory, saving, disk, lora, calibration, planning, custody. `--quick` rehearses: few steps, numbers of no worth. What counts are ratios to what ran beside;
a machine that does something else meanwhile spoils them, so the report says how busy it was. Ends with 1 where a bound does not hold.
"""

import argparse
import datetime
import pathlib
import sys

import calibration
import custody
import disk
import fsdp_memory
import lora_training
import overlap
import planning
import saving
from common import BUSY, HERE, facts, load, say, table

NO_GPU = "| Mistral-7B LoRA and the largest full fine-tuning on an H200 | | | | | no GPU was at hand |"


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", type=pathlib.Path, required=True, help="where the programs are")
    parser.add_argument("--examples", type=pathlib.Path, help="where save_speed is (default: examples/ beside the programs)")
    parser.add_argument("--model", type=pathlib.Path, default=HERE.parent / "models/smollm2-135m")
    parser.add_argument("--data", type=pathlib.Path, default=HERE.parent / "data/darija", help="where train.jsonl is")
    parser.add_argument("--scratch", type=pathlib.Path, help="a directory on the disk to be measured (default: the system's temporary one)")
    parser.add_argument("--reports", type=pathlib.Path, default=HERE / "reports")
    parser.add_argument("--without", type=pathlib.Path, help="programs of a version before custody, for that bench")
    parser.add_argument("--only", nargs="+", choices=["overlap", "memory", "saving", "disk", "lora", "calibration", "planning", "custody"])
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    args.repository, args.bin = HERE.parent, args.bin.resolve()
    args.examples = args.examples or args.bin / "examples"
    needed = (args.bin / "sirocco-train", args.examples / "save_speed", args.model, args.data / "train.jsonl")
    missing = [path for path in needed if not path.exists()]
    if missing:
        parser.error(f"{missing[0]} is missing: run `make demo` first, and this through `make bench`")
    return args


def sections(args, pictures):
    """Each bench in turn."""
    benches = {
        "overlap": lambda: overlap.measure(args, pictures),
        "memory": lambda: fsdp_memory.measure(args),
        "saving": lambda: saving.measure(args),
        "disk": lambda: disk.measure(args),
        "lora": lambda: lora_training.measure(args, *((1, 1) if args.quick else (2, 3))),
        "calibration": lambda: calibration.measure(args),
        "planning": lambda: planning.measure(args),
        "custody": lambda: custody.measure(args),
    }
    return [bench() for name, bench in benches.items() if name in (args.only or benches)]


def summary(found):
    """The table of all rows."""
    rows = []
    for row in (row for section in found for row in section.rows):
        verdict = {True: "holds", False: "**missed**", None: ""}[row.holds()]
        ratio = "" if row.ratio is None else f"**{row.ratio:.2f}**"
        rows.append([row.name, row.measured, row.beside, ratio, row.bound, verdict])
    return table(["what", "measured", "beside", "ratio", "bound", ""], rows) + "\n" + NO_GPU


def report(args, found, begun, known):
    """The whole report; what was tried is kept by hand in tried.md."""
    command = " ".join(["make bench  # benches/scaling.py", *(["--quick"] if args.quick else []), *(["--only", *args.only] if args.only else [])])
    parts = [f"# Training on several ranks, {begun:%Y-%m-%d}", "\n".join(f"- {fact}" for fact in known), f"```\n{command}\n```"]
    parts += [summary(found)] + [f"## {section.title}\n\n{section.text}" for section in found]
    parts += [(HERE / "tried.md").read_text(encoding="utf-8").strip()]
    return "\n\n".join(parts) + "\n"


def main():
    """Measures, prints, writes."""
    args, begun = arguments(), datetime.datetime.now(datetime.timezone.utc)
    if load() > BUSY:
        say(f"the load average is {load():.1f}: something else runs, and the numbers will say more of it than of this")
    # A part of the table does not take the place of a whole one.
    name = f"{begun:%Y-%m-%d}-{'-'.join(args.only or ['scaling'])}"
    args.reports.mkdir(parents=True, exist_ok=True)

    def pictures(which, text):
        path = args.reports / f"{name}-{which}.svg"
        path.write_text(text, encoding="utf-8")
        return path.name

    # Before the reports, which are tracked, change.
    known = facts(args.bin)
    found = sections(args, pictures)
    (args.reports / f"{name}.md").write_text(report(args, found, begun, known), encoding="utf-8")
    print(summary(found))
    say(f"report: {args.reports / name}.md")
    return 0 if all(row.holds() is not False for section in found for row in section.rows) else 1


if __name__ == "__main__":
    sys.exit(main())
