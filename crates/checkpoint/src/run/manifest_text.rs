//! How manifest.json is laid out: indented down to the lists of tensors, and one line for each tensor, of which there can be
//! hundreds of thousands.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter, Serializer};

/// Containers at this depth and below stand on one line: the manifest, its shards, a shard and its tensors are above.
const FLAT: usize = 4;

#[derive(Default)]
struct Lines {
    depth: usize,
    upper: PrettyFormatter<'static>,
}

impl Lines {
    /// Formats a token of the innermost open container.
    fn inner(&mut self) -> Token<'_> {
        if self.depth > FLAT { Token::Flat } else { Token::Upper(&mut self.upper) }
    }

    /// Formats the begin of a container.
    fn begin(&mut self) -> Token<'_> {
        self.depth += 1;
        self.inner()
    }
}

enum Token<'a> {
    Upper(&'a mut PrettyFormatter<'static>),
    Flat,
}

/// Hands a call on to the formatter of the current depth.
macro_rules! hand_on {
    ($($name:ident($which:ident $(, $first:ident)?);)*) => {$(
        fn $name<W: ?Sized + Write>(&mut self, writer: &mut W $(, $first: bool)?) -> io::Result<()> {
            match self.$which() {
                Token::Upper(upper) => upper.$name(writer $(, $first)?),
                Token::Flat => CompactFormatter.$name(writer $(, $first)?),
            }
        }
    )*};
}

impl Formatter for Lines {
    hand_on! {
        begin_array(begin);
        begin_array_value(inner, first);
        end_array_value(inner);
        begin_object(begin);
        begin_object_key(inner, first);
        begin_object_value(inner);
        end_object_value(inner);
    }

    fn end_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.depth -= 1;
        if self.depth < FLAT { self.upper.end_array(writer) } else { CompactFormatter.end_array(writer) }
    }

    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.depth -= 1;
        if self.depth < FLAT { self.upper.end_object(writer) } else { CompactFormatter.end_object(writer) }
    }
}

/// The text of a manifest, with a final newline.
pub(super) fn text(manifest: &impl Serialize) -> serde_json::Result<String> {
    let mut bytes = Vec::new();
    manifest.serialize(&mut Serializer::with_formatter(&mut bytes, Lines::default()))?;
    bytes.push(b'\n');
    String::from_utf8(bytes).map_err(serde::ser::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_tensor_stands_on_one_line() {
        let tensor = json!({"name": "w", "piece": {"shape": [2, 3], "dim": 0}});
        let manifest = json!({"version": 2, "shards": [{"rank": 0, "tensors": [tensor, tensor]}, {"rank": 1, "tensors": []}]});
        let expected = r#"{
  "version": 2,
  "shards": [
    {
      "rank": 0,
      "tensors": [
        {"name":"w","piece":{"shape":[2,3],"dim":0}},
        {"name":"w","piece":{"shape":[2,3],"dim":0}}
      ]
    },
    {
      "rank": 1,
      "tensors": []
    }
  ]
}
"#;
        let text = text(&manifest).unwrap();
        assert_eq!(text, expected);
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), manifest);
    }
}
