"""What the benches share: the environment of the programs, mpirun, medians, and the facts that every report must state."""

import dataclasses
import datetime
import json
import os
import pathlib
import platform
import re
import statistics
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent

# As `sirocco train` starts its ranks (crates/config/src/environment.rs says why). PEFT runs with the same spin count; its allocator is glibc's.
ENVIRONMENT = {**os.environ, "GOMP_SPINCOUNT": "1000", "MIMALLOC_PURGE_DELAY": "-1"}

# As in launcher/src/programs.rs: two ranks share two cores by their thread counts, not by binding.
MPIRUN = ["mpirun", "--oversubscribe", "--bind-to", "none"]

# A LoRA run on sequences of 512 tokens of text, for `sirocco plan` and `sirocco train`.
RUN_FILE = """name = "{name}"
[model]
path = "{model}"
dtype = "bf16"
[data]
train = ["{data}"]
format = "text"
sequence_length = 512
[method]
kind = "lora"
rank = 16
alpha = 32
targets = "all-linear"
[train]
steps = {steps}
global_batch = {batch}
micro_batch = {micro_batch}
[checkpoint]
every_steps = 1000000
"""

# Above this load average something else ran beside the measurement.
BUSY = 1.5


@dataclasses.dataclass
class Row:
    """One number of the table: what was measured, beside what, and the bound on their ratio."""

    name: str
    measured: str
    beside: str
    ratio: float | None = None
    bound: str = ""

    def holds(self):
        """Whether the bound ("≤ 1.10", "≥ 0.70") holds; None where there is none."""
        if self.ratio is None or not self.bound:
            return None
        sign, limit = self.bound.split()
        return self.ratio <= float(limit) if sign == "≤" else self.ratio >= float(limit)


@dataclasses.dataclass
class Section:
    """What one bench found: its rows of the table, and its part of the report in Markdown."""

    title: str
    rows: list[Row]
    text: str


def say(text):
    """Progress, for whoever waits."""
    print(text, file=sys.stderr, flush=True)


def load():
    """The load average of the last minute."""
    return os.getloadavg()[0]


def run(command, environment=None, cwd=None):
    """Runs a program to its end and returns what it printed."""
    environment = {**ENVIRONMENT, **(environment or {})}
    done = subprocess.run(
        [str(word) for word in command], env=environment, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False
    )
    if done.returncode != 0:
        sys.exit(f"{command[0]} ended with {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return done.stdout


def run_json(command, environment=None):
    """Runs a program that prints one JSON line and returns it."""
    return json.loads(run(command, environment).strip().splitlines()[-1])


def on_ranks(ranks, command):
    """A command for so many ranks; one rank needs no mpirun."""
    if ranks == 1:
        return [*command, "--comm", "solo"]
    allowed = ["--allow-run-as-root"] if os.geteuid() == 0 else []
    return [*MPIRUN, *allowed, "-n", str(ranks), *command, "--comm", "mpi"]


def quartiles(values):
    """Lower quartile, median, upper quartile."""
    if len(values) < 2:
        return (values[0],) * 3
    return tuple(statistics.quantiles(values, n=4, method="inclusive"))


def spread(values, digits=2):
    """Median and quartiles as people read them."""
    low, middle, high = quartiles(values)
    return f"{middle:.{digits}f} ({low:.{digits}f}–{high:.{digits}f})"


def listed(values, digits=2):
    """Raw numbers in the order measured."""
    return ", ".join(f"{value:.{digits}f}" for value in values)


def table(head, rows):
    """A Markdown table; all columns but the first are aligned to the right."""
    lines = ["| " + " | ".join(head) + " |", "| --- |" + " --: |" * (len(head) - 1)]
    return "\n".join(lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows])


def output(command):
    """The first line that a program prints, or "" where it is not there."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=HERE, check=False)
    except OSError:
        return ""
    return done.stdout.strip().splitlines()[0] if done.stdout.strip() else ""


def facts(programs):
    """Hardware, versions, commit: one line each. No names of machines or people."""
    with open("/proc/cpuinfo", encoding="utf-8") as lines:
        text = lines.read()
    name = re.search(r"model name\s*: (.*)", text)
    flags = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "sha_ni") if re.search(rf"\b{flag}\b", text)]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    system = platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    changed = output(["git", "status", "--porcelain", "--untracked-files=no"])
    commit = output(["git", "rev-parse", "--short", "HEAD"]) + (" with changes" if changed else "")
    return [
        f"Hardware: {name[1] if name else platform.machine()}, {os.cpu_count()} cores ({', '.join(flags)}), {memory / 1e9:.0f} GB; no GPU",
        f"System: {system}, Linux {platform.release().split('-')[0]}; {output(['mpirun', '--version'])}; {output(['rustc', '--version'])}",
        f"Program: {output([str(programs / 'sirocco'), '--version'])}, commit {commit}",
        f"When: {datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M} UTC",
    ]


class Clock:
    """Seconds and load of a bench, for the report."""

    def __init__(self):
        self.start, self.loads = time.monotonic(), [load()]

    def note(self):
        """Called between measurements."""
        self.loads.append(load())

    def __str__(self):
        self.note()
        busy = " — **something else ran, too**" if statistics.median(self.loads) > 2 * BUSY else ""
        return f"{time.monotonic() - self.start:.0f} s; load average on the way {min(self.loads):.1f} to {max(self.loads):.1f}{busy}"
