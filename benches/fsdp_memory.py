"""What one rank of a fully sharded run holds, measured, beside what the sizes alone say."""

from common import Clock, Row, Section, on_ranks, run_json, say, table

BOUND = "≤ 1.00"
TOKENS = 64


def command(args, ranks, kind):
    """Few tokens, so that activations do not hide what FSDP is about."""
    words = [args.bin / "sirocco-train", "bench", "--fsdp", str(ranks), "--model", args.model, "--threads", "1", "--steps", "2"]
    words += ["--sequences", "1", "--length", str(TOKENS), "--dtype", "bf16"]
    return on_ranks(ranks, words + (["--full"] if kind == "full" else []))


def grown(rank, until):
    """Anonymous memory that came since before the model was loaded."""
    return rank["resident"][until]["anonymous"] - rank["resident"]["before"]["anonymous"]


def peak(rank):
    """The most anonymous memory beyond what there was before the model: the peak less pages of files and shared buffers."""
    resident = rank["resident"]
    return resident["end"]["peak"] - resident["end"]["file"] - resident["end"]["shared"] - resident["before"]["anonymous"]


def working(rank):
    """What a rank alone needs beyond what it holds: activations and libtorch's own buffers. Alone, it also keeps a bf16 copy of what it
    trains, where several ranks gather one."""
    return peak(rank) - rank["held_bytes"] - 2 * rank["trained_elements"]


def measure(args):
    """1, 2 and 4 ranks; LoRA and full; freed memory given back at once, and kept as `sirocco train` has it."""
    clock, rows, lines = Clock(), [], []
    for kind, name in (("full", "full fine-tuning"), ("lora", "LoRA")):
        for ranks in (1, 2, 4):
            say(f"memory: {name}, fsdp = {ranks}")
            given_back, kept = (
                run_json(command(args, ranks, kind), {"OMP_NUM_THREADS": "1", "MIMALLOC_PURGE_DELAY": delay})["ranks"] for delay in ("0", "-1")
            )
            clock.note()
            # The rank that needs most stands for all.
            rank, kept = max(given_back, key=peak), max(kept, key=peak)
            alone = working(rank) if ranks == 1 else alone
            units = 2 * rank["largest_unit_bytes"]
            predicted, found = rank["held_bytes"] + units, peak(rank) - alone
            ratio = found / predicted
            cells = megabytes(rank["held_bytes"], units, predicted, grown(rank, "set_up"), peak(rank), alone, found)
            lines.append([f"{name}, {ranks}", *cells, f"{ratio:.2f}", *megabytes(peak(kept))])
            if ranks > 1:
                beside = f"sizes alone {predicted / 1e6:.0f} MB"
                rows.append(Row(f"memory of a rank less its working memory, fsdp = {ranks}, {name}", f"{found / 1e6:.0f} MB", beside, ratio, BOUND))
    head = ["ranks", "(weights + gradients + moments)/n", "two units", "sizes alone", "after set-up", "peak", "working memory of a rank alone"]
    head += ["peak less that", "ratio to sizes", "peak, freed memory kept"]
    text = f"SmolLM2-135M, bf16, 1 × {TOKENS} tokens, three steps; MB (10⁶ bytes) of anonymous memory beyond what the process had before it\n"
    text += "loaded the model, of the rank that needs most. The two units are twice the largest (the embedding: its gathered bf16 values and, where\n"
    text += "it is trained, its fp32 gradient). Working memory is what a rank alone, which gathers nothing, needs beyond what it holds: activations,\n"
    text += "and what libtorch's products take for themselves, such as a copy of the head in another order. With freed memory given back at once\n"
    text += "(`MIMALLOC_PURGE_DELAY=0`) the peak is what the program holds; `sirocco train` keeps freed memory (`-1`, last column), which is faster\n"
    text += f"and leaves gaps between buffers of different sizes. {clock}.\n\n{table(head, lines)}"
    return Section("Memory of a rank under FSDP", rows, text)


def megabytes(*values):
    """Bytes as MB."""
    return [f"{value / 1e6:.0f}" for value in values]
