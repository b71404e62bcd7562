"""Tokens per second and peak memory of LoRA training with Transformers + PEFT on the CPU: what Sirocco's own numbers are a ratio to.

    python peft_lora.py --model models/smollm2-135m [--steps 5] [--threads 2] [--micro-batch 4] [--checkpointing]

One step is forward, backward and AdamW over `--sequences` sequences of `--length` random token ids, every token a target. One warm-up step, then
`--steps` timed ones. Prints one JSON line. `--model random:smollm2-135m` builds random weights of that shape when the model is not there.

Settings, chosen to be the best that PEFT's documentation offers without changing what is computed:
- sdpa attention, no KV cache, no padding, so no attention mask: the causal fast path;
- the base in `--dtype`, adapters in fp32 (PEFT's default, autocast_adapter_dtype), dropout 0, all seven projections, alpha = 2 * rank;
- torch's fused AdamW; gradients set to None between steps;
- no gradient checkpointing unless asked for: on two cores it costs time and the number to beat is tokens per second;
- one forward over all sequences unless `--micro-batch` says otherwise (fewer per forward need less memory, at about the same speed).
"""

import argparse
import json
import os
import resource
import statistics
import sys
import time

PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
SHAPES = {
    "smollm2-135m": {
        "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
        "num_key_value_heads": 3, "head_dim": 64, "max_position_embeddings": 8192, "rms_norm_eps": 1e-5, "tie_word_embeddings": True,
        "sliding_window": None, "rope_parameters": {"rope_type": "default", "rope_theta": 100000.0},
    },
}  # fmt: skip


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="models/smollm2-135m", help="a Hugging Face directory, or random:smollm2-135m")
    parser.add_argument("--sequences", type=int, default=4, help="sequences of one optimizer step")
    parser.add_argument("--length", type=int, default=512, help="tokens of a sequence")
    parser.add_argument("--micro-batch", type=int, default=0, help="sequences of one forward (default: all)")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=5, help="timed steps, after one that is not")
    parser.add_argument("--dtype", choices=["bf16", "fp32"], default="bf16")
    parser.add_argument("--checkpointing", action="store_true", help="gradient checkpointing of every block")
    return parser.parse_args()


def load_base(where, dtype):
    """The base model from a directory, or with random weights of a known shape."""
    from transformers import AutoModelForCausalLM, MistralConfig, MistralForCausalLM

    if where.startswith("random:"):
        config = MistralConfig(**SHAPES[where.removeprefix("random:")])
        return MistralForCausalLM._from_config(config, attn_implementation="sdpa", dtype=dtype)
    if not os.path.isdir(where):
        raise SystemExit(f"error: {where} is not a directory\nhelp: run `make demo` first, or give --model random:smollm2-135m")
    return AutoModelForCausalLM.from_pretrained(where, attn_implementation="sdpa", dtype=dtype, local_files_only=True)


def adapted(base, args):
    """The base with LoRA on all seven projections, ready to train."""
    from peft import LoraConfig, get_peft_model

    base.config.use_cache = False
    if args.checkpointing:
        base.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        base.enable_input_require_grads()
    lora = LoraConfig(r=args.rank, lora_alpha=2 * args.rank, lora_dropout=0.0, target_modules=PROJECTIONS, task_type="CAUSAL_LM")
    return get_peft_model(base, lora).train()


def step(model, optimizer, batch, micro_batch):
    """One optimizer step; returns the mean loss over the batch."""
    parts = batch.split(micro_batch)
    total = 0.0
    for part in parts:
        loss = model(input_ids=part, labels=part, use_cache=False).loss * (len(part) / len(batch))
        loss.backward()
        total += loss.item()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return total


def measure(args):
    """Runs the steps; returns the result as a dictionary."""
    import torch

    torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    dtype = {"bf16": torch.bfloat16, "fp32": torch.float32}[args.dtype]
    model = adapted(load_base(args.model, dtype), args)
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=2e-4, weight_decay=0.0, fused=True)
    micro_batch = args.micro_batch or args.sequences
    generator = torch.Generator().manual_seed(1)
    seconds, losses = [], []
    for _ in range(1 + args.steps):
        batch = torch.randint(model.config.vocab_size, (args.sequences, args.length), generator=generator)
        begin = time.perf_counter()
        losses.append(step(model, optimizer, batch, micro_batch))
        seconds.append(time.perf_counter() - begin)
    timed = seconds[1:]
    return {
        "tokens_per_s": args.sequences * args.length / statistics.median(timed),
        "seconds_per_step": timed,
        "warmup_seconds": seconds[0],
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "trained_parameters": sum(weight.numel() for weight in trained),
        "losses": losses,
        "settings": {**vars(args), "micro_batch": micro_batch, "attention": "sdpa", "optimizer": "AdamW fused"},
        "load_average": os.getloadavg()[0],
        "versions": versions(),
    }


def versions():
    """Versions of what was measured."""
    import peft
    import torch
    import transformers

    return {
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "peft": peft.__version__,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
    }


def main():
    """Prints one JSON line."""
    args = arguments()
    if args.sequences % (args.micro_batch or args.sequences):
        raise SystemExit(f"error: --micro-batch {args.micro_batch} does not divide --sequences {args.sequences}")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    # Before torch is imported: OpenMP reads it once.
    os.environ.setdefault("OMP_NUM_THREADS", str(args.threads))
    print(json.dumps(measure(args)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
