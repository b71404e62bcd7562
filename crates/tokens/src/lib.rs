//! Documents to token ids: tokenizer, chat formats, loss masks, the token cache, packing, batch order.
//!
//! The order of the modules is the order in which data moves: `tokenizer` and `template` say how a model writes text and
//! conversations; `chat` and `text` make [`Document`]s, token ids with the spans that are learnt; `cache` keeps them in a
//! file; `pack` puts them into sequences; `order` says which sequences a step takes; `microbatch` lays documents end to end
//! for the model. Nothing here pads: the end of a document is known by its length, never by a token id, so that an end token
//! which doubles as the padding token is learnt like any other.

#![allow(clippy::single_range_in_vec_init, reason = "a document often has one target span")]

mod cache;
mod cache_file;
mod chat;
mod clock;
mod document;
mod error;
mod guard;
mod ingest;
mod microbatch;
mod order;
mod pack;
mod permutation;
mod settings;
mod stream;
mod template;
mod text;
mod tokenizer;

pub use cache::{TokenCache, TokenCacheInputs};
pub use cache_file::{CacheHeader, CacheInputsRecord, SourceCounts};
pub use document::Document;
pub use error::TokensError;
pub use ingest::{Format, IngestProgress};
pub use microbatch::{MicroBatch, assemble};
pub use order::Order;
pub use pack::{one_per_sequence, pack};
pub use permutation::Permutation;
pub use stream::DecodeStream;
pub use tokenizer::Tokenizer;
