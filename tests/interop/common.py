"""What the interop checks share: paths, the programs under test, prompts, and comparing with a verdict."""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import warnings

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOLERANCE = 1e-3

os.environ.setdefault("HF_HUB_OFFLINE", "1")
warnings.filterwarnings("ignore", category=FutureWarning)


def parser(description):
    """The arguments every check takes; the defaults are what `make demo` leaves behind."""
    made = argparse.ArgumentParser(description=description)
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    made.add_argument("--bin", type=pathlib.Path, default=target / "release", help="the directory of sirocco, sirocco-train and sirocco-serve")
    made.add_argument("--model", type=pathlib.Path, default=ROOT / "models/smollm2-135m", help="the base model")
    made.add_argument("--adapter", type=pathlib.Path, default=ROOT / "exports/demo-adapter", help="an adapter exported from it")
    made.add_argument("--merged", type=pathlib.Path, default=ROOT / "exports/demo-merged", help="the two, merged")
    made.add_argument("--trust", type=pathlib.Path, default=ROOT / "data/demo-policy/trust", help="whose signatures of them are believed")
    made.add_argument("--chat", type=pathlib.Path, default=ROOT / "data/darija/valid.jsonl", help="chats, one JSON object a line")
    return made


def require(*paths):
    """Ends with a plain message when something that the check reads is not there."""
    for path in paths:
        if not path.exists():
            print(f"error: {path} does not exist\nhelp: run `make demo` first, or name another path (--help)", file=sys.stderr)
            raise SystemExit(5)


class Verdict:
    """Collects what was compared; `status` is what the script exits with."""

    def __init__(self):
        self.failures = 0

    def check(self, what, passed, found=""):
        """One line per check."""
        self.failures += not passed
        print(f"{'ok  ' if passed else 'FAIL'}  {what}{': ' if found else ''}{found}", flush=True)
        return passed

    def status(self):
        """0 when everything passed, else 1."""
        print(f"{self.failures} failed" if self.failures else "all passed")
        return 1 if self.failures else 0


def chats(path, count):
    """The messages of the first `count` chats."""
    with open(path, encoding="utf-8") as file:
        return [json.loads(line)["messages"] for _, line in zip(range(count), file)]


def prompts(tokenizer, chat_path):
    """Token ids to compare logits on: random ones of several lengths up to 300, and plain text in Darija and English."""
    import numpy

    random = numpy.random.default_rng(5)
    documents = [random.integers(0, len(tokenizer), length).tolist() for length in (1, 2, 17, 128, 300)]
    texts = ["\n".join(message["content"] for message in messages) for messages in chats(chat_path, 40)]
    for text in (texts[0], texts[1], "\n".join(texts[2:]), "قال ليا بلي غادي يجي غدا، واخا؟ ڭاع الناس عارفين."):
        documents.append(tokenizer.encode(text, add_special_tokens=False)[:300])
    return documents


def sirocco_logits(args, model, documents, adapter=None):
    """Logits [T, V] in fp32 from sirocco-train for documents that do not see each other."""
    from safetensors.torch import load_file

    with tempfile.TemporaryDirectory() as scratch:
        ids, out = pathlib.Path(scratch, "ids.json"), pathlib.Path(scratch, "logits.safetensors")
        ids.write_text(json.dumps({"ids": documents}))
        command = [args.bin / "sirocco-train", "logits", model, "--ids", ids, "--to", out, "--dtype", "fp32"]
        if adapter:
            command += ["--adapter", adapter]
        run(command)
        return load_file(out)["logits"]


def run(command):
    """Runs a program; returns its standard output; on failure shows its standard error and stops."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"FAIL  {' '.join(map(str, command))}: exit {done.returncode}\n{done.stderr}")
        raise SystemExit(1)
    return done.stdout


def reference_model(directory, adapter=None):
    """The model as Transformers loads it, in fp32, with PEFT's adapter on it when one is given."""
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, attn_implementation="eager", local_files_only=True)
    if adapter:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, str(adapter))
    return model.eval()


def reference_logits(model, documents):
    """Logits [T, V] of each document alone, worked out in fp64 (norms apart, which Transformers casts to fp32). In fp32 the reference itself
    can be further from these than the limit: 1.1e-3 at one token with very large activations of a merged model."""
    import torch

    model = model.double()
    with torch.no_grad():
        return torch.cat([model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].float() for ids in documents])
