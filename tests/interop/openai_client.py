"""The official `openai` client against `sirocco serve`: models, chat streamed and not, completions that score a prompt, errors, clean stop.

The server runs in fp32 on loopback, so its numbers can be compared with Transformers' and PEFT's.
"""

import contextlib
import queue
import signal
import subprocess
import sys
import threading
import time

import common

START_SECONDS, STOP_SECONDS = 120, 20
QUESTION = [{"role": "user", "content": "Translate to Moroccan Darija: How are you today?"}]
SCORED = "The capital of Morocco is Rabat. Labas 3lik?"


@contextlib.contextmanager
def server(args, verdict, *what):
    """Starts `sirocco serve`, gives a client for it, stops it with SIGTERM and checks that it ends with 0."""
    from openai import OpenAI

    command = [args.bin / "sirocco", "serve", *what, "--trust", args.trust, "--listen", "127.0.0.1:0", "--dtype", "fp32"]
    process = subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, text=True)
    try:
        url = listening_url(process)
        verdict.check("server starts", True, url)
        yield OpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0, timeout=300)
        begin = time.monotonic()
        process.send_signal(signal.SIGTERM)
        code = process.wait(STOP_SECONDS)
        verdict.check("SIGTERM ends it with status 0", code == 0, f"status {code} after {time.monotonic() - begin:.1f} s")
    except subprocess.TimeoutExpired:
        verdict.check("SIGTERM ends it with status 0", False, f"still running after {STOP_SECONDS} s")
    finally:
        process.kill()
        process.wait()


def listening_url(process):
    """The address from the line `listening on http://127.0.0.1:PORT`."""
    lines = queue.Queue()

    def read():
        for line in process.stdout:
            lines.put(line)
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(queue.Empty):
            line = lines.get(timeout=1)
            if line is None:
                break
            if line.startswith("listening on "):
                return line.split()[-1].rstrip("/")
    print(f"FAIL  the server printed no `listening on http://…` within {START_SECONDS} s (status {process.poll()})")
    raise SystemExit(1)


def check_chat(client, verdict, model, expected, prompt_tokens):
    """A greedy answer, at once and streamed, against Transformers' greedy answer."""
    request = {"model": model, "messages": QUESTION, "max_tokens": 24, "temperature": 0}
    answer = client.chat.completions.create(**request)
    text = answer.choices[0].message.content
    same = text.rstrip("\ufffd") == expected
    verdict.check("chat: the greedy answer is Transformers'", same, f"{text!r}" + ("" if same else f", expected {expected!r}"))
    usage = answer.usage
    counted = usage.prompt_tokens == prompt_tokens and usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    verdict.check("chat: usage", counted and 0 < usage.completion_tokens <= 24, f"{usage.prompt_tokens} + {usage.completion_tokens}, template {prompt_tokens}")

    pieces, reasons, streamed_usage = [], [], None
    for chunk in client.chat.completions.create(**request, stream=True, stream_options={"include_usage": True}):
        for choice in chunk.choices:
            pieces.append(choice.delta.content or "")
            reasons.append(choice.finish_reason)
        streamed_usage = chunk.usage or streamed_usage
    verdict.check("chat, streamed: the same text", "".join(pieces) == text, f"{len(pieces)} chunks")
    finish = [reason for reason in reasons if reason]
    verdict.check("chat, streamed: one finish reason, the same", finish == [answer.choices[0].finish_reason], f"{finish}")
    same = streamed_usage is not None and streamed_usage.total_tokens == usage.total_tokens
    verdict.check("chat, streamed: the same usage in the last chunk", same)
    return text


def check_sampling(client, verdict, model, greedy):
    """Stop strings and seeds."""
    stop = greedy[len(greedy) // 2 :][:3] or greedy
    stopped = client.chat.completions.create(model=model, messages=QUESTION, max_tokens=24, temperature=0, stop=[stop]).choices[0]
    right = stopped.message.content == greedy[: greedy.index(stop)] and stopped.finish_reason == "stop"
    verdict.check("stop string ends the answer before it", right, f"{stopped.message.content!r} before {stop!r}")
    request = {"model": model, "messages": QUESTION, "max_tokens": 16, "temperature": 1.0, "top_p": 0.9}
    texts = [client.chat.completions.create(**request, seed=seed).choices[0].message.content for seed in (7, 7, 8)]
    verdict.check("the same seed gives the same answer", texts[0] == texts[1], f"{texts[0]!r}")
    verdict.check("another seed gives another answer", texts[0] != texts[2], f"{texts[2]!r}")


def check_scores(client, verdict, what, model, reference, tokenizer):
    """echo + logprobs + max_tokens 0 against the reference's log-softmax."""
    import torch

    scored = client.completions.create(model=model, prompt=SCORED, max_tokens=0, echo=True, logprobs=1)
    ids = tokenizer.encode(SCORED, add_special_tokens=False)
    table = torch.log_softmax(common.reference_logits(reference, [ids]).double(), -1)
    expected = [table[position, token].item() for position, token in enumerate(ids[1:])]
    found = scored.choices[0].logprobs.token_logprobs
    verdict.check(f"{what}: echo gives the prompt back", scored.choices[0].text == SCORED, f"{scored.choices[0].text!r}")
    if verdict.check(f"{what}: one score per token, none for the first", len(found) == len(ids) and found[0] is None, f"{len(found)} of {len(ids)}"):
        difference = max(abs(mine - other) for mine, other in zip(found[1:], expected))
        verdict.check(f"{what}: scores", difference <= common.TOLERANCE, f"largest difference {difference:.2e} (limit {common.TOLERANCE:.0e})")


def check_errors(client, verdict, model):
    """Bad requests come back as the client's own exception for them, with a message."""
    import openai

    good = {"model": model, "messages": QUESTION, "max_tokens": 4}
    cases = [
        ("temperature that is a word", openai.BadRequestError, {**good, "extra_body": {"temperature": "hot"}}),
        ("messages that is a string", openai.BadRequestError, {**good, "extra_body": {"messages": "hello"}}),
        ("max_tokens below 0", openai.BadRequestError, {**good, "max_tokens": -1}),
        ("no messages", openai.BadRequestError, {**good, "messages": []}),
        ("a prompt longer than the context", openai.BadRequestError, {**good, "messages": [{"role": "user", "content": "salam " * 20000}]}),
        ("an unknown model", openai.NotFoundError, {**good, "model": "no-such-model"}),
    ]
    for what, kind, request in cases:
        try:
            client.chat.completions.create(**request)
            verdict.check(f"{what}: {kind.__name__}", False, "it was answered")
        except openai.APIStatusError as error:
            body = error.body if isinstance(error.body, dict) else {}
            right = type(error) is kind and bool(body.get("message")) and bool(body.get("type"))
            verdict.check(f"{what}: {kind.__name__}", right, f"{error.status_code} {body.get('message')!r}")
    after = client.chat.completions.create(**good)
    verdict.check("the server still answers", bool(after.choices))


def check_many(client, verdict, model, greedy):
    """Four clients at once get the answer that one gets alone."""
    answers = [None] * 4

    def ask(index):
        answers[index] = client.chat.completions.create(model=model, messages=QUESTION, max_tokens=24, temperature=0).choices[0].message.content

    threads = [threading.Thread(target=ask, args=(index,)) for index in range(len(answers))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    verdict.check("four requests at once: four equal answers", answers == [greedy] * len(answers))


def greedy_answer(reference, tokenizer):
    """Transformers' own greedy answer to QUESTION, and the length of its prompt."""
    import torch

    prompt = tokenizer.apply_chat_template(QUESTION, add_generation_prompt=True, return_dict=True, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        made = reference.generate(
            prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=24, do_sample=False, eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.eos_token_id,
        )  # fmt: skip
    text = tokenizer.decode(made[0, prompt.shape[1] :], skip_special_tokens=True)
    # A character cut by the token limit: Transformers writes U+FFFD for its first bytes, a server that streams whole characters leaves it out.
    return text.rstrip("\ufffd"), prompt.shape[1]


def merged_server(args, verdict, tokenizer):
    """Everything the API offers, on the merged model."""
    reference = common.reference_model(args.merged)
    expected, prompt_tokens = greedy_answer(reference, tokenizer)
    with server(args, verdict, args.merged) as client:
        names = [model.id for model in client.models.list()]
        verdict.check("models: one", len(names) == 1, ", ".join(names))
        greedy = check_chat(client, verdict, names[0], expected, prompt_tokens)
        check_sampling(client, verdict, names[0], greedy)
        check_scores(client, verdict, "completions", names[0], reference, tokenizer)
        check_errors(client, verdict, names[0])
        check_many(client, verdict, names[0], greedy)


def adapter_server(args, verdict, tokenizer):
    """A base with an adapter that the request's model names."""
    with server(args, verdict, args.model, "--adapter", f"darija={args.adapter}") as client:
        names = [model.id for model in client.models.list()]
        if verdict.check("models: the base and the adapter", len(names) == 2 and "darija" in names, ", ".join(names)):
            base = next(name for name in names if name != "darija")
            check_scores(client, verdict, "base", base, common.reference_model(args.model), tokenizer)
            check_scores(client, verdict, "adapter", "darija", common.reference_model(args.model, args.adapter), tokenizer)


def main():
    """Two servers, one after the other."""
    args = common.parser(__doc__.split("\n")[0]).parse_args()
    common.require(args.bin / "sirocco", args.bin / "sirocco-serve", args.model, args.adapter, args.merged)
    from transformers import AutoTokenizer

    verdict = common.Verdict()
    tokenizer = AutoTokenizer.from_pretrained(args.merged)
    merged_server(args, verdict, tokenizer)
    adapter_server(args, verdict, tokenizer)
    return verdict.status()


if __name__ == "__main__":
    sys.exit(main())
