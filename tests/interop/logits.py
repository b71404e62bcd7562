"""Logits of Sirocco in fp32, against Transformers in fp64 for the base and the merged model, against PEFT for the adapter."""

import sys

import common


def compare(verdict, what, ours, theirs):
    """The largest absolute difference over every token and every vocabulary entry."""
    if not verdict.check(f"{what}, shape", ours.shape == theirs.shape, f"{list(ours.shape)}, expected {list(theirs.shape)}"):
        return
    difference = (ours - theirs).abs().max().item()
    detail = f"largest difference {difference:.2e} over {ours.shape[0]} tokens x {ours.shape[1]} (limit {common.TOLERANCE:.0e})"
    # Written so that a NaN fails.
    verdict.check(what, difference <= common.TOLERANCE, detail)


def main():
    """Base, adapter, merged."""
    args = common.parser(__doc__).parse_args()
    common.require(args.bin / "sirocco-train", args.model, args.adapter, args.merged, args.chat)
    from transformers import AutoTokenizer

    verdict = common.Verdict()
    documents = common.prompts(AutoTokenizer.from_pretrained(args.model), args.chat)
    base = common.reference_logits(common.reference_model(args.model), documents)
    compare(verdict, "base against Transformers", common.sirocco_logits(args, args.model, documents), base)

    adapted = common.reference_logits(common.reference_model(args.model, args.adapter), documents)
    moved = (adapted - base).abs().max().item()
    verdict.check("the adapter does something in PEFT", moved > 100 * common.TOLERANCE, f"it moves logits by up to {moved:.3f}")
    compare(verdict, "adapter against PEFT", common.sirocco_logits(args, args.model, documents, args.adapter), adapted)

    merged = common.reference_logits(common.reference_model(args.merged), documents)
    compare(verdict, "merged against Transformers", common.sirocco_logits(args, args.merged, documents), merged)
    mean = (merged - adapted).abs().mean().item()
    verdict.check("merged is the adapter folded in", mean < 0.2 * (adapted - base).abs().mean().item(), f"mean difference {mean:.4f} (rounding to bf16)")
    return verdict.status()


if __name__ == "__main__":
    sys.exit(main())
