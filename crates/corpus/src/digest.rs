//! SHA-256 of files and bytes, in hexadecimal.

use crate::error::CorpusError;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Bytes in lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The SHA-256 of some bytes, 64 hexadecimal digits.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// The SHA-256 of a file, read in blocks.
///
/// # Errors
/// The file cannot be read.
pub fn sha256_file(path: &Path) -> Result<String, CorpusError> {
    let mut file = File::open(path).map_err(|source| CorpusError::io(path, "open", source))?;
    let mut sha256 = Sha256::new();
    let mut block = vec![0; 1 << 18];
    loop {
        match file.read(&mut block).map_err(|source| CorpusError::io(path, "read", source))? {
            0 => return Ok(hex(&sha256.finalize())),
            count => sha256.update(&block[..count]),
        }
    }
}
