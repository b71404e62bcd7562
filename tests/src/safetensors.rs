//! safetensors files taken apart and put together, without the programs' own reader: tests alter weights and compare exports.

use serde_json::{Map, Value, json};

/// One tensor of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// Its full name.
    pub name: String,
    /// As the header says it: `F32`, `BF16`.
    pub dtype: String,
    /// Sizes of its dims.
    pub shape: Vec<usize>,
    /// Its elements, row-major, little-endian.
    pub data: Vec<u8>,
}

/// The tensors of a file in the order of their names.
///
/// # Panics
/// When it is no sound safetensors file.
pub fn read(file: &[u8]) -> Vec<Tensor> {
    let (header, data) = file[8..].split_at(header_length(file));
    let header: Map<String, Value> = serde_json::from_slice(header).expect("a header of JSON");
    let number = |value: &Value| usize::try_from(value.as_u64().expect("a whole number")).expect("a size");
    let tensor = |(name, entry): (String, Value)| {
        let [from, to] = [0, 1].map(|end| number(&entry["data_offsets"][end]));
        let shape = entry["shape"].as_array().expect("a shape").iter().map(number).collect();
        Tensor { name, dtype: entry["dtype"].as_str().expect("a dtype").to_owned(), shape, data: data[from..to].to_vec() }
    };
    header.into_iter().filter(|(name, _)| name != "__metadata__").map(tensor).collect()
}

/// A file of these tensors, one after the other.
pub fn write(tensors: &[Tensor]) -> Vec<u8> {
    let (mut header, mut data) = (Map::new(), Vec::new());
    for tensor in tensors {
        let offsets = [data.len(), data.len() + tensor.data.len()];
        header.insert(tensor.name.clone(), json!({"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": offsets}));
        data.extend_from_slice(&tensor.data);
    }
    let header = Value::Object(header).to_string();
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat()
}

/// Bytes of a file's header, without the length itself.
///
/// # Panics
/// When the file is shorter than that.
pub fn header_length(file: &[u8]) -> usize {
    let length = file.first_chunk::<8>().map(|length| u64::from_le_bytes(*length)).expect("eight bytes");
    usize::try_from(length).ok().filter(|length| *length <= file.len() - 8).expect("a header within the file")
}
