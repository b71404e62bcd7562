//! The safetensors header: 8 bytes of length, JSON, then data that the entries must cover exactly once.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::Path;

use safetensors::Dtype;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::TensorSpec;
use crate::error::{CheckpointError, Result};

/// Same limit as the reference implementation.
pub(super) const MAX_HEADER_BYTES: u64 = 100_000_000;
pub(super) const LENGTH_BYTES: u64 = 8;

/// What the header says of one tensor; offsets count from the end of the header.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Info {
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
    pub(super) data_offsets: (u64, u64),
}

/// JSON object entries in file order, so that a name that stands twice is seen.
struct RawHeader(Vec<(String, Info)>);

impl<'de> Deserialize<'de> for RawHeader {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = RawHeader;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensor entries")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<RawHeader, A::Error> {
                let mut tensors = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        // Free text of the writer, such as `format = pt`.
                        map.next_value::<HashMap<String, String>>()?;
                    } else {
                        let info = map.next_value().map_err(|e| de::Error::custom(format!("tensor {name}: {e}")))?;
                        tensors.push((name, info));
                    }
                }
                Ok(RawHeader(tensors))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

/// Checks the length field against the size of the file; returns the header's length.
pub(super) fn check_length(path: &Path, length: u64, file_size: u64) -> Result<u64> {
    let room = file_size.saturating_sub(LENGTH_BYTES);
    if length > room.min(MAX_HEADER_BYTES) {
        let expected = format!("at most {} (the file has {file_size} bytes)", room.min(MAX_HEADER_BYTES));
        return Err(CheckpointError::malformed(path, "safetensors header length", length.to_string(), expected));
    }
    Ok(length)
}

/// Parses and checks the header JSON; `data_size` is what the file holds after the header. Gives each tensor and where it begins, in the
/// order of the data.
pub(super) fn parse(path: &Path, json: &[u8], data_size: u64) -> Result<Vec<(TensorSpec, u64)>> {
    let RawHeader(entries) = serde_json::from_slice(json).map_err(|e| {
        CheckpointError::malformed(
            path,
            "safetensors header",
            e.to_string(),
            "a JSON object of name to dtype, shape and data_offsets",
        )
    })?;
    let mut seen = HashSet::new();
    let mut tensors = Vec::with_capacity(entries.len());
    for (name, info) in entries {
        if !seen.insert(name.clone()) {
            return Err(CheckpointError::malformed(
                path,
                format!("tensor {name}"),
                "the name twice in the header",
                "each name once",
            ));
        }
        tensors.push(check_entry(path, name, info, data_size)?);
    }
    tensors.sort_by_key(|(spec, begin)| (*begin, spec.bytes()));
    check_cover(path, &tensors, data_size)?;
    Ok(tensors)
}

fn check_entry(path: &Path, name: String, info: Info, data_size: u64) -> Result<(TensorSpec, u64)> {
    let (begin, end) = info.data_offsets;
    let spec = TensorSpec { name, dtype: info.dtype, shape: info.shape };
    let part = || format!("tensor {}", spec.name);
    if begin > end || end > data_size {
        let expected = format!("offsets in order within the {data_size} bytes of data");
        return Err(CheckpointError::malformed(path, part(), format!("offsets {begin}..{end}"), expected));
    }
    let Some(bytes) = spec.bytes() else {
        let found = format!("shape {:?} of {}", spec.shape, spec.dtype);
        return Err(CheckpointError::malformed(path, part(), found, "a size in whole bytes that fits in memory"));
    };
    if bytes as u64 != end - begin {
        let found = format!("{} bytes of data", end - begin);
        return Err(CheckpointError::malformed(
            path,
            part(),
            found,
            format!("{bytes} bytes for {} {:?}", spec.dtype, spec.shape),
        ));
    }
    Ok((spec, begin))
}

/// Every byte of the data belongs to exactly one tensor: overlaps alias weights, holes and tails hide data.
fn check_cover(path: &Path, tensors: &[(TensorSpec, u64)], data_size: u64) -> Result<()> {
    let mut covered = 0u64;
    for (spec, begin) in tensors {
        if *begin != covered {
            let what = if *begin < covered { "overlaps the tensor before it" } else { "leaves a hole before it" };
            let found = format!("offset {begin}, which {what}");
            return Err(CheckpointError::malformed(path, format!("tensor {}", spec.name), found, format!("offset {covered}")));
        }
        covered = begin + spec.bytes().unwrap_or(0) as u64;
    }
    if covered != data_size {
        let found = format!("{data_size} bytes");
        return Err(CheckpointError::malformed(path, "data after the header", found, format!("{covered} bytes for all tensors")));
    }
    Ok(())
}

/// The header for tensors that follow each other in the given order, padded so that the data starts 8-byte aligned.
pub(super) fn build(specs: &[TensorSpec], metadata: &[(&str, &str)]) -> Option<Vec<u8>> {
    let mut object = serde_json::Map::new();
    if !metadata.is_empty() {
        let pairs = metadata.iter().map(|(k, v)| ((*k).to_string(), serde_json::Value::from(*v))).collect();
        object.insert("__metadata__".into(), serde_json::Value::Object(pairs));
    }
    let mut begin = 0u64;
    for spec in specs {
        let end = begin.checked_add(spec.bytes()? as u64)?;
        let info = Info { dtype: spec.dtype, shape: spec.shape.clone(), data_offsets: (begin, end) };
        object.insert(spec.name.clone(), serde_json::to_value(info).ok()?);
        begin = end;
    }
    let mut json = serde_json::to_vec(&object).ok()?;
    json.resize(json.len().next_multiple_of(8), b' ');
    let mut header = (json.len() as u64).to_le_bytes().to_vec();
    header.append(&mut json);
    Some(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(json: &str, data: u64) -> String {
        parse(Path::new("f"), json.as_bytes(), data).unwrap_err().to_string()
    }

    fn entry(shape: &str, begin: u64, end: u64) -> String {
        format!(r#"{{"dtype":"F32","shape":{shape},"data_offsets":[{begin},{end}]}}"#)
    }

    #[test]
    fn a_good_header_is_read_in_data_order() {
        let json = format!(r#"{{"__metadata__":{{"format":"pt"}},"b":{},"a":{}}}"#, entry("[2]", 4, 12), entry("[]", 0, 4));
        let tensors = parse(Path::new("f"), json.as_bytes(), 12).unwrap();
        let names: Vec<_> = tensors.iter().map(|(t, begin)| (t.name.as_str(), *begin)).collect();
        assert_eq!(names, [("a", 0), ("b", 4)]);
    }

    #[test]
    fn lies_are_named() {
        let one = |e: String| format!(r#"{{"w":{e}}}"#);
        assert!(error(&one(entry("[2]", 0, 4)), 4).contains("tensor w: found 4 bytes of data, expected 8 bytes"));
        assert!(error(&one(entry("[2]", 0, 8)), 4).contains("offsets 0..8"));
        assert!(error(&one(entry("[2]", 8, 0)), 8).contains("offsets 8..0"));
        assert!(error(&one(entry("[2]", 4, 12)), 12).contains("leaves a hole"));
        assert!(error(&one(entry("[2]", 0, 8)), 12).contains("data after the header: found 12 bytes, expected 8"));
        assert!(error(&one(entry("[18446744073709551615,2]", 0, 8)), 8).contains("fits in memory"));
        let overlap = format!(r#"{{"a":{},"b":{}}}"#, entry("[2]", 0, 8), entry("[1]", 4, 8));
        assert!(error(&overlap, 8).contains("overlaps"));
        let twice = format!(r#"{{"a":{0},"a":{0}}}"#, entry("[1]", 0, 4));
        assert!(error(&twice, 4).contains("twice"));
        assert!(error("[1]", 0).contains("safetensors header"));
        assert!(error(r#"{"w":{"dtype":"Q9","shape":[],"data_offsets":[0,4]}}"#, 4).contains("tensor w"));
    }

    #[test]
    fn built_headers_parse() {
        let specs = [TensorSpec::new("a", Dtype::F32, [2]), TensorSpec::new("b", Dtype::BF16, [3])];
        let header = build(&specs, &[("format", "pt")]).unwrap();
        assert_eq!(header.len() % 8, 0);
        let parsed = parse(Path::new("f"), &header[8..], 14).unwrap();
        assert_eq!(parsed[1], (specs[1].clone(), 8));
    }
}
