//! The network against Hugging Face Transformers: logits, loss and every weight's gradient on two tiny random models
//! (tests/oracle/make_tiny_mistral.py made the files).
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use sirocco_model::weight::FileTensor;
use sirocco_model::{Batch, Dtype, KvCache, LoraConfig, ModelConfig, Network, Projection, Recompute, Trained, Wanted};
use tch::{Kind, Tensor};

/// The project's bound for logits in fp32.
const LOGITS: f64 = 1e-3;
/// The project's bound for gradients in fp32, relative to the largest element.
const GRADIENT: f64 = 1e-5;
/// Relative bound of a loss in fp32.
const LOSS: f64 = 1e-6;

fn directory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/oracle").join(name)
}

struct File(Vec<u8>);

impl File {
    fn open(directory: &Path, name: &str) -> Self {
        Self(std::fs::read(directory.join(name)).unwrap())
    }

    fn tensor(&self, name: &str) -> FileTensor {
        let view = SafeTensors::deserialize(&self.0).unwrap().tensor(name).unwrap();
        (view.dtype(), view.shape().to_vec(), view.data().to_vec())
    }

    fn floats(&self, name: &str) -> Tensor {
        let (dtype, shape, bytes) = self.tensor(name);
        let kind = if dtype == safetensors::Dtype::F64 { Kind::Double } else { Kind::Float };
        let shape: Vec<i64> = shape.iter().map(|&size| size as i64).collect();
        Tensor::f_from_data_size(&bytes, &shape, kind).unwrap()
    }

    fn integers(&self, name: &str) -> Vec<i64> {
        self.tensor(name).2.chunks(8).map(|bytes| i64::from_le_bytes(bytes.try_into().unwrap())).collect()
    }
}

fn network(directory: &Path, dtype: Dtype) -> Network {
    let config = ModelConfig::from_json(&std::fs::read_to_string(directory.join("config.json")).unwrap()).unwrap();
    let file = File::open(directory, "model.safetensors");
    Network::load(&config, dtype, &mut |name| Ok(file.tensor(name))).unwrap()
}

fn batch(file: &File, network: &Network) -> Batch {
    let [ids, targets, offsets] = ["ids", "targets", "offsets"].map(|name| file.integers(name));
    Batch::new(ids, targets, &offsets, network.config().vocabulary).unwrap()
}

fn largest(tensor: &Tensor) -> f64 {
    tensor.to_kind(Kind::Double).abs().max().double_value(&[])
}

#[test]
fn logits_agree_and_packed_documents_are_as_if_alone() {
    for name in ["tiny-mistral", "tiny-mistral-tied"] {
        let (network, oracle) = (network(&directory(name), Dtype::Fp32), File::open(&directory(name), "forward.safetensors"));
        let difference = largest(&(network.logits(&batch(&oracle, &network)).unwrap() - oracle.floats("logits")));
        assert!(difference < LOGITS, "{name}: {difference:e}");
    }
}

#[test]
fn loss_and_every_gradient_agree_whatever_is_recomputed() {
    for name in ["tiny-mistral", "tiny-mistral-tied"] {
        for recompute in [Recompute::None, Recompute::Attention, Recompute::Full] {
            let mut network = network(&directory(name), Dtype::Fp32);
            let oracle = File::open(&directory(name), "forward.safetensors");
            let batch = batch(&oracle, &network);
            network.train(&Trained::Full, 7).unwrap();
            let scale = 1.0 / batch.target_count() as f64;
            let loss = network.loss_and_gradients(&batch, scale, recompute).unwrap();
            let expected = oracle.floats("loss_sum").double_value(&[]);
            assert!((loss.sum - expected).abs() / expected < LOSS, "{} {expected}", loss.sum);
            assert!((network.loss(&batch).unwrap().sum - expected).abs() / expected < LOSS);
            for weight in network.weights() {
                let expected = oracle.floats(&format!("grad.{}", weight.name()));
                let difference = largest(&(weight.gradient().unwrap() - &expected)) / largest(&expected);
                assert!(difference < GRADIENT, "{name} {}: {difference:e}", weight.name());
            }
        }
    }
}

#[test]
fn gradients_add_up_over_micro_batches() {
    let mut network = network(&directory("tiny-mistral"), Dtype::Fp32);
    let oracle = File::open(&directory("tiny-mistral"), "forward.safetensors");
    let whole = batch(&oracle, &network);
    network.train(&Trained::Full, 7).unwrap();
    let documents: Vec<(usize, usize)> = whole.documents.iter().collect();
    let scale = 1.0 / whole.target_count() as f64;
    let mut sum = 0.0;
    for (start, length) in documents {
        let range = start..start + length;
        let offsets = [0, length as i64];
        let part = Batch::new(whole.ids[range.clone()].to_vec(), whole.targets[range].to_vec(), &offsets, 320).unwrap();
        sum += network.loss_and_gradients(&part, scale, Recompute::None).unwrap().sum;
    }
    let expected = oracle.floats("loss_sum").double_value(&[]);
    assert!((sum - expected).abs() / expected < LOSS);
    for weight in network.weights() {
        let expected = oracle.floats(&format!("grad.{}", weight.name()));
        assert!(largest(&(weight.gradient().unwrap() - &expected)) / largest(&expected) < GRADIENT, "{}", weight.name());
    }
}

#[test]
fn bf16_stays_near_fp32() {
    let directory = directory("tiny-mistral");
    let (exact, rounded) = (network(&directory, Dtype::Fp32), network(&directory, Dtype::Bf16));
    let batch = batch(&File::open(&directory, "forward.safetensors"), &exact);
    let (exact, rounded) = (exact.loss(&batch).unwrap().sum, rounded.loss(&batch).unwrap().sum);
    assert!((exact - rounded).abs() / exact < 2e-2, "{exact} {rounded}");
}

/// Bound in bf16 of ‖difference‖ ÷ ‖gradient‖: eight bits of mantissa, rounded at each of a few dozen operations, on weights several
/// times as large as trained ones (5.4e-2 was measured).
const GRADIENT_BF16: f64 = 8e-2;

#[test]
fn gradients_in_bf16_stay_near_those_of_fp32() {
    let directory = directory("tiny-mistral");
    let lora = LoraConfig { rank: 4, scale: 2.0, targets: Projection::ALL.to_vec() };
    for trained in [Trained::Full, Trained::Lora(lora)] {
        let gradients = |dtype| {
            let mut network = network(&directory, dtype);
            network.train(&trained, 7).unwrap();
            // B starts at zero, which would leave A without a gradient.
            for weight in network.weights_mut().filter(|weight| weight.name().contains("lora_B")) {
                let values: Vec<f32> = (0..weight.value().numel()).map(|n| (n % 7) as f32 * 0.02 - 0.05).collect();
                weight.set_value(Tensor::from_slice(&values).view(&weight.shape()[..]).to_kind(dtype.kind())).unwrap();
            }
            let batch = batch(&File::open(&directory, "forward.safetensors"), &network);
            network.loss_and_gradients(&batch, 1.0 / batch.target_count() as f64, Recompute::None).unwrap();
            network.weights().filter_map(|weight| Some(weight.gradient()?.copy())).collect::<Vec<_>>()
        };
        for (number, (exact, rounded)) in gradients(Dtype::Fp32).iter().zip(gradients(Dtype::Bf16)).enumerate() {
            let difference = (exact - rounded).norm().double_value(&[]) / exact.norm().double_value(&[]);
            assert!(difference < GRADIENT_BF16, "{trained:?}, weight {number}: {difference:e}");
        }
    }
}

#[test]
fn decoding_with_a_cache_gives_the_logits_of_one_forward_however_it_is_cut() {
    let network = network(&directory("tiny-mistral"), Dtype::Fp32);
    let ids: Vec<u32> = (0..300u32).map(|n| n * 31 % 320).collect();
    let whole = Batch::new(ids.iter().map(|&id| i64::from(id)).collect(), vec![-1; 300], &[0, 300], 320);
    let expected = network.logits(&whole.unwrap()).unwrap();
    for cuts in [&[300usize][..], &[1, 7, 250, 42], &[290, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]] {
        let mut cache = KvCache::new(&network, 300);
        let mut start = 0;
        let parts: Vec<Tensor> = cuts
            .iter()
            .map(|&count| {
                start += count;
                network.decode(&ids[start - count..start], &mut cache, Wanted::All).unwrap()
            })
            .collect();
        let difference = largest(&(Tensor::cat(&parts, 0) - &expected));
        assert!(difference < LOGITS, "{cuts:?}: {difference:e}");
        let error = network.decode(&[1], &mut cache, Wanted::Last).unwrap_err().to_string();
        assert_eq!(error, "301 tokens do not fit into a context of 300");
    }
}

#[test]
fn a_weight_of_the_wrong_shape_is_named_with_both_shapes() {
    let directory = directory("tiny-mistral");
    let config = ModelConfig::from_json(&std::fs::read_to_string(directory.join("config.json")).unwrap()).unwrap();
    let file = File::open(&directory, "model.safetensors");
    let mut source = |name: &str| {
        let (dtype, mut shape, bytes) = file.tensor(name);
        if name == "model.layers.1.self_attn.k_proj.weight" {
            shape.reverse();
        }
        Ok((dtype, shape, bytes))
    };
    let error = Network::load(&config, Dtype::Fp32, &mut source).unwrap_err().to_string();
    assert_eq!(error, "tensor model.layers.1.self_attn.k_proj.weight has shape [64, 48], expected [48, 64]");
}
