"""Makes the small oracles that the network's tests compare against: two random Mistral models in the Hugging Face layout, their logits and
gradients from Transformers (eager attention, fp32), and 20 steps of LoRA (PEFT) and of full fine-tuning with torch's AdamW.

    python make_tiny_mistral.py        writes tiny-mistral/ and tiny-mistral-tied/ beside this file; needs requirements.txt, nothing else

Everything is seeded and runs on one thread, so a second run with the same versions writes the same bytes. Every document is run alone through
the reference model, which is what packing must be equal to. File contents: README.md beside this file.
"""

import json
import math
import pathlib
import sys

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from torch.nn.functional import cross_entropy
from transformers import MistralConfig, MistralForCausalLM
from transformers.utils import logging

HERE = pathlib.Path(__file__).parent
NO_LOSS = -1
PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
# At 2e-2 an error in any of scaling, clipping, decay or moments moves some LoRA loss by more than 1e-4 relative, while fp32 against fp64 stays at
# 1e-7; at 1e-3 only a wrong scaling would show.
TRAINING = {
    "steps": 20,
    "warmup_steps": 4,
    "peak_learning_rate": {"lora": 2e-2, "full": 1e-3},
    "learning_rate": "s < warmup: peak*(s+1)/warmup; else peak*0.5*(1+cos(pi*(s-warmup)/(steps-warmup))), s 0-based",
    "optimizer": "torch.optim.AdamW: decoupled weight decay on every trained tensor, bias correction, eps outside the root",
    "betas": [0.9, 0.999],
    "eps": 1e-8,
    "weight_decay": 0.01,
    "max_grad_norm": 1.0,
    "clipping": "torch.nn.utils.clip_grad_norm_: gradients *= min(1, max_norm / (norm + 1e-6))",
    "loss": "sum of cross-entropy over the step's target tokens / their count, over all sequences of the batch",
}
LORA = {"r": 4, "lora_alpha": 8, "target_modules": PROJECTIONS, "lora_dropout": 0.0, "scaling": "lora_alpha / r"}
GRADIENT_STEPS = (0, 3)


def random_model(config):
    """A model whose weights are large enough that logits and attention vary: matrices N(0, 0.15), norm weights 1 + N(0, 0.1)."""
    model = MistralForCausalLM._from_config(config, attn_implementation="eager", dtype=torch.float32)
    generator = torch.Generator().manual_seed(20261122)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=generator)
            weight.copy_(1.0 + 0.1 * noise if "norm" in name else 0.15 * noise)
    return model.eval()


def reload(directory):
    """Reads a saved model back, so that the oracle is what the files say and not what was in memory."""
    model = MistralForCausalLM.from_pretrained(directory, attn_implementation="eager", dtype=torch.float32)
    return model.eval()


def random_documents(generator, vocab, lengths):
    """Token ids of documents: each next token is an affine function of the one before, with noise, so that there is something to learn."""
    documents = []
    for length in lengths:
        ids = [int(torch.randint(vocab, (1,), generator=generator))]
        while len(ids) < length:
            noise = int(torch.randint(3, (1,), generator=generator))
            ids.append((ids[-1] * 7 + 3 + noise) % vocab)
        documents.append(torch.tensor(ids, dtype=torch.int64))
    return documents


def targets_of(document):
    """For each position the token that follows, or NO_LOSS: in the first half of the document (the prompt) and at its last position."""
    targets = torch.cat([document[1:], torch.tensor([NO_LOSS])])
    targets[: len(document) // 2] = NO_LOSS
    return targets


def packed(documents):
    """The flat form: ids [T], offsets [N+1], targets [T]."""
    lengths = torch.tensor([0] + [len(document) for document in documents], dtype=torch.int64)
    return {
        "ids": torch.cat(documents),
        "offsets": torch.cumsum(lengths, 0),
        "targets": torch.cat([targets_of(document) for document in documents]),
    }


def loss_sum_and_logits(model, documents):
    """Runs each document alone. Returns the summed loss over target tokens (fp64 sum of fp32 terms), their count, and logits [T, V]."""
    total, count, logits = torch.zeros((), dtype=torch.float64), 0, []
    for document in documents:
        out = model(input_ids=document[None], use_cache=False).logits[0]
        targets = targets_of(document)
        terms = cross_entropy(out, targets, ignore_index=NO_LOSS, reduction="none")
        total = total + terms.double().sum()
        count += int((targets != NO_LOSS).sum())
        logits.append(out.detach())
    return total, count, torch.cat(logits)


def write_forward(directory, lengths):
    """forward.safetensors: a pack of documents, its logits, loss, and the gradient of the mean loss for every weight."""
    model = reload(directory)
    documents = random_documents(torch.Generator().manual_seed(7), model.config.vocab_size, lengths)
    total, count, logits = loss_sum_and_logits(model, documents)
    (total / count).backward()
    tensors = packed(documents)
    tensors["logits"] = logits
    tensors["loss_sum"] = total.detach().reshape(1)
    tensors["target_count"] = torch.tensor([count], dtype=torch.int64)
    for name, weight in model.named_parameters():
        tensors[f"grad.{name}"] = weight.grad.clone()
    save(tensors, directory / "forward.safetensors")
    print(f"    {len(documents)} documents of {list(lengths)} tokens, loss per target {total.item() / count:.6f}, logits std {logits.std():.3f}")


def learning_rate(step, peak):
    """The schedule as TRAINING states it."""
    steps, warmup = TRAINING["steps"], TRAINING["warmup_steps"]
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / (steps - warmup)))


def make_batches(vocab):
    """For each step four sequences of at most 32 tokens, each a pack of one to four documents."""
    generator = torch.Generator().manual_seed(11)
    shapes = [(32,), (12, 20), (9, 1, 21), (5, 8, 16, 2)]
    return [[random_documents(generator, vocab, lengths) for lengths in shapes] for _ in range(TRAINING["steps"])]


def batch_tensors(batches):
    """The batches under batch.NN.*; `sequences` [5] says which documents (rows of offsets) belong to which sequence."""
    tensors = {}
    for step, sequences in enumerate(batches):
        for key, value in packed([document for sequence in sequences for document in sequence]).items():
            tensors[f"batch.{step:02}.{key}"] = value
        counts = torch.tensor([0] + [len(sequence) for sequence in sequences], dtype=torch.int64)
        tensors[f"batch.{step:02}.sequences"] = torch.cumsum(counts, 0)
    return tensors


def train(model, batches, peak, observe=lambda step, named: None):
    """Trains the parameters that require a gradient; calls `observe` after each backward, before clipping. Returns losses and norms, fp64."""
    named = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
    weights = [weight for _, weight in named]
    optimizer = torch.optim.AdamW(
        weights, lr=0.0, betas=tuple(TRAINING["betas"]), eps=TRAINING["eps"], weight_decay=TRAINING["weight_decay"], foreach=False
    )
    losses, norms, rates = [], [], []
    for step, sequences in enumerate(batches):
        optimizer.zero_grad(set_to_none=True)
        total, count, _ = loss_sum_and_logits(model, [document for sequence in sequences for document in sequence])
        loss = total / count
        loss.backward()
        observe(step, named)
        norm = torch.nn.utils.clip_grad_norm_(weights, TRAINING["max_grad_norm"])
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, peak)
        optimizer.step()
        losses.append(loss.item())
        norms.append(norm.item())
        rates.append(learning_rate(step, peak))
    as_tensor = lambda values: torch.tensor(values, dtype=torch.float64)
    return {"losses": as_tensor(losses), "grad_norms": as_tensor(norms), "learning_rates": as_tensor(rates)}


def peft_name(name):
    """The name under which PEFT stores an adapter's tensor in adapter_model.safetensors."""
    return name.replace(".default.weight", ".weight")


def adapter_tensors(prefix, model):
    """The adapter's A and B as they are now."""
    return {f"{prefix}{peft_name(name)}": weight.detach().clone() for name, weight in model.named_parameters() if "lora_" in name}


def write_lora(directory):
    """lora.safetensors and lora.json: 20 steps of PEFT."""
    torch.manual_seed(20261123)
    base = reload(directory)
    batches = make_batches(base.config.vocab_size)
    model = get_peft_model(base, LoraConfig(**{key: value for key, value in LORA.items() if key != "scaling"}))
    tensors = batch_tensors(batches)
    tensors.update(adapter_tensors("initial.", model))

    def observe(step, named):
        if step in GRADIENT_STEPS:
            tensors.update({f"grad.{step:02}.{peft_name(name)}": weight.grad.clone() for name, weight in named})

    tensors.update(train(model, batches, TRAINING["peak_learning_rate"]["lora"], observe))
    tensors.update(adapter_tensors("final.", model))
    save(tensors, directory / "lora.safetensors")
    (directory / "lora.json").write_text(json.dumps({"lora": LORA, "training": TRAINING}, indent=2) + "\n")
    describe(tensors)


def write_full(directory):
    """full.safetensors: the same batches and optimizer, every weight trained; losses, gradient norms and learning rates only."""
    model = reload(directory)
    tensors = train(model, make_batches(model.config.vocab_size), TRAINING["peak_learning_rate"]["full"])
    save(tensors, directory / "full.safetensors")
    describe(tensors)


def describe(tensors):
    """One line about a training curve."""
    losses, norms = tensors["losses"].tolist(), tensors["grad_norms"].tolist()
    print(f"    loss {losses[0]:.6f} -> {losses[-1]:.6f}, gradient norm before clipping {min(norms):.3f} to {max(norms):.3f}")


def save(tensors, path):
    """Writes a safetensors file and says so."""
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    path.chmod(0o644)
    print(f"  {path.relative_to(HERE)}: {path.stat().st_size} bytes, {len(tensors)} tensors")


def save_model(model, directory):
    """config.json and model.safetensors as save_pretrained writes them."""
    model.save_pretrained(directory)
    (directory / "generation_config.json").unlink(missing_ok=True)
    print(f"  {(directory / 'model.safetensors').relative_to(HERE)}: {sum(weight.numel() for weight in model.parameters())} parameters")


def make_untied():
    """head_dim is not hidden/heads; the rope base stands in rope_parameters, as Transformers 5 writes it."""
    directory = HERE / "tiny-mistral"
    config = MistralConfig(
        vocab_size=320, hidden_size=64, intermediate_size=112, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2, head_dim=24,
        max_position_embeddings=512, rms_norm_eps=1e-5, sliding_window=None, tie_word_embeddings=False, bos_token_id=1, eos_token_id=2,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
    )  # fmt: skip
    save_model(random_model(config), directory)
    written = json.loads((directory / "config.json").read_text())
    assert written["rope_parameters"]["rope_theta"] == 10000.0 and written["head_dim"] == 24, written
    write_forward(directory, (1, 7, 19, 13))
    write_lora(directory)
    write_full(directory)


def make_tied():
    """Tied embeddings and an older config.json: rope_theta at the top level, no head_dim (so hidden/heads), a base that is not the default."""
    directory = HERE / "tiny-mistral-tied"
    older = {
        "architectures": ["MistralForCausalLM"], "model_type": "mistral", "vocab_size": 192, "hidden_size": 32, "intermediate_size": 56,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 1, "hidden_act": "silu", "max_position_embeddings": 256,
        "rms_norm_eps": 1e-6, "rope_theta": 2500.0, "sliding_window": None, "attention_dropout": 0.0, "initializer_range": 0.02,
        "tie_word_embeddings": True, "bos_token_id": 1, "eos_token_id": 2, "use_cache": True, "torch_dtype": "float32",
    }  # fmt: skip
    save_model(random_model(MistralConfig(**older)), directory)
    (directory / "config.json").write_text(json.dumps(older, indent=2) + "\n")
    check_older_config(directory, older)
    write_forward(directory, (17, 1, 11, 6))


def check_older_config(directory, older):
    """Transformers must have read the older layout as we mean it, or the oracle would be of another model."""
    model = reload(directory)
    half = older["hidden_size"] // older["num_attention_heads"] // 2
    expected = 1.0 / older["rope_theta"] ** (torch.arange(half) / half)
    assert torch.allclose(model.model.rotary_emb.inv_freq, expected), "rope_theta at the top level was not read"
    assert model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr(), "embeddings are not tied"


def main():
    """Writes everything; the directories are made when missing."""
    logging.disable_progress_bar()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    for make in (make_untied, make_tied):
        make()
    total = sum(path.stat().st_size for path in HERE.glob("tiny-mistral*/*"))
    print(f"total {total} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
