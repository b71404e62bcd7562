//! AdamW, learning-rate schedules, clipping.
