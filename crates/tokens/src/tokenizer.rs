//! A model's tokenizer: tokenizer.json and the settings beside it.

use crate::error::TokensError;
use crate::settings::Settings;
use crate::stream::DecodeStream;
use crate::template::ChatTemplate;
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::path::{Path, PathBuf};
use tokenizers::AddedToken;

/// Put before a part that goes on from another, for tokenizers that treat the start of a text specially (SentencePiece's dummy
/// prefix): a token of our own, dropped again. Private-use characters; where they stand in a text they are dropped with it.
const MARK: &str = "\u{E0F2}sirocco:part\u{E0F3}";

/// A set of bytes.
type ByteSet = [bool; 256];

/// Text to token ids and back. Cheap to share by reference between threads.
#[derive(Debug)]
pub struct Tokenizer {
    directory: PathBuf,
    /// Turns the text of control tokens into control tokens: for what a template wrote.
    with_control: tokenizers::Tokenizer,
    /// Never does: for what people wrote.
    as_text: tokenizers::Tokenizer,
    /// Control tokens, longest text first.
    controls: Vec<(String, u32)>,
    /// The bytes that control tokens begin and end with.
    control_edges: (ByteSet, ByteSet),
    is_control: Vec<bool>,
    bos: Option<u32>,
    eos: Option<u32>,
    text_start: Vec<u32>,
    /// The id of [`MARK`] where a part of a text is encoded otherwise when it stands alone; else none.
    mark: Option<u32>,
    vocab_size: usize,
    template: Option<ChatTemplate>,
    digest: String,
}

impl Tokenizer {
    /// Opens the tokenizer of a model directory: tokenizer.json, with tokenizer_config.json and chat_template.jinja where they
    /// are there. The path of a tokenizer.json is taken too.
    ///
    /// # Errors
    /// A file cannot be read or is not valid, or names a special token that the vocabulary lacks.
    pub fn open(model: &Path) -> Result<Tokenizer, TokensError> {
        let file = if model.is_dir() { model.join("tokenizer.json") } else { model.to_path_buf() };
        let directory = file.parent().unwrap_or(Path::new(".")).to_path_buf();
        let bytes = std::fs::read(&file).map_err(|source| TokensError::io(&file, "read", source))?;
        let mut with_control = tokenizers::Tokenizer::from_bytes(&bytes)
            .map_err(|error| TokensError::file(&file, format!("found no valid tokenizer: {error}")))?;
        // A file may ask for cutting and padding; both would silently change what is learnt.
        with_control.with_truncation(None).map_err(|error| TokensError::file(&file, error.to_string()))?;
        with_control.with_padding(None);
        let mut as_text = with_control.clone();
        as_text.set_encode_special_tokens(true);
        let settings = Settings::open(&directory)?;
        let id = |name: &str| settings.special.get(name).map(|text| known(&with_control, &settings.path, name, text)).transpose();
        let (bos, eos) = (id("bos_token")?, id("eos_token")?);
        let digest = digest(&bytes, &settings);
        let template = settings.template.map(|source| ChatTemplate::compile(&source, settings.special)).transpose()?;
        let controls = controls(&with_control);
        let mut tokenizer = Tokenizer {
            directory,
            control_edges: (edges(&controls, <[u8]>::first), edges(&controls, <[u8]>::last)),
            controls,
            is_control: Vec::new(),
            with_control,
            as_text,
            bos,
            eos,
            text_start: Vec::new(),
            mark: None,
            vocab_size: 0,
            template,
            digest,
        };
        tokenizer.learn()?;
        Ok(tokenizer)
    }

    /// Finds out what the library does not tell.
    fn learn(&mut self) -> Result<(), TokensError> {
        let largest = self.with_control.get_vocab(true).into_values().max();
        self.vocab_size = largest.map_or(0, |id| id as usize + 1);
        self.is_control = vec![false; self.vocab_size];
        for (_, id) in &self.controls {
            self.is_control[*id as usize] = true;
        }
        let probe = "a";
        let plain = self.encode(probe)?;
        let processed = self.with_control.encode_fast(probe, true).map_err(|error| TokensError::encode(&error))?;
        if let Some(at) = processed.get_ids().windows(plain.len().max(1)).position(|ids| ids == plain) {
            self.text_start = processed.get_ids()[..at].to_vec();
        }
        let mut alike = true;
        if let Some((token, id)) = self.controls.first().cloned() {
            for text in ["a", " a"] {
                let whole = self.encode_control(&format!("{token}{text}"))?;
                alike &= whole == [vec![id], self.encode(text)?].concat();
            }
        }
        if !alike {
            for tokenizer in [&mut self.with_control, &mut self.as_text] {
                tokenizer.add_tokens(&[AddedToken::from(MARK, false).normalized(false)]);
            }
            self.mark = self.with_control.token_to_id(MARK);
        }
        Ok(())
    }

    fn ids(&self, tokenizer: &tokenizers::Tokenizer, text: &str, goes_on: bool) -> Result<Vec<u32>, TokensError> {
        let marked = if goes_on && self.mark.is_some() { Cow::Owned(format!("{MARK}{text}")) } else { Cow::Borrowed(text) };
        let encoding = tokenizer.encode_fast(&*marked, false).map_err(|error| TokensError::encode(&error))?;
        Ok(encoding.get_ids().iter().copied().filter(|id| Some(*id) != self.mark).collect())
    }

    /// As [`Tokenizer::encode`] or, with `control`, [`Tokenizer::encode_control`], for a text that goes on from another.
    pub(crate) fn encode_going_on(&self, text: &str, control: bool, goes_on: bool) -> Result<Vec<u32>, TokensError> {
        self.ids(if control { &self.with_control } else { &self.as_text }, text, goes_on)
    }

    /// The ids of a text, with nothing put before or after it. The text of a control token stays text.
    ///
    /// # Errors
    /// The tokenizer cannot write the text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TokensError> {
        self.ids(&self.as_text, text, false)
    }

    /// The ids of a text in which control tokens are recognised: for text that a template or an operator wrote, never for what
    /// came from users. Nothing is put before or after it, so that a start token is never doubled.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_control(&self, text: &str) -> Result<Vec<u32>, TokensError> {
        self.ids(&self.with_control, text, false)
    }

    /// The text of some tokens, without control tokens. Bytes that are not UTF-8 become U+FFFD, unknown ids nothing.
    pub fn decode(&self, ids: &[u32]) -> String {
        // The library's decoders fail on no list of ids; an empty text is what remains if one ever did.
        self.with_control.decode(ids, true).unwrap_or_default()
    }

    /// The text of some tokens with control tokens as they are written.
    pub fn decode_control(&self, ids: &[u32]) -> String {
        self.with_control.decode(ids, false).unwrap_or_default()
    }

    /// Decodes one token at a time.
    pub fn decode_stream(&self) -> DecodeStream<'_> {
        DecodeStream::new(self)
    }

    /// The largest id plus one: the least number of rows that an embedding must have.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// The start token that tokenizer_config.json names.
    pub fn bos_id(&self) -> Option<u32> {
        self.bos
    }

    /// The end token that tokenizer_config.json names.
    pub fn eos_id(&self) -> Option<u32> {
        self.eos
    }

    /// What the tokenizer itself puts before a text that stands alone: the start token, or nothing.
    pub fn text_start(&self) -> &[u32] {
        &self.text_start
    }

    /// The id of a token by its exact text in the vocabulary.
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.with_control.token_to_id(token)
    }

    /// Whether an id is a control token.
    pub fn is_control(&self, id: u32) -> bool {
        self.is_control.get(id as usize).copied().unwrap_or_default()
    }

    /// SHA-256 over the files that this was made from, 64 hexadecimal digits.
    pub fn digest(&self) -> String {
        self.digest.clone()
    }

    /// Whether the model has a chat template.
    pub fn has_chat_template(&self) -> bool {
        self.template.is_some()
    }

    pub(crate) fn template(&self) -> Result<&ChatTemplate, TokensError> {
        self.template.as_ref().ok_or_else(|| TokensError::NoChatTemplate { path: self.directory.clone() })
    }

    /// Whether a part of a text is encoded otherwise when it stands alone.
    pub(crate) fn marks_starts(&self) -> bool {
        self.mark.is_some()
    }

    /// A control token whose text is somewhere in `text`.
    pub(crate) fn control_in(&self, text: &str) -> Option<&str> {
        self.controls.iter().map(|(token, _)| token.as_str()).find(|token| text.contains(token))
    }

    /// The longest control token at the start of `text`.
    pub(crate) fn control_at(&self, text: &str) -> Option<(&str, u32)> {
        text.as_bytes().first().filter(|byte| self.control_edges.0[usize::from(**byte)])?;
        self.controls.iter().find(|(token, _)| text.starts_with(token.as_str())).map(|(token, id)| (token.as_str(), *id))
    }

    /// The longest control token at the end of `text`.
    pub(crate) fn control_at_end(&self, text: &str) -> Option<&str> {
        text.as_bytes().last().filter(|byte| self.control_edges.1[usize::from(**byte)])?;
        self.controls.iter().map(|(token, _)| token.as_str()).find(|token| text.ends_with(token))
    }
}

fn controls(tokenizer: &tokenizers::Tokenizer) -> Vec<(String, u32)> {
    let added = tokenizer.get_added_tokens_decoder();
    let special = added.into_iter().filter(|(_, token)| token.special && !token.content.is_empty());
    let mut controls: Vec<(String, u32)> = special.map(|(id, token)| (token.content, id)).collect();
    controls.sort_by(|a, b| b.0.len().cmp(&a.0.len()).then_with(|| a.cmp(b)));
    controls
}

fn edges(controls: &[(String, u32)], edge: impl Fn(&[u8]) -> Option<&u8>) -> ByteSet {
    let mut set = [false; 256];
    controls.iter().filter_map(|(token, _)| edge(token.as_bytes())).for_each(|byte| set[usize::from(*byte)] = true);
    set
}

fn known(tokenizer: &tokenizers::Tokenizer, path: &Path, name: &str, text: &str) -> Result<u32, TokensError> {
    let missing =
        || TokensError::file(path, format!("{name} is \"{text}\"; expected a token of the vocabulary in tokenizer.json"));
    tokenizer.token_to_id(text).ok_or_else(missing)
}

fn digest(tokenizer: &[u8], settings: &Settings) -> String {
    let mut sha256 = Sha256::new();
    let files = std::iter::once(("tokenizer.json", tokenizer)).chain(settings.files.iter().map(|(n, b)| (*n, b.as_slice())));
    for (name, bytes) in files {
        sha256.update(name.as_bytes());
        sha256.update((bytes.len() as u64).to_le_bytes());
        sha256.update(bytes);
    }
    sirocco_corpus::hex(&sha256.finalize())
}
