"""What saving adds to the steps of a real run: those during which a save starts, beside those during which nothing is being saved."""

import datetime
import json
import pathlib
import re
import statistics
import tempfile

from common import Clock, Row, Section, listed, quartiles, run, say, spread, table

BOUND = "≤ 1.05"
# Recipe, name, steps between two saves: the 1.6 GB of full fine-tuning take their time.
KINDS = (("lora", "LoRA", 4), ("full", "full fine-tuning", 10))
# Ranks of one machine with two cores: one rank with two threads, and two ranks with one thread each.
RANKS = (1, 2)


def train(args, kind, every, ranks, directory):
    """A run of `sirocco train` that saves every few steps."""
    saves = 1 if args.quick else 4
    settings = {
        "model.path": f'"{args.model.resolve()}"',
        "data.train": f'["{args.data.resolve() / "train.jsonl"}"]',
        "data.valid": "[]",
        "train.steps": every * saves + 2,
        "train.warmup_steps": 1,
        "checkpoint.every_steps": every,
        "checkpoint.keep": 1,
        "eval.every_steps": 0,
        "parallel.recompute": '"none"',
    }
    words = [args.bin / "sirocco", "train", f"configs/recipes/{kind}.toml", "--dir", directory, "--ranks", ranks]
    run(words + [word for name, value in settings.items() for word in ("--set", f"{name}={value}")], cwd=args.repository)


def steps(directory, every):
    """Of each step but the first: seconds from the end of the step before to its own end, and what was being saved meanwhile."""
    ends, published, found = {}, [], []
    moment = r"(?P<time>\S+Z)\s+INFO \S+ (?:step step=(?P<step>\d+) |checkpoint published step=(?P<published>\d+))"
    for line in (directory / "logs" / "rank-00000.log").read_text(encoding="utf-8").splitlines():
        if match := re.match(moment, line):
            time = datetime.datetime.fromisoformat(match["time"]).timestamp()
            if match["step"]:
                ends[int(match["step"])] = time
            else:
                published.append((int(match["published"]), time))
    tokens = {}
    for line in (directory / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        tokens[record["step"]] = record.get("tokens", 0)
    for step in range(2, max(ends) + 1):
        begin, saved = ends[step - 1], (step - 1) // every * every
        done = next((time for number, time in published if number == saved), None)
        state = "nothing"
        if saved and saved == step - 1:
            state = "starts"
        elif saved and (done is None or done > begin):
            state = "goes on"
        # Sequences are packed to nearly the same length; what differs is taken out.
        found.append((state, (ends[step] - begin) * tokens[1] / tokens[step]))
    return found


def ratios(found):
    """Of each step in which a save starts: its seconds beside the median of the newest steps before it in which nothing was saved. Steps grow
    faster over a run, so what is compared is near."""
    plain, since, all_ratios = [], False, []
    for state, seconds in found:
        if state == "nothing":
            plain = [*([] if since else plain), seconds]
            since = False
        elif state == "starts":
            all_ratios.append(seconds / statistics.median(plain))
            since = True
    return all_ratios


def measure(args):
    """LoRA and full fine-tuning, on one rank and on two."""
    clock, rows, lines, raw = Clock(), [], [], []
    for kind, name, every in KINDS:
        for ranks in RANKS:
            say(f"saving: {name}, {ranks} rank{'s' if ranks > 1 else ''}")
            with tempfile.TemporaryDirectory(dir=args.scratch) as directory:
                directory = pathlib.Path(directory) / "run"
                train(args, kind, every, ranks, directory)
                clock.note()
                found = steps(directory, every)
                saved = max(path.stat().st_size for path in directory.glob("checkpoints/*/rank-*.safetensors"))
            ratio = statistics.median(ratios(found))
            by_state = {state: [seconds for other, seconds in found if other == state] for state in ("nothing", "starts", "goes on")}
            plain, starting = quartiles(by_state["nothing"])[1], quartiles(by_state["starts"])[1]
            title = f"step in which a save starts, {name}, {ranks} × {2 // ranks}"
            rows.append(Row(title, f"{starting:.2f} s", f"other steps {plain:.2f} s", ratio, BOUND))
            if by_state["goes on"]:
                slowest = max(by_state["goes on"])
                title = f"slowest step while it is written, {name}, {ranks} × {2 // ranks}"
                rows.append(Row(title, f"{slowest:.2f} s", f"other steps {plain:.2f} s", slowest / plain))
            cells = [spread(values) if values else "–" for values in by_state.values()]
            lines.append([f"{name}, {ranks} × {2 // ranks}", f"{saved / 1e6:.0f} MB", *cells, f"{ratio:.3f}"])
            raw += [f"- {name}, {ranks} × {2 // ranks}, {state}: {listed(values)}" for state, values in by_state.items() if values]
    head = ["ranks × threads", "largest shard", "nothing is being saved, s", "a save starts, s", "a save goes on, s", "ratio"]
    text = "`sirocco train` with the recipes (8 sequences of 512 tokens a step, no recomputation), a save every "
    text += " or ".join(f"{every} steps ({name})" for _, name, every in KINDS) + ". A step's seconds\n"
    text += "count from the end of the step before, so that the snapshot between them is in. Median and quartiles; the ratio\n"
    text += "is the median over the saves of a starting step beside the steps before it since the last save; "
    text += f"{clock}.\n\n{table(head, lines)}\n\nEach, in order:\n" + "\n".join(raw)
    return Section("Steps that save", rows, text)
