//! A model for the tests of the layers above: no tensors, every answer known in advance.

use std::sync::Arc;

use sirocco_tokens::Tokenizer;

use super::handle::{Models, Started};
use super::{Context, Engine, EngineError, LanguageModel, Limits, Rows};

/// Vocabulary of the tokenizer that `sirocco_tests::material` writes: three special tokens, then the bytes.
pub(crate) const VOCABULARY: usize = 259;
/// Its end-of-turn token.
pub(crate) const END: u32 = 2;

/// The id of an ASCII character.
pub(crate) fn id(character: u8) -> u32 {
    u32::from(character) + 3
}

/// Repeats the lower-case alphabet from the letter after the last one; after anything else it starts with `a`. After
/// `z` the most probable token is the end of the turn. Each token costs `pause`.
pub(crate) struct Alphabet {
    /// How long a step takes.
    pub(crate) pause: std::time::Duration,
}

struct AlphabetContext<'a> {
    model: &'a Alphabet,
    left: usize,
}

impl LanguageModel for Alphabet {
    fn context(&self, capacity: usize) -> Result<Box<dyn Context + '_>, EngineError> {
        Ok(Box::new(AlphabetContext { model: self, left: capacity }))
    }
}

impl Context for AlphabetContext<'_> {
    fn extend(&mut self, ids: &[u32], rows: Rows) -> Result<Vec<f32>, EngineError> {
        std::thread::sleep(self.model.pause);
        self.left = self.left.checked_sub(ids.len()).expect("no more tokens than the capacity");
        let ids = if rows == Rows::Last { &ids[ids.len() - 1..] } else { ids };
        Ok(ids.iter().flat_map(|&last| row(last)).collect())
    }
}

/// The probability of the expected token is 0.9, the rest is spread evenly.
fn row(last: u32) -> Vec<f32> {
    let next = match last {
        last if last == id(b'z') => END,
        last if (id(b'a')..id(b'z')).contains(&last) => last + 1,
        _ => id(b'a'),
    };
    let rest = (0.1 / (VOCABULARY - 1) as f32).ln();
    (0..VOCABULARY as u32).map(|id| if id == next { 0.9f32.ln() } else { rest }).collect()
}

/// The tiny tokenizer.
pub(crate) fn tokenizer() -> Arc<Tokenizer> {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("model");
    sirocco_tests::material::tiny_model(&model);
    Arc::new(Tokenizer::open(&model).unwrap())
}

/// An engine with the alphabet under two names.
pub(crate) fn engine(tokenizer: &Arc<Tokenizer>, limits: Limits, pause: std::time::Duration) -> Started {
    let load = move || {
        let networks: Vec<Box<dyn LanguageModel>> = vec![Box::new(Alphabet { pause }), Box::new(Alphabet { pause })];
        Ok(Models { networks, end_tokens: vec![END] })
    };
    Engine::start(Arc::clone(tokenizer), limits, load).unwrap()
}
