//! A model for the tests of the layers above: no tensors, every answer known in advance.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

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
/// `z` the most probable token is the end of the turn. Each step passes `gate`.
struct Alphabet {
    gate: Arc<Gate>,
}

/// What the steps of all models wait for, so that a test decides when they are made.
#[derive(Default)]
pub(crate) struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Steps that may be made.
    allowed: usize,
    /// Steps that have come to the gate.
    arrived: usize,
    panics: bool,
}

impl Gate {
    /// A gate that stops nothing.
    pub(crate) fn open() -> Arc<Gate> {
        let gate = Gate::default();
        gate.allow(usize::MAX);
        Arc::new(gate)
    }

    /// A gate that stops every step.
    pub(crate) fn closed() -> Arc<Gate> {
        Arc::default()
    }

    /// Lets so many more steps through.
    pub(crate) fn allow(&self, steps: usize) {
        let mut state = self.state.lock().unwrap();
        state.allowed = state.allowed.saturating_add(steps);
        self.changed.notify_all();
    }

    /// Makes the next step panic.
    pub(crate) fn panic(&self) {
        self.state.lock().unwrap().panics = true;
        self.changed.notify_all();
    }

    /// Steps that have come to the gate so far.
    pub(crate) fn arrived(&self) -> usize {
        self.state.lock().unwrap().arrived
    }

    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.arrived += 1;
        let mut state = self.changed.wait_while(state, |state| state.allowed == 0 && !state.panics).unwrap();
        let panics = state.panics;
        state.allowed = state.allowed.saturating_sub(1);
        drop(state);
        assert!(!panics, "the test wants this panic");
    }
}

/// Waits for what another thread will do.
pub(crate) async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let wait = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), wait).await.unwrap_or_else(|_| panic!("waited in vain for: {what}"));
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
        self.model.gate.pass();
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
pub(crate) fn engine(tokenizer: &Arc<Tokenizer>, limits: Limits, gate: &Arc<Gate>) -> Started {
    let gates = [Arc::clone(gate), Arc::clone(gate)];
    let load = move || {
        let network = |gate| Box::new(Alphabet { gate }) as Box<dyn LanguageModel>;
        Ok(Models { networks: gates.map(network).into(), end_tokens: vec![END] })
    };
    Engine::start(Arc::clone(tokenizer), limits, load).unwrap()
}
