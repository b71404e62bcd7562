//! Tar files with regular files in them, held in memory. There is one form of a bundle: headers are those of [`sirocco_files::tar`], without time
//! and owner, and a file that another program has packed is refused. Otherwise bytes could be changed that no signature covers.

use std::collections::BTreeMap;
use std::path::Path;

use sirocco_files::tar::{BLOCK, Member, header};

use crate::error::{EvidenceError, malformed};

/// What every header has to be.
const OWN: &str = "the one that sirocco evidence writes (what another program has packed is checked unpacked, as a directory)";

/// Writes files in the order of their names. The same files give the same bytes: no time, no owner.
pub(crate) fn write(path: &Path, files: &BTreeMap<String, Vec<u8>>) -> Result<Vec<u8>, EvidenceError> {
    let mut out = Vec::new();
    for (name, bytes) in files {
        let header = header(name, bytes.len() as u64).map_err(|why| malformed(path, name, why.found, why.expected))?;
        out.extend_from_slice(&header);
        out.extend_from_slice(bytes);
        out.resize(out.len().next_multiple_of(BLOCK), 0);
    }
    out.resize(out.len() + 2 * BLOCK, 0);
    Ok(out)
}

/// The files of a tar file. Names are as they stand there; the caller looks at them.
pub(crate) fn read(path: &Path, bytes: &[u8]) -> Result<Vec<(String, Vec<u8>)>, EvidenceError> {
    let mut files = Vec::new();
    let mut at = 0;
    loop {
        let place = format!("byte {at}");
        let wrong = |found: &str, expected: &str| malformed(path, &place, found, expected);
        let rest = bytes.get(at..).unwrap_or_default();
        let header = rest.first_chunk::<BLOCK>().ok_or_else(|| wrong("the end", "another file, or two blocks of zeros"))?;
        if header.iter().all(|byte| *byte == 0) {
            let ends = rest.len() == 2 * BLOCK && rest.iter().all(|byte| *byte == 0);
            return if ends { Ok(files) } else { Err(wrong("another end", "two blocks of zeros")) };
        }
        let member = Member::read(header).map_err(|why| wrong(&why.found, OWN))?;
        let begin = at.saturating_add(BLOCK);
        let length = usize::try_from(member.bytes).ok();
        let end = length.and_then(|length| begin.checked_add(length)).filter(|end| *end <= bytes.len());
        let end = end.ok_or_else(|| wrong(&format!("{} bytes of {:?}", member.bytes, member.name), "no more than follow"))?;
        let next = end.checked_next_multiple_of(BLOCK).filter(|next| *next <= bytes.len());
        let next = next.ok_or_else(|| wrong("a torn last block", "whole blocks"))?;
        if bytes.get(end..next).unwrap_or_default().iter().any(|byte| *byte != 0) {
            return Err(malformed(path, &format!("byte {end}"), "bytes after a file's end", "zeros to the end of the block"));
        }
        files.push((member.name, bytes.get(begin..end).unwrap_or_default().to_vec()));
        at = next;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at() -> &'static Path {
        Path::new("a.tar")
    }

    #[test]
    fn what_was_written_is_read_by_us_and_by_tar() {
        let long = format!("signatures/{}/model.sig", "n".repeat(99));
        let files = BTreeMap::from([("a".to_owned(), b"1".to_vec()), (long, vec![7; 1000]), ("z".to_owned(), Vec::new())]);
        let bytes = write(at(), &files).unwrap();
        assert_eq!(read(at(), &bytes).unwrap().into_iter().collect::<BTreeMap<_, _>>(), files);
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.tar"), &bytes).unwrap();
        let listed = std::process::Command::new("tar").args(["-tf", "a.tar"]).current_dir(folder.path()).output().unwrap();
        assert_eq!(String::from_utf8(listed.stdout).unwrap().lines().collect::<Vec<_>>(), files.keys().collect::<Vec<_>>());
    }

    #[test]
    fn names_beyond_ustar_are_refused() {
        let files = BTreeMap::from([("n".repeat(101), Vec::new())]);
        assert!(write(at(), &files).is_err());
    }

    #[test]
    fn links_are_refused_and_sizes_are_looked_at() {
        let mut link = header("a", 0).unwrap();
        link[156] = b'2';
        // What the type has more, the mode has less: the checksum stays.
        link[106] -= 2;
        assert!(
            read(at(), &[link, [0; BLOCK], [0; BLOCK]].concat()).unwrap_err().to_string().contains("another header of \"a\"")
        );
        let large = header("a", 1 << 40).unwrap();
        let error = read(at(), &[large, [0; BLOCK], [0; BLOCK]].concat()).unwrap_err().to_string();
        assert!(error.contains("1099511627776 bytes") && error.contains("no more than follow"), "{error}");
    }

    proptest! {
        #[test]
        fn any_change_is_read_or_refused(place in 0_usize..2048, byte: u8, end in 0_usize..2048) {
            let files = BTreeMap::from([("a".to_owned(), b"1".to_vec())]);
            let mut bytes = write(at(), &files).unwrap();
            if let Some(at) = bytes.get_mut(place) {
                *at = byte;
            }
            let _ = read(at(), &bytes);
            bytes.truncate(end);
            let _ = read(at(), &bytes);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            let _ = read(at(), &bytes);
        }
    }
}
