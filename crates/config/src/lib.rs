//! Text to a checked plan: the run file, --set, and every refusal that needs no other file.
