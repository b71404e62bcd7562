//! SHA-256 digests, and one for several texts.

pub use sirocco_files::BareDigest as Sha256Digest;

use crate::source::Source;

/// One digest for several texts, whatever their files are called, wherever they lie and in whichever order they come: that of their digests
/// in order, a line each.
pub(crate) fn of_texts(sources: &[Source]) -> Sha256Digest {
    let mut lines: Vec<_> = sources.iter().map(|source| format!("{}\n", Sha256Digest::of(source.text.as_bytes()))).collect();
    lines.sort_unstable();
    Sha256Digest::of(lines.concat().as_bytes())
}
