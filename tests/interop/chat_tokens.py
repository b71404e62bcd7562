"""Token ids of chats: `sirocco tokenize --chat` against Transformers' apply_chat_template; its spans against the answers."""

import json
import sys

import common


def template_ids(tokenizer, messages):
    """The ids that Transformers makes of a chat."""
    made = tokenizer.apply_chat_template(messages, tokenize=True, return_dict=True)
    return list(made["input_ids"])


def first_difference(ours, theirs):
    """Where two lists part, in words."""
    for index, (mine, other) in enumerate(zip(ours, theirs)):
        if mine != other:
            return f"token {index}: {mine}, expected {other}"
    return f"{len(ours)} tokens, expected {len(theirs)}"


def check_chat(tokenizer, messages, row):
    """What is wrong with one line of output: a list of sentences."""
    wrong = []
    expected = template_ids(tokenizer, messages)
    if row["ids"] != expected:
        wrong.append(first_difference(row["ids"], expected))
    answers = [message["content"] + tokenizer.eos_token for message in messages if message["role"] == "assistant"]
    decoded = [tokenizer.decode(row["ids"][begin:end]) for begin, end in row["assistant_spans"]]
    if decoded != answers:
        wrong.append(f"spans decode to {decoded}, expected {answers}")
    return wrong


def main():
    """The first chats of the file, and how many tokens that was."""
    parser = common.parser(__doc__)
    parser.add_argument("--count", type=int, default=200, help="chats to compare")
    args = parser.parse_args()
    common.require(args.bin / "sirocco", args.model, args.chat)
    from transformers import AutoTokenizer

    verdict = common.Verdict()
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    lines = common.run([args.bin / "sirocco", "tokenize", "--tokenizer", args.model, "--chat", args.chat]).splitlines()
    expected = sum(1 for line in open(args.chat, encoding="utf-8") if line.strip())
    verdict.check("one line of output per chat", len(lines) == expected, f"{len(lines)}, expected {expected}")

    tokens, wrong = 0, []
    compared = list(zip(common.chats(args.chat, args.count), map(json.loads, lines)))
    for number, (messages, row) in enumerate(compared, 1):
        tokens += len(row["ids"])
        wrong += [f"line {number}: {sentence}" for sentence in check_chat(tokenizer, messages, row)]
    verdict.check(f"ids and spans of {len(compared)} chats, {tokens} tokens", bool(compared) and not wrong, "; ".join(wrong[:5]))
    return verdict.status()


if __name__ == "__main__":
    sys.exit(main())
