"""How much of the communication of data parallelism hides behind computing: dp = 2 on two cores, one thread each."""

import timeline
from common import Clock, Row, Section, listed, on_ranks, quartiles, run_json, say, spread, table

RANKS = 2
BOUND = "≤ 1.10"


def command(args, kind, steps, bucket_mb=25):
    """A step of 4 × 512 tokens on each rank, bf16."""
    words = [args.bin / "sirocco-train", "bench", "--overlap", "--model", args.model, "--threads", "1", "--steps", str(steps)]
    words += ["--sequences", "4", "--length", "512", "--dtype", "bf16", "--bucket-mb", str(bucket_mb)]
    return on_ranks(RANKS, words + (["--full"] if kind == "full" else []))


def measure(args, pictures):
    """LoRA and full fine-tuning; `pictures(name, text)` keeps a timeline and says where."""
    clock, rows, lines, shown, raw = Clock(), [], [], [], []
    steps = 1 if args.quick else 5
    for kind, name in (("lora", "LoRA"), ("full", "full fine-tuning")):
        say(f"overlap: {name}")
        report = run_json(command(args, kind, steps), {"OMP_NUM_THREADS": "1"})
        clock.note()
        alone = {"computing": report["computing_s"], "communication": report["communication_s"]}
        slower = max(alone, key=lambda what: quartiles(alone[what])[1])
        step, beside = quartiles(report["both_s"])[1], quartiles(alone[slower])[1]
        rows.append(Row(f"step with communication, {name}", f"{step:.2f} s", f"{slower} alone {beside:.2f} s", step / beside, BOUND))
        sums = f"{report['gradient_bytes'] / 1e6:.0f} MB"
        lines.append([name, spread(alone["computing"]), f"{spread(alone['communication'])}, {sums}", spread(report["both_s"]), f"{step / beside:.3f}"])
        raw += [f"- {name}, {what}: {listed(values, 3)}" for what, values in (*alone.items(), ("both", report["both_s"]))]
        where = pictures(f"overlap-{kind}", timeline.draw(report["ranks"], f"One step of {name}, dp = 2, 4 × 512 tokens a rank, bf16"))
        shown.append(f"![One step of {name}]({where})")
    head = ["SmolLM2-135M, bf16, 4 × 512 tokens a rank", "computing alone, s", "communication alone, s", "both, s", "ratio"]
    text = f"Median and quartiles of {steps} rounds; each round takes the three in turn, between barriers. Bound: both {BOUND} × the slower\n"
    text += f"of the two alone. {clock}.\n\n{table(head, lines)}\n\nSeconds of each round:\n" + "\n".join(raw)
    text += "\n\nThe last round of each. A collective's thin line begins when the backward submits it, its box when the wire comes to it.\n\n"
    return Section("Communication hidden behind computing", rows, text + "\n\n".join(shown))
