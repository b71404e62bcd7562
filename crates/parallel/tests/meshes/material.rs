//! The tiny model and the same data for every mesh.

use std::path::Path;

use safetensors::SafeTensors;
use sirocco_model::weight::FileTensor;
use sirocco_model::{Batch, LoraConfig, ModelConfig, Projection, SeamError, Slice, Trained};

/// Sequences of a step: divisible by every number of ranks in the tables.
pub(crate) const GLOBAL_BATCH: usize = 24;

/// What is trained.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Method {
    Full,
    Lora,
}

impl Method {
    pub(crate) fn trained(self) -> Trained {
        match self {
            Self::Full => Trained::Full,
            Self::Lora => Trained::Lora(LoraConfig { rank: 4, scale: 2.0, targets: Projection::ALL.to_vec() }),
        }
    }

    /// Rates as people train with. At ten times these, AdamW's division by the root of tiny second moments lets fp32's own rounding
    /// grow past the bound within ten steps.
    pub(crate) fn learning_rate(self) -> f64 {
        match self {
            Self::Full => 1e-4,
            Self::Lora => 1e-3,
        }
    }
}

/// A model's file.
pub(crate) struct Material {
    pub(crate) config: ModelConfig,
    bytes: Vec<u8>,
}

impl Material {
    pub(crate) fn open(name: &str) -> Self {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/oracle").join(name);
        let config = ModelConfig::from_json(&std::fs::read_to_string(directory.join("config.json")).unwrap()).unwrap();
        Self { config, bytes: std::fs::read(directory.join("model.safetensors")).unwrap() }
    }

    /// A piece of a slice of a tensor.
    pub(crate) fn piece(&self, name: &str, slice: &Slice, piece: std::ops::Range<usize>) -> Result<FileTensor, SeamError> {
        let file = SafeTensors::deserialize(&self.bytes)?;
        let view = file.tensor(name)?;
        let cut = tch::Tensor::f_from_data_size(view.data(), &slice.full, tch::Kind::Float)?
            .narrow(slice.dim as i64, slice.start, slice.length)
            .contiguous();
        let bytes = sirocco_model::memory::bytes(&cut);
        Ok((view.dtype(), vec![piece.len()], bytes[piece.start * 4..piece.end * 4].to_vec()))
    }

    /// The documents of one sequence of a step: a pure function of both. Some tokens are targets, most of them.
    fn documents(&self, step: usize, sequence: usize) -> Vec<(Vec<i64>, Vec<i64>)> {
        let mut state = (step * GLOBAL_BATCH + sequence) as u64 + 1;
        let mut draw = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let count = 1 + draw(3);
        let vocabulary = self.config.vocabulary as u64;
        (0..count)
            .map(|_| {
                let length = 3 + draw(30) as usize;
                let ids: Vec<i64> = (0..length).map(|_| draw(vocabulary) as i64).collect();
                let prompt = draw(length as u64 - 1) as usize;
                let target = |at: usize| if at < prompt { -1 } else { ids.get(at + 1).copied().unwrap_or(-1) };
                (ids.clone(), (0..length).map(target).collect())
            })
            .collect()
    }

    /// Target tokens of a whole step.
    pub(crate) fn targets(&self, step: usize) -> usize {
        let documents = (0..GLOBAL_BATCH).flat_map(|sequence| self.documents(step, sequence));
        documents.map(|(_, targets)| targets.iter().filter(|&&target| target >= 0).count()).sum()
    }

    /// The micro-batches of a share of a step. `together` puts all documents of a share into one; otherwise each holds `micro_batch`
    /// sequences.
    pub(crate) fn batches(&self, step: usize, (share, shares): (usize, usize), micro_batch: usize) -> Vec<Batch> {
        let own: Vec<usize> = (share * GLOBAL_BATCH / shares..(share + 1) * GLOBAL_BATCH / shares).collect();
        let batch = |sequences: &[usize]| {
            let (mut ids, mut targets, mut offsets) = (Vec::new(), Vec::new(), vec![0]);
            for (document, wanted) in sequences.iter().flat_map(|&sequence| self.documents(step, sequence)) {
                ids.extend(document);
                targets.extend(wanted);
                offsets.push(ids.len() as i64);
            }
            Batch::new(ids, targets, &offsets, self.config.vocabulary).unwrap()
        };
        own.chunks(micro_batch).map(batch).collect()
    }
}
