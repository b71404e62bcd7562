//! Plain texts as documents.

use crate::document::Document;
use crate::error::TokensError;
use crate::tokenizer::Tokenizer;

impl Tokenizer {
    /// A text as documents of at most `length` tokens. The end token follows the text; a text that is too long is cut into
    /// pieces, each of which starts afresh (with the start token, where the tokenizer puts one before texts). Every token but
    /// the first of a piece is a target.
    ///
    /// # Errors
    /// The tokenizer cannot write the text; `length` has no room for a start token and three more.
    pub fn encode_text(&self, text: &str, length: usize) -> Result<Vec<Document>, TokensError> {
        let mut ids = self.encode(text)?;
        ids.extend(self.eos_id());
        let start = self.text_start();
        let least = start.len() + 3;
        if length < least {
            let expected = format!("at least {least} tokens");
            return Err(TokensError::Length { what: "sequence_length".to_owned(), found: length, expected });
        }
        let piece = |part: &[u32]| {
            let ids = [start, part].concat();
            let targets = vec![1..ids.len() as u32];
            Document { ids, targets }
        };
        Ok(cuts(ids.len(), length - start.len()).map(|(from, to)| piece(&ids[from..to])).collect())
    }
}

/// Cuts `total` tokens into pieces of at most `room`. A last piece of one token would teach nothing without a start token before
/// it, so it takes one from its neighbour.
fn cuts(total: usize, room: usize) -> impl Iterator<Item = (usize, usize)> {
    let lone = total > room && total % room == 1;
    let ends = (1..=total.div_ceil(room)).map(move |n| (n * room).min(total));
    let mut from = 0;
    ends.map(move |end| {
        let to = if lone && end + 1 == total { end - 1 } else { end };
        let cut = (from, to);
        from = to;
        cut
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_the_text_and_none_is_alone() {
        assert_eq!(cuts(10, 4).collect::<Vec<_>>(), [(0, 4), (4, 8), (8, 10)]);
        assert_eq!(cuts(9, 4).collect::<Vec<_>>(), [(0, 4), (4, 7), (7, 9)]);
        assert_eq!(cuts(8, 4).collect::<Vec<_>>(), [(0, 4), (4, 8)]);
        assert_eq!(cuts(1, 4).collect::<Vec<_>>(), [(0, 1)]);
        assert_eq!(cuts(0, 4).count(), 0);
    }
}
