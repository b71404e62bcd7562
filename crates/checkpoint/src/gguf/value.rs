//! Metadata values of a GGUF file.

use std::collections::HashSet;
use std::io::Read;

use super::scan::Scanner;
use crate::error::Result;

/// Far above any vocabulary, far below what would exhaust memory.
const MAX_ARRAY: u64 = 4 << 20;
const MAX_PAIRS: u64 = 1 << 16;
const MAX_DEPTH: u32 = 3;
const ARRAY: u32 = 9;

/// A metadata value; numbers keep their kind, not their width (fp32 keeps its width, so that it prints as written).
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum GgufValue {
    /// Unsigned integers of 8 to 64 bits.
    Unsigned(u64),
    /// Signed integers of 8 to 64 bits.
    Signed(i64),
    /// A single-precision number.
    F32(f32),
    /// A double-precision number.
    F64(f64),
    /// true or false.
    Bool(bool),
    /// Text.
    Text(String),
    /// Values of one kind.
    Array(Vec<GgufValue>),
}

impl GgufValue {
    /// A non-negative integer, from either signedness.
    pub(crate) fn as_u64(&self) -> Option<u64> {
        match self {
            Self::Unsigned(n) => Some(*n),
            Self::Signed(n) => u64::try_from(*n).ok(),
            _ => None,
        }
    }

    /// A number; fp32 gives the double whose shortest decimal is the same (1e-5 stays 1e-5).
    pub(crate) fn as_f64(&self) -> Option<f64> {
        match self {
            Self::F32(x) => x.to_string().parse().ok(),
            Self::F64(x) => Some(*x),
            _ => None,
        }
    }

    /// true or false.
    pub(crate) fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(b) => Some(*b),
            _ => None,
        }
    }

    /// Text.
    pub(crate) fn as_str(&self) -> Option<&str> {
        match self {
            Self::Text(s) => Some(s),
            _ => None,
        }
    }

    /// The elements of an array.
    pub(crate) fn as_array(&self) -> Option<&[GgufValue]> {
        match self {
            Self::Array(a) => Some(a),
            _ => None,
        }
    }

    /// The value as an error message shows it: short, whatever it holds.
    pub(crate) fn brief(&self) -> String {
        match self {
            Self::Unsigned(n) => n.to_string(),
            Self::Signed(n) => n.to_string(),
            Self::F32(x) => x.to_string(),
            Self::F64(x) => x.to_string(),
            Self::Bool(b) => b.to_string(),
            Self::Text(s) => format!("{:?}", s.chars().take(60).collect::<String>()),
            Self::Array(a) => format!("an array of {}", a.len()),
        }
    }
}

/// Reads all key–value pairs.
pub(super) fn read_pairs(scanner: &mut Scanner<'_, impl Read>, count: u64) -> Result<Vec<(String, GgufValue)>> {
    if count > MAX_PAIRS {
        return Err(scanner.error("key count", count.to_string(), format!("at most {MAX_PAIRS}")));
    }
    let mut pairs = Vec::new();
    let mut seen = HashSet::new();
    for _ in 0..count {
        let key = scanner.string("a key")?;
        let part = format!("key {key}");
        let kind = scanner.u32(&part)?;
        let value = read_value(scanner, &part, kind, 0)?;
        if !seen.insert(key.clone()) {
            return Err(scanner.error(&part, "the key twice", "each key once"));
        }
        pairs.push((key, value));
    }
    Ok(pairs)
}

fn read_value(scanner: &mut Scanner<'_, impl Read>, part: &str, kind: u32, depth: u32) -> Result<GgufValue> {
    Ok(match kind {
        0 => GgufValue::Unsigned(scanner.u8(part)?.into()),
        1 => GgufValue::Signed((scanner.u8(part)? as i8).into()),
        2 => GgufValue::Unsigned(scanner.u16(part)?.into()),
        3 => GgufValue::Signed((scanner.u16(part)? as i16).into()),
        4 => GgufValue::Unsigned(scanner.u32(part)?.into()),
        5 => GgufValue::Signed((scanner.u32(part)? as i32).into()),
        6 => GgufValue::F32(f32::from_bits(scanner.u32(part)?)),
        7 => match scanner.u8(part)? {
            0 => GgufValue::Bool(false),
            1 => GgufValue::Bool(true),
            other => return Err(scanner.error(part, format!("{other} as a bool"), "0 or 1")),
        },
        8 => GgufValue::Text(scanner.string(part)?),
        ARRAY => read_array(scanner, part, depth)?,
        10 => GgufValue::Unsigned(scanner.u64(part)?),
        11 => GgufValue::Signed(scanner.u64(part)? as i64),
        12 => GgufValue::F64(f64::from_bits(scanner.u64(part)?)),
        other => return Err(scanner.error(part, format!("value type {other}"), "a type from 0 to 12")),
    })
}

fn read_array(scanner: &mut Scanner<'_, impl Read>, part: &str, depth: u32) -> Result<GgufValue> {
    if depth == MAX_DEPTH {
        return Err(scanner.error(part, "arrays in arrays", format!("at most {MAX_DEPTH} levels")));
    }
    let kind = scanner.u32(part)?;
    let count = scanner.u64(part)?;
    // Every element takes at least a byte, so a count beyond the file is a lie.
    let limit = MAX_ARRAY.min(scanner.remaining());
    if count > limit {
        return Err(scanner.error(part, format!("an array of {count}"), format!("at most {limit} elements")));
    }
    let mut values = Vec::new();
    for _ in 0..count {
        values.push(read_value(scanner, part, kind, depth + 1)?);
    }
    Ok(GgufValue::Array(values))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fp32_prints_as_it_was_written() {
        assert_eq!(GgufValue::F32(1e-5).as_f64(), Some(1e-5));
        assert_eq!(GgufValue::F32(100_000.0).as_f64(), Some(100_000.0));
    }

    #[test]
    fn negative_numbers_are_no_sizes() {
        assert_eq!(GgufValue::Signed(-1).as_u64(), None);
        assert_eq!(GgufValue::Signed(7).as_u64(), Some(7));
    }
}
