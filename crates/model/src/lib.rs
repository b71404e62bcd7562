//! Token ids to logits and gradients: one network, forward and backward side by side, LoRA.
