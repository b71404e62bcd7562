//! Files: models and adapters in and out, GGUF in, checkpoints of a run.
