//! Sums gradients over ranks while the backward is still running.
//!
//! As gradients become final they are gathered into buckets; a full bucket's all-reduce starts at once and overlaps with the backward of
//! the blocks before. Sums are fp32 and element-wise in rank order, so the size of the buckets changes nothing.

use sirocco_comm::{Communicator, Pending};
use sirocco_model::{Hooks, Network, Weight};

use crate::ParallelError;

/// The reduction of one step: pass it as the last micro-batch's hooks, then [`GradientReduction::finish`].
pub struct GradientReduction<'a> {
    communicator: &'a dyn Communicator,
    bucket_elements: usize,
    filling: Vec<f32>,
    started: Vec<Pending<Vec<f32>>>,
}

impl<'a> GradientReduction<'a> {
    /// A reduction in buckets of about `bucket_bytes`.
    pub fn new(communicator: &'a dyn Communicator, bucket_bytes: usize) -> Self {
        let bucket_elements = (bucket_bytes / size_of::<f32>()).max(1);
        Self { communicator, bucket_elements, filling: Vec::new(), started: Vec::new() }
    }

    fn start(&mut self) {
        if !self.filling.is_empty() {
            let bucket = std::mem::take(&mut self.filling);
            self.started.push(self.communicator.all_reduce_f32("gradients", bucket));
        }
    }

    /// Waits for every bucket and puts the sums in place of the network's own gradients.
    ///
    /// # Errors
    /// What ended a collective; sums that are more or fewer than the network's trained elements, which then keep their own gradients.
    pub fn finish(mut self, network: &mut Network) -> Result<(), ParallelError> {
        self.start();
        let mut sums = Vec::with_capacity(self.started.len());
        for bucket in self.started {
            sums.push(bucket.wait()?);
        }
        let found = sums.iter().map(Vec::len).sum();
        let expected = network.trained().iter().map(|weight| weight.gradient_elements().len()).sum();
        if found != expected {
            return Err(ParallelError::Length { found, expected });
        }
        let mut sums = sums.iter().flatten();
        for weight in network.trained_mut() {
            let (_, gradient) = weight.master_and_gradient();
            gradient.iter_mut().zip(&mut sums).for_each(|(gradient, sum)| *gradient = *sum);
        }
        Ok(())
    }
}

impl Hooks for GradientReduction<'_> {
    fn gradients_final(&mut self, weights: &mut dyn Iterator<Item = &Weight>) {
        for weight in weights {
            self.filling.extend_from_slice(weight.gradient_elements());
            if self.filling.len() >= self.bucket_elements {
                self.start();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;
    use std::sync::Mutex;

    use safetensors::SafeTensors;
    use sirocco_comm::{DeadPeer, Peer, Place, Solo, Traffic};
    use sirocco_model::{Batch, Dtype, LoraConfig, ModelConfig, Projection, Recompute, Trained};

    use super::*;

    /// Two ranks that computed the same, seen from the first: a sum is twice what was sent. Notes the length of every bucket.
    #[derive(Default)]
    struct Twins {
        own: Solo,
        buckets: Mutex<Vec<usize>>,
        /// Elements that get lost on the way.
        lost: usize,
    }

    impl Communicator for Twins {
        fn rank(&self) -> usize {
            0
        }
        fn size(&self) -> usize {
            2
        }
        fn all_reduce_f32(&self, name: &'static str, mut data: Vec<f32>) -> Pending<Vec<f32>> {
            self.buckets.lock().unwrap().push(data.len());
            data.truncate(data.len() - self.lost);
            self.own.all_reduce_f32(name, data.into_iter().map(|x| x + x).collect())
        }
        fn all_reduce_f64(&self, name: &'static str, data: Vec<f64>) -> Pending<Vec<f64>> {
            self.own.all_reduce_f64(name, data.into_iter().map(|x| x + x).collect())
        }
        fn all_gather_bytes(&self, name: &'static str, data: Vec<u8>) -> Pending<Vec<Vec<u8>>> {
            self.own.all_gather_bytes(name, data)
        }
        fn broadcast_bytes(&self, name: &'static str, root: usize, data: Vec<u8>) -> Pending<Vec<u8>> {
            self.own.broadcast_bytes(name, root, data)
        }
        fn barrier(&self, name: &'static str) -> Pending<()> {
            self.own.barrier(name)
        }
        fn traffic(&self) -> BTreeMap<&'static str, Traffic> {
            self.own.traffic()
        }
        fn place(&self) -> Place {
            self.own.place()
        }
        fn peers(&self) -> Vec<Peer> {
            self.own.peers()
        }
        fn dead_peers(&self) -> Vec<DeadPeer> {
            self.own.dead_peers()
        }
        fn abort(&self, code: i32) -> ! {
            self.own.abort(code)
        }
    }

    fn network(name: &str, trained: &Trained) -> Network {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/oracle").join(name);
        let config = ModelConfig::from_json(&std::fs::read_to_string(directory.join("config.json")).unwrap()).unwrap();
        let bytes = std::fs::read(directory.join("model.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let mut source = |name: &str| {
            let tensor = file.tensor(name)?;
            Ok((tensor.dtype(), tensor.shape().to_vec(), tensor.data().to_vec()))
        };
        let mut network = Network::load(&config, Dtype::Fp32, &mut source).unwrap();
        network.train(trained);
        // Fresh LoRA factors B are zero, and with them the gradients of A: move everything a little.
        for weight in network.trained_mut() {
            let (master, _) = weight.master_and_gradient();
            master.iter_mut().enumerate().for_each(|(index, x)| *x += 0.01 * (index % 5) as f32);
            weight.refresh();
        }
        network
    }

    fn backward(network: &mut Network, hooks: &mut dyn Hooks) {
        let vocabulary = network.config().vocabulary;
        let ids: Vec<i64> = (0..48).map(|n| n * 31 % vocabulary).collect();
        let targets = ids.iter().map(|id| (id + 7) % vocabulary).collect();
        let batch = Batch::new(ids, targets, &[0, 20, 48], vocabulary).unwrap();
        network.loss_and_gradients(&batch, 1.0 / 48.0, Recompute::Full, hooks).unwrap();
    }

    fn gradients(network: &Network) -> Vec<(String, Vec<f32>)> {
        network.trained().iter().map(|weight| (weight.name().to_string(), weight.gradient_elements().to_vec())).collect()
    }

    fn trainings() -> [Trained; 2] {
        let lora = LoraConfig { rank: 4, scale: 2.0, targets: Projection::ALL.to_vec() };
        [Trained::Full, Trained::Lora(lora, 1)]
    }

    #[test]
    fn sums_are_those_of_each_weight_whatever_the_buckets() {
        for (name, trained) in
            ["tiny-mistral", "tiny-mistral-tied"].iter().flat_map(|name| trainings().map(|trained| (name, trained)))
        {
            let mut alone = network(name, &trained);
            backward(&mut alone, &mut ());
            let twice: Vec<_> =
                gradients(&alone).into_iter().map(|(name, own)| (name, own.iter().map(|x| x + x).collect())).collect();
            assert!(twice.iter().all(|(_, sums): &(_, Vec<f32>)| sums.iter().any(|sum| *sum != 0.0)));
            let elements: usize = twice.iter().map(|(_, sums)| sums.len()).sum();
            for bytes in [4, 1000, 1 << 30] {
                let (twins, mut network) = (Twins::default(), network(name, &trained));
                let mut reduction = GradientReduction::new(&twins, bytes);
                backward(&mut network, &mut reduction);
                reduction.finish(&mut network).unwrap();
                assert_eq!(gradients(&network), twice, "{name} {trained:?} {bytes}");
                let buckets = twins.buckets.into_inner().unwrap();
                assert_eq!(buckets.iter().sum::<usize>(), elements);
                match bytes {
                    4 => assert_eq!(buckets.len(), twice.len()),
                    1000 => assert!(buckets.len() > 1 && buckets.iter().rev().skip(1).all(|elements| *elements >= 250)),
                    _ => assert_eq!(buckets.len(), 1),
                }
            }
        }
    }

    #[test]
    fn sums_that_are_missing_or_left_over_are_an_error() {
        let twins = Twins { lost: 3, ..Twins::default() };
        let mut network = network("tiny-mistral", &Trained::Full);
        let mut reduction = GradientReduction::new(&twins, 1 << 30);
        backward(&mut network, &mut reduction);
        let own = gradients(&network);
        let total: usize = own.iter().map(|(_, own)| own.len()).sum();
        let error = reduction.finish(&mut network).unwrap_err();
        assert!(matches!(error, ParallelError::Length { found, expected } if found + 3 == total && expected == total), "{error}");
        assert_eq!(gradients(&network), own);
        let twins = Twins::default();
        let mut reduction = GradientReduction::new(&twins, 1000);
        backward(&mut network, &mut reduction);
        backward(&mut network, &mut reduction);
        let error = reduction.finish(&mut network).unwrap_err();
        assert!(matches!(error, ParallelError::Length { found, expected } if found == 2 * total && expected == total), "{error}");
    }
}
