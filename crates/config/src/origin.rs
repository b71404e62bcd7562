//! What a run is made of, as its checkpoints remember it: settled settings, base weights, tokens. A checkpoint that was made of
//! other ones is refused by every program with the same words.

use serde_json::json;
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::run::Run;
use crate::run_file::free_on_resume;

impl Run {
    /// SHA-256, in 64 hexadecimal digits, of the settings that decide what the run is: all but those that [`free_on_resume`]
    /// names, the name, and where model and data are, whose contents have digests of their own. Checkpoints hold it.
    pub fn settled_digest(&self) -> String {
        let (data, train) = (&self.data, &self.train);
        // Checkpoints of every version so far compare with this text: it may grow only with a new version of their format.
        let settled = json!([
            [self.seed, self.model.dtype, self.method, data.format, data.sequence_length, data.packing, data.on_bad],
            [train.global_batch, train.learning_rate, train.schedule, train.warmup_steps, train.weight_decay],
            [train.max_grad_norm, train.betas, train.epsilon],
        ]);
        Sha256::digest(settled.to_string()).iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// A part of what a run is made of; each has a SHA-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// [`Run::settled_digest`]
    Settings,
    /// Configuration and weights of the base model.
    Base,
    /// The tokens that the run is trained on.
    Tokens,
}

impl Origin {
    /// Compares the digest that the checkpoint of `step` holds with that of what is there now.
    ///
    /// # Errors
    /// [`OtherOrigin`] where they differ.
    pub fn compare(self, step: u64, made: &str, found: &str) -> Result<(), OtherOrigin> {
        if made == found {
            return Ok(());
        }
        let (made, found) = (made.to_owned(), found.to_owned());
        Err(match self {
            Origin::Settings => OtherOrigin::Settings { step },
            Origin::Base => OtherOrigin::Base { step, made, found },
            Origin::Tokens => OtherOrigin::Tokens { step, made, found },
        })
    }
}

/// A checkpoint that was made of something else than the run is made of now.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OtherOrigin {
    /// run.toml was changed by hand.
    #[error(
        "the checkpoint of step {step} was made with other settings than run.toml has now; of a run that has begun only {} may change",
        free_on_resume()
    )]
    Settings {
        /// Of the checkpoint.
        step: u64,
    },
    /// The model directory holds another base.
    #[error("the checkpoint of step {step} was made on base weights with SHA-256 {made}, found {found}")]
    Base {
        /// Of the checkpoint.
        step: u64,
        /// What the checkpoint holds.
        made: String,
        /// Of what is there.
        found: String,
    },
    /// The data was tokenised anew, and is not what it was.
    #[error("the checkpoint of step {step} was made on training tokens with SHA-256 {made}, found {found}")]
    Tokens {
        /// Of the checkpoint.
        step: u64,
        /// What the checkpoint holds.
        made: String,
        /// Of what is there.
        found: String,
    },
}

impl OtherOrigin {
    /// Whether the settings are to blame, which somebody typed, rather than files.
    pub fn is_typed(&self) -> bool {
        matches!(self, OtherOrigin::Settings { .. })
    }

    /// What to do about it.
    pub fn advice(&self) -> &'static str {
        match self {
            OtherOrigin::Settings { .. } => "put the settings back as the run was started, or start a new run",
            OtherOrigin::Base { .. } => "put the base model back as it was, or start a new run",
            OtherOrigin::Tokens { .. } => "put the data files back as they were and remove RUN/tokens, or start a new run",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run_file::RunFile;
    use std::path::Path;

    const TINY: &str = "name = 'tiny'\nseed = 7\nmodel = { path = 'm', dtype = 'fp32' }\ndata = { train = ['a'], sequence_length = 64 }\n\
                        method = { rank = 4, alpha = 8 }\n\
                        train = { steps = 10, global_batch = 4, learning_rate = 1e-2, warmup_steps = 2 }\n";
    const TINY_DIGEST: &str = "f79a078bd0ab0fb8632c00ba08df8bcb91472dbccaafcff1e9d99b7fbfc4b5bb";

    fn digest(sets: &[&str]) -> String {
        let mut file = RunFile::parse(TINY, Path::new("run.toml")).unwrap();
        sets.iter().for_each(|set| file.set(set).unwrap());
        file.check(Path::new("/")).unwrap().settled_digest()
    }

    #[test]
    fn the_digest_is_that_of_the_checkpoints_that_were_saved_before() {
        // Both were read from manifests that other versions of the trainer had written.
        assert_eq!(digest(&[]), TINY_DIGEST);
        let demo = [
            "seed=1",
            "model.dtype=bf16",
            "data.sequence_length=256",
            "method.rank=16",
            "method.alpha=32",
            "train.global_batch=8",
            "train.learning_rate=1e-3",
            "train.warmup_steps=6",
        ];
        let demo = digest(&[&demo[..], &["train.steps=120"]].concat());
        assert_eq!(demo, "a3c574f72191fc22509a7ab5f35c60c2ff856effc5b963a6a1ea177969fffe8a");
    }

    #[test]
    fn it_changes_with_what_is_settled_and_with_nothing_else() {
        for settled in [
            "seed=8",
            "model.dtype=bf16",
            "data.format=text",
            "data.sequence_length=32",
            "data.packing=false",
            "data.on_bad=skip",
            "method.rank=8",
            "method.alpha=4",
            "method.targets=[q_proj]",
            "method.kind=full",
            "train.global_batch=8",
            "train.learning_rate=2e-2",
            "train.schedule=constant",
            "train.warmup_steps=3",
            "train.weight_decay=0.1",
            "train.max_grad_norm=2.0",
            "train.betas=[0.9, 0.99]",
            "train.epsilon=1e-6",
        ] {
            assert_ne!(digest(&[settled]), TINY_DIGEST, "{settled}");
        }
        for free in [
            "name=other",
            "model.path=elsewhere",
            "model.device=cpu",
            "data.train=[elsewhere]",
            "train.steps=11",
            "train.epochs=3",
            "train.micro_batch=2",
            "train.max_skipped_steps=0",
            "parallel.tp=2",
            "checkpoint.every_steps=3",
            "eval.every_steps=3",
            "site.time=30",
        ] {
            assert_eq!(digest(&[free]), TINY_DIGEST, "{free}");
        }
    }

    #[test]
    fn what_differs_is_named_with_what_was_found() {
        let refused = |part: Origin| part.compare(5, "aa", "bb").unwrap_err();
        let words = refused(Origin::Settings).to_string();
        assert!(words.starts_with("the checkpoint of step 5 was made with other settings than run.toml has now; "), "{words}");
        assert!(refused(Origin::Settings).is_typed() && !refused(Origin::Base).is_typed());
        let words = refused(Origin::Tokens).to_string();
        assert_eq!(words, "the checkpoint of step 5 was made on training tokens with SHA-256 aa, found bb");
        assert_eq!(Origin::Base.compare(5, "aa", "aa"), Ok(()));
    }
}
