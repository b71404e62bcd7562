//! Training speed of Mistral 7B's shape with random weights, beside what a plain matrix product reaches on the same device.

use serde_json::json;
use sirocco_model::ops::cuda::{self, Gpu};
use sirocco_model::{Dtype, ModelConfig, Recompute, Trained};
use sirocco_optim::AdamWConfig;
use tch::Device;

use super::GpuJob;
use super::measure::{matrix_peak, seconds};
use super::optimizer::Optimizer;
use super::shapes::{self, Draw};
use crate::failure::{Failure, print_line};
use crate::median::median;
use crate::random_batch::random_batch;

/// Blocks of the whole of Mistral 7B.
const LAYERS: usize = 32;
/// LoRA's rank.
const RANK: usize = 16;
/// Steps that are not measured.
const WARM_UP: u64 = 2;
/// What is left to libtorch's cache, cuBLAS and the largest temporaries.
const SPARE: f64 = 10e9;
/// Bytes of a trained parameter: bf16 value, fp32 gradient, master copy and two moments.
const TRAINED_BYTES: f64 = 18.0;

/// One row of the table.
struct Row {
    what: String,
    parameters: f64,
    tokens: usize,
    seconds: f64,
    /// FLOP per token and parameter by the usual formula: 4 for LoRA, 6 for full fine-tuning.
    factor: f64,
}

impl Row {
    fn tokens_per_s(&self) -> f64 {
        self.tokens as f64 / self.seconds
    }

    /// FLOP/s by the formula, attention not counted.
    fn flops(&self) -> f64 {
        self.factor * self.parameters * self.tokens_per_s()
    }
}

pub(super) fn run(job: &GpuJob, device: Device, gpu: &Gpu) -> Result<(), Failure> {
    let peak = matrix_peak(device);
    // Asked once: what libtorch has cached after the first row counts as taken, though it is there for the second.
    let room = free(device)? - SPARE;
    let rows = [lora(job, device, room)?, full(job, device, room)?];
    if job.json {
        let rows: Vec<_> = rows.iter().map(|row| json(row, peak)).collect();
        let report = json!({"gpu": gpu.name, "bytes": gpu.bytes, "length": job.length, "matrix_flops": peak, "rows": rows});
        print_line(&report.to_string());
        return Ok(());
    }
    print_line(&format!("{}: bf16, sequences of {} tokens, random weights and tokens", gpu.name, job.length));
    print_line(&format!("plain bf16 matrix product, 8192 × 8192 × 8192: {:.0} TFLOP/s", peak / 1e12));
    print_line("what                                        tokens/s   s/step   TFLOP/s  of the product   formula");
    for row in &rows {
        print_line(&format!(
            "{:<43} {:>8.0} {:>8.3} {:>9.0} {:>13.1} %   {}·N, N = {:.3e}",
            row.what,
            row.tokens_per_s(),
            row.seconds,
            row.flops() / 1e12,
            100.0 * row.flops() / peak,
            row.factor,
            row.parameters
        ));
    }
    Ok(())
}

fn json(row: &Row, peak: f64) -> serde_json::Value {
    json!({
        "what": row.what, "parameters": row.parameters, "tokens_per_step": row.tokens, "seconds_per_step": row.seconds,
        "tokens_per_s": row.tokens_per_s(), "flop_per_token_and_parameter": row.factor, "flops": row.flops(),
        "share_of_matrix_product": row.flops() / peak,
    })
}

/// Bytes of activations that a block keeps of one token: of D the residual twice, the two norms, attention's result; q, k and v; of F
/// gate, up and their product. All bf16.
fn kept_per_token(config: &ModelConfig) -> f64 {
    let heads = (2 * config.heads + 2 * config.kv_heads) * config.head_dim;
    2.0 * (4 * config.hidden + heads + 3 * config.intermediate) as f64
}

fn free(device: Device) -> Result<f64, Failure> {
    match device {
        Device::Cuda(ordinal) => cuda::free_memory(ordinal).map(|bytes| bytes as f64).map_err(Failure::model),
        _ => Ok(f64::INFINITY),
    }
}

/// LoRA on the whole of Mistral 7B, everything kept for the backward, as many sequences at once as fit, at most four.
fn lora(job: &GpuJob, device: Device, room: f64) -> Result<Row, Failure> {
    let (config, length) = (shapes::mistral_7b(LAYERS), usize::from(job.length));
    let parameters = shapes::parameters(&config);
    let sequence = kept_per_token(&config) * (LAYERS * length) as f64;
    let sequences = ((room - 2.0 * parameters) / sequence).clamp(0.0, 4.0) as usize;
    if sequences == 0 {
        let needed = (2.0 * parameters + SPARE + sequence) / 1e9;
        return Err(Failure::machine(format!("LoRA on Mistral 7B needs about {needed:.0} GB of free GPU memory, found less")));
    }
    let row = train(job, (&config, &shapes::lora(RANK), Recompute::None), sequences, device)?;
    Ok(Row { what: format!("Mistral 7B, LoRA rank {RANK}, {sequences} × {length}"), factor: 4.0, ..row })
}

/// Full fine-tuning of as many blocks of Mistral 7B as fit, each block's activations computed again.
fn full(job: &GpuJob, device: Device, room: f64) -> Result<Row, Failure> {
    let (length, sequences) = (usize::from(job.length), 2);
    let tokens = (sequences * length) as f64;
    let needed = |layers: usize| {
        let config = shapes::mistral_7b(layers);
        let inputs = 2.0 * (config.hidden as usize * layers) as f64 * tokens;
        TRAINED_BYTES * shapes::parameters(&config) + inputs + 2.0 * kept_per_token(&config) * tokens
    };
    let layers = (1..=LAYERS).rev().find(|&layers| needed(layers) <= room);
    let layers = layers
        .ok_or_else(|| Failure::machine("full fine-tuning of one block of Mistral 7B does not fit into free GPU memory"))?;
    let config = shapes::mistral_7b(layers);
    let row = train(job, (&config, &Trained::Full, Recompute::Full), sequences, device)?;
    Ok(Row { what: format!("{layers} blocks of Mistral 7B, full, {sequences} × {length}"), factor: 6.0, ..row })
}

/// The median step: forward, backward, clipping, AdamW.
fn train(
    job: &GpuJob,
    (config, trained, recompute): (&ModelConfig, &Trained, Recompute),
    sequences: usize,
    device: Device,
) -> Result<Row, Failure> {
    let length = usize::from(job.length);
    let tokens = sequences * length;
    let mut network = shapes::network(config, Dtype::Bf16, trained, Draw { device, drawn_on: device })?;
    let adamw = AdamWConfig { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weight_decay: 0.0 };
    let mut optimizer = Optimizer::new(&network, adamw);
    let mut measured = Vec::new();
    for step in 0..WARM_UP + u64::from(job.steps) {
        let batch = random_batch(step, (tokens, length), config.vocabulary)?;
        let (took, outcome) = seconds(device, || {
            let loss = network.loss_and_gradients(&batch, 1.0 / tokens as f64, recompute).map_err(Failure::model)?;
            optimizer.step(&mut network, 1e-5).map(|norm| (loss, norm))
        });
        let (loss, norm) = outcome?;
        if !loss.sum.is_finite() || !norm.is_finite() {
            return Err(Failure::failed(format!("step {step}: loss {}, gradient norm {norm}, expected numbers", loss.sum)));
        }
        if step >= WARM_UP {
            measured.push(took);
        }
    }
    let parameters = shapes::parameters(config);
    let seconds = median(&measured).unwrap_or(f64::NAN);
    Ok(Row { what: String::new(), parameters, tokens, seconds, factor: 0.0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_counts_by_its_formula() {
        let row = Row { what: String::new(), parameters: 7e9, tokens: 16_384, seconds: 1.0, factor: 4.0 };
        assert_eq!(row.flops(), 4.0 * 7e9 * 16_384.0);
        let share = json(&row, 1e15)["share_of_matrix_product"].as_f64();
        assert!(share.is_some_and(|share| (share - 0.458_752).abs() < 1e-9));
        // About 4.4 MB a token for the 32 blocks of Mistral 7B.
        assert_eq!(kept_per_token(&shapes::mistral_7b(LAYERS)), 139_264.0);
    }
}
