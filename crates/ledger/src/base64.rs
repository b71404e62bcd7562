//! Base64 as the C2SP formats use it: RFC 4648 section 4, padded, in its one canonical form.

use base64ct::{Base64, Encoding};
use zeroize::Zeroizing;

/// Bytes as padded standard base64.
pub(crate) fn encode(bytes: &[u8]) -> String {
    Base64::encode_string(bytes)
}

/// The bytes of `text`, or nothing when it is not the one text that [`encode`] makes of them.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    let bytes = Base64::decode_vec(text).ok()?;
    // It may be a secret's.
    let again = Zeroizing::new(encode(&bytes));
    (*again == text).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_canonical_text_is_read() {
        // Vectors of RFC 4648 section 10.
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(encode(bytes.as_bytes()), text);
            assert_eq!(decode(text).as_deref(), Some(bytes.as_bytes()));
        }
        for text in ["Zg", "Zg=", "Zh==", "Zm9=", "Zm9v\n", " Zm9v", "Zm9v====", "Zm-_", "Z", "===="] {
            assert_eq!(decode(text), None, "{text:?}");
        }
    }
}
