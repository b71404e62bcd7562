//! Tar files with regular files in them: POSIX.1-1988 ustar, written so, and read as GNU tar writes it, too (POSIX.1-2017 pax, "ustar
//! Interchange Format"). Links, devices and longer names than ustar has do not occur in a bundle and are refused.

use std::collections::BTreeMap;
use std::path::Path;

use crate::error::{EvidenceError, malformed};

const BLOCK: usize = 512;
const NAME: usize = 100;
const PREFIX: usize = 155;
/// Where the checksum stands, which counts as spaces.
const CHECKSUM: std::ops::Range<usize> = 148..156;

/// Writes files in the order of their names. The same files give the same bytes: no time, no owner.
pub(crate) fn write(path: &Path, files: &BTreeMap<String, Vec<u8>>) -> Result<Vec<u8>, EvidenceError> {
    let mut out = Vec::new();
    for (name, bytes) in files {
        out.extend_from_slice(&header(path, name, bytes.len())?);
        out.extend_from_slice(bytes);
        out.resize(out.len().next_multiple_of(BLOCK), 0);
    }
    out.resize(out.len() + 2 * BLOCK, 0);
    Ok(out)
}

fn header(path: &Path, name: &str, length: usize) -> Result<[u8; BLOCK], EvidenceError> {
    let long = || malformed(path, name, format!("a name of {} bytes", name.len()), "one that ustar has room for");
    let fits = |at: &usize| *at <= PREFIX && name.len() - at - 1 <= NAME;
    let (prefix, rest) = if name.len() <= NAME {
        ("", name)
    } else {
        let at = name.match_indices('/').map(|(at, _)| at).find(fits).ok_or_else(long)?;
        (name.get(..at).unwrap_or_default(), name.get(at + 1..).unwrap_or_default())
    };
    let size = format!("{length:011o}");
    if size.len() > 11 {
        return Err(malformed(path, name, format!("{length} bytes"), "at most 8 GiB"));
    }
    let mut header = [0; BLOCK];
    let fields: [(usize, &[u8]); 9] = [
        (0, rest.as_bytes()),
        (100, b"0000644"),
        (108, b"0000000"),
        (116, b"0000000"),
        (124, size.as_bytes()),
        (136, b"00000000000"),
        (156, b"0"),
        (257, b"ustar\x0000"),
        (345, prefix.as_bytes()),
    ];
    for (at, bytes) in fields {
        put(&mut header, at, bytes);
    }
    let sum = format!("{:06o}\0 ", checksum(&header));
    put(&mut header, CHECKSUM.start, sum.as_bytes());
    Ok(header)
}

fn put(header: &mut [u8; BLOCK], at: usize, bytes: &[u8]) {
    header.iter_mut().skip(at).zip(bytes).for_each(|(to, from)| *to = *from);
}

fn checksum(header: &[u8]) -> u64 {
    let value = |(at, byte): (usize, &u8)| if CHECKSUM.contains(&at) { u64::from(b' ') } else { u64::from(*byte) };
    header.iter().enumerate().map(value).sum()
}

/// The files of a tar file. Names are as they stand there, but for `./` before them; the caller looks at them.
pub(crate) fn read(path: &Path, bytes: &[u8]) -> Result<Vec<(String, Vec<u8>)>, EvidenceError> {
    let mut files = Vec::new();
    let mut at = 0;
    loop {
        let place = format!("byte {at}");
        let wrong = |found: &str, expected: &str| malformed(path, &place, found, expected);
        let rest = bytes.get(at..).unwrap_or_default();
        let header = rest.get(..BLOCK).ok_or_else(|| wrong("the end", "another file, or two blocks of zeros"))?;
        if header.iter().all(|byte| *byte == 0) {
            let ends = rest.len() >= 2 * BLOCK && rest.iter().all(|byte| *byte == 0);
            return if ends { Ok(files) } else { Err(wrong("bytes after the end", "zeros, two blocks or more")) };
        }
        let member = Member::read(header).map_err(|(found, expected)| wrong(&found, expected))?;
        let begin = at.saturating_add(BLOCK);
        let end = begin.checked_add(member.length).filter(|end| *end <= bytes.len());
        let end = end.ok_or_else(|| wrong(&format!("{} bytes of {:?}", member.length, member.name), "no more than follow"))?;
        let next = end.checked_next_multiple_of(BLOCK).filter(|next| *next <= bytes.len());
        let next = next.ok_or_else(|| wrong("a torn last block", "whole blocks"))?;
        if bytes.get(end..next).unwrap_or_default().iter().any(|byte| *byte != 0) {
            return Err(malformed(path, &format!("byte {end}"), "bytes after a file's end", "zeros to the end of the block"));
        }
        if member.is_file {
            files.push((member.name, bytes.get(begin..end).unwrap_or_default().to_vec()));
        }
        at = next;
    }
}

struct Member {
    name: String,
    length: usize,
    is_file: bool,
}

impl Member {
    /// Reads a header; otherwise what is there and what was expected.
    fn read(header: &[u8]) -> Result<Member, (String, &'static str)> {
        let field = |at: usize, length: usize| header.get(at..at + length).unwrap_or_default();
        let stated = octal(field(CHECKSUM.start, CHECKSUM.len()));
        if stated != Some(checksum(header)) {
            return Err(("another checksum".to_owned(), "that of the header"));
        }
        if field(257, 5) != b"ustar" {
            return Err(("no ustar".to_owned(), "a header of ustar"));
        }
        let text = |bytes: &[u8]| {
            let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
            let text = std::str::from_utf8(bytes.get(..end).unwrap_or_default());
            text.map(str::to_owned).map_err(|_| ("a name that is not UTF-8".to_owned(), "text"))
        };
        let (mut name, prefix) = (text(field(0, NAME))?, text(field(345, PREFIX))?);
        // After `ustar` and a space, as GNU tar writes it, other fields stand where the prefix would.
        if !prefix.is_empty() && field(257, 6) == b"ustar\0" {
            name = format!("{prefix}/{name}");
        }
        let name = name.strip_prefix("./").unwrap_or(&name).to_owned();
        let length = octal(field(124, 12)).and_then(|length| usize::try_from(length).ok());
        let length = length.ok_or_else(|| ("no size".to_owned(), "an octal number"))?;
        match field(156, 1) {
            b"0" | b"\0" => Ok(Member { name, length, is_file: true }),
            b"5" if length == 0 => Ok(Member { name, length, is_file: false }),
            kind => {
                let found = format!("{name:?} of the type {:?}", String::from_utf8_lossy(kind));
                Err((found, "regular files and directories only"))
            }
        }
    }
}

/// An octal number between spaces and zeros.
fn octal(field: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(field).ok()?;
    let digits = text.trim_matches([' ', '\0']);
    let is_octal = !digits.is_empty() && digits.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
    if is_octal { u64::from_str_radix(digits, 8).ok() } else { None }
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
        let files = BTreeMap::from([("a".to_owned(), b"1".to_vec())]);
        let good = write(at(), &files).unwrap();
        let change = |place: usize, bytes: &[u8]| {
            let mut tar = good.clone();
            tar[place..place + bytes.len()].copy_from_slice(bytes);
            let sum = format!("{:06o}\0 ", checksum(&tar[..BLOCK]));
            tar[CHECKSUM].copy_from_slice(sum.as_bytes());
            read(at(), &tar).unwrap_err().to_string()
        };
        for kind in *b"123467Lxg" {
            assert!(change(156, &[kind]).contains("regular files"), "{}", char::from(kind));
        }
        assert!(change(124, b"77777777777").contains("no more than follow"));
        assert!(change(124, b"\xff\xff\xff\xff").contains("no size"));
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
