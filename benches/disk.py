"""How fast a checkpoint reaches the disk, beside dd on the same disk."""

import os
import pathlib
import re
import tempfile

from common import Clock, Row, Section, listed, quartiles, run, run_json, say, table

BOUND = "≥ 0.70"


def dd(directory, megabytes):
    """Bytes a second of dd with fsync."""
    path = pathlib.Path(directory) / "dd"
    blocks = max(megabytes * 10**6 // (4 << 20), 1)
    words = ["dd", "if=/dev/zero", f"of={path}", "bs=4M", f"count={blocks}", "conv=fsync"]
    # dd reports on standard error.
    said = run(["sh", "-c", 'exec "$@" 2>&1', "sh", *words], {"LC_ALL": "C"})
    path.unlink()
    moved, seconds = re.search(r"(\d+) bytes .* copied, ([\d.e-]+) s", said).groups()
    return int(moved) / float(seconds)


def measure(args):
    """In turn, several times."""
    clock, saved, plain, processor = Clock(), [], [], []
    megabytes, rounds = (256, 2) if args.quick else (1600, 5)
    with tempfile.TemporaryDirectory(dir=args.scratch) as directory:
        for turn in range(rounds):
            say(f"disk: {turn + 1} of {rounds}")
            order = [0, 1] if turn % 2 == 0 else [1, 0]
            for which in order:
                os.sync()
                if which == 0:
                    report = run_json([args.examples / "save_speed", directory, str(megabytes)])
                    saved.append(report["bytes_per_s"])
                    processor.append(report["cpu_seconds"])
                else:
                    plain.append(dd(directory, megabytes))
            clock.note()
    ours, peer = quartiles(saved)[1], quartiles(plain)[1]
    row = Row(f"a save of {megabytes} MB", f"{ours / 1e6:.0f} MB/s", f"dd with fsync {peer / 1e6:.0f} MB/s", ours / peer, BOUND)
    lines = [
        ["a checkpoint, hashed (`save_speed`)", f"{ours / 1e6:.0f}", listed([speed / 1e6 for speed in saved], 0), f"{quartiles(processor)[1]:.2f}"],
        ["`dd if=/dev/zero bs=4M conv=fsync`", f"{peer / 1e6:.0f}", listed([speed / 1e6 for speed in plain], 0), "–"],
    ]
    head = [f"{megabytes} MB to the same disk", "MB/s, median", "each", "processor seconds"]
    return Section("A save beside dd", [row], f"One after the other, in alternating order. {clock}.\n\n{table(head, lines)}")
