//! Training speed on random tokens, printed in the same form as the peers of `benches/peers/`.

use std::time::Instant;

use serde_json::json;
use sirocco_model::{Batch, LoraConfig, Projection, Recompute, Trained};
use sirocco_optim::{AdamW, AdamWConfig};

use crate::args::BenchJob;
use crate::failure::Failure;
use crate::run::step::apply;
use crate::{models, threads};

pub(crate) fn run(job: &BenchJob) -> Result<(), Failure> {
    let threads = threads::use_threads(job.threads)?;
    let [sequences, length, micro_batches, rank, document] =
        [job.sequences, job.length, job.micro_batches, job.rank, job.document.unwrap_or(job.length)].map(usize::from);
    let mut network = models::base(&job.model, job.dtype.into())?;
    let lora = LoraConfig { rank, scale: 2.0, targets: Projection::ALL.to_vec() };
    network.train(&Trained::Lora(lora, 1));
    let vocabulary = network.config().vocabulary;
    let tokens = sequences * length;
    let mut optimizer = AdamW::new(AdamWConfig { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.0 });
    let mut seconds = Vec::new();
    for step in 0..=job.steps {
        let start = Instant::now();
        let micro_batch = sequences.div_ceil(micro_batches);
        for first in (0..sequences).step_by(micro_batch) {
            let count = micro_batch.min(sequences - first) * length;
            let batch = random_batch(u64::from(step) * 1000 + first as u64, (count, document), vocabulary)?;
            network.loss_and_gradients(&batch, 1.0 / tokens as f64, Recompute::None, &mut ()).map_err(Failure::model)?;
        }
        apply(&mut network, &mut optimizer, 1e-4, 1.0)?;
        if step > 0 {
            seconds.push(start.elapsed().as_secs_f64());
        }
    }
    let mut sorted = seconds.clone();
    sorted.sort_by(f64::total_cmp);
    let median = sorted[sorted.len() / 2];
    let report = json!({
        "tokens_per_s": tokens as f64 / median, "seconds_per_step": seconds, "peak_rss_bytes": models::peak_memory(), "threads": threads,
    });
    crate::failure::print_line(&report.to_string());
    Ok(())
}

/// Tokens that depend on the seed alone, every one a target, in documents of `document` tokens.
fn random_batch(seed: u64, (tokens, document): (usize, usize), vocabulary: i64) -> Result<Batch, Failure> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let ids: Vec<i64> = (0..=tokens)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((state >> 33) % vocabulary as u64) as i64
        })
        .collect();
    let mut offsets: Vec<i64> = (0..tokens).step_by(document).map(|offset| offset as i64).collect();
    offsets.push(tokens as i64);
    Batch::new(ids[..tokens].to_vec(), ids[1..].to_vec(), &offsets, vocabulary).map_err(Failure::model)
}
