"""What policy, confinement, ledger, digests and signatures add to a whole run: groups of four runs, with them and without.

With them is a run under the demonstration's rules, those for Luxembourg's public sector: asked, confined to level 2, recorded, signed.
There is no option to leave them out, so `without` are programs of a version before them: `--without DIR`, such as those of
`git worktree add DIR d49c497 && cd DIR && make build`.
"""

import pathlib
import statistics
import tempfile
import time

from common import Clock, Row, Section, listed, run, say, spread, table

BOUND = "≤ 1.02"
# Groups, steps of a run, steps between saves. A group is with, without, without, with, or the other way round: what drifts evenly over the four,
# as the speed of a shared machine does, is in both sums. Runs are short because it does not drift evenly for long.
GROUPS, STEPS, EVERY = 6, 16, 4
# Seconds of quiet before each run. A virtual machine gives freed pages back to its host after two seconds and faults them in again at half a
# gigabyte a second: whatever started sooner after the run before would have them for nothing.
PAUSE = 10


# The demonstration's run, under its rules, as `make demo` leaves them.
RECIPE = "configs/recipes/demo.toml"


def seconds_of(args, programs, steps, directory):
    """A whole `sirocco train` on two ranks, from typing it to its end."""
    text = (args.repository / RECIPE).read_text(encoding="utf-8")
    rules = "[policy]"
    before, _, after = text.partition(rules)
    # Only that table: what may follow begins with another.
    without = before + "".join(after.partition("\n[")[1:])
    file = directory / "run.toml"
    file.write_text(text if programs == args.bin else without, encoding="utf-8")
    settings = {
        "model.path": f'"{args.model.resolve()}"',
        "data.train": f'["{args.data.resolve() / "train.jsonl"}"]',
        "data.valid": "[]",
        "train.steps": steps,
        "checkpoint.every_steps": EVERY,
        "eval.every_steps": 0,
    }
    words = [programs / "sirocco", "train", file, "--dir", directory / "run"]
    environment = {"XDG_CONFIG_HOME": str(directory / "config"), "XDG_STATE_HOME": str(directory / "state")}
    begun = time.monotonic()
    run(words + [word for name, value in settings.items() for word in ("--set", f"{name}={value}")], environment, args.repository)
    return time.monotonic() - begun


def measure(args):
    """Groups, in alternating order."""
    if args.without is None:
        say("custody: left out, because --without names no programs of a version before it")
        return Section("What custody costs", [], "Not measured: `--without` named no programs.")
    clock, groups = Clock(), []
    for group in range(1 if args.quick else GROUPS):
        one, other = (args.bin, args.without) if group % 2 == 0 else (args.without, args.bin)
        say(f"custody: group {group + 1}")
        found = {args.bin: [], args.without: []}
        for programs in (one, other, other, one):
            time.sleep(PAUSE)
            with tempfile.TemporaryDirectory(dir=args.scratch) as directory:
                found[programs].append(seconds_of(args, programs, 2 * EVERY if args.quick else STEPS, pathlib.Path(directory)))
            clock.note()
        groups.append((found[args.bin], found[args.without]))
    ratios = [sum(with_it) / sum(without) for with_it, without in groups]
    ratio = statistics.median(ratios)
    with_it, without = ([seconds for group in side for seconds in group] for side in zip(*groups))
    rows = [Row("a whole run with policy, confinement, ledger and signatures", f"{spread(with_it)} s", f"without {spread(without)} s", ratio, BOUND)]
    lines = [[index + 1, listed(a), listed(b), f"{each:.3f}"] for index, ((a, b), each) in enumerate(zip(groups, ratios))]
    text = f"`sirocco train` of the demonstration's recipe on two ranks, {STEPS} steps, a save every {EVERY}; the whole command by the clock, in\n"
    text += f"groups of four of alternating order; a ratio is that of the sums of a group, the result their median; {clock}.\n\n"
    text += table(["group", "with, s", "without, s", "ratio"], lines)
    return Section("What custody costs", rows, text)
