//! Headers of tar files: POSIX.1-1988 ustar, and GNU's binary sizes for files of 8 GiB and more (POSIX.1-2017 pax, "ustar Interchange Format";
//! GNU tar's manual, "Basic Tar Format"). There is one header for one name and size: no time, no owner. Every other is refused.

use std::ops::Range;

/// Bytes of a header. What a file holds is filled up with zeros to a multiple of it, and two blocks of zeros end an archive.
pub const BLOCK: usize = 512;
const NAME: usize = 100;
const PREFIX: usize = 155;
/// Where the size stands.
const SIZE: Range<usize> = 124..136;
/// What a header has to be.
const OWN: &str = "the header of a regular file, as sirocco writes it";
/// The first size that eleven octal digits do not hold.
const BINARY: u64 = 1 << 33;
/// Where the checksum stands, which counts as spaces.
const CHECKSUM: Range<usize> = 148..156;

/// Something that no header can say, or a block that is none.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("found {found}, expected {expected}")]
pub struct NoHeader {
    /// What is there.
    pub found: String,
    /// What has to be there.
    pub expected: &'static str,
}

fn no_header(found: impl Into<String>, expected: &'static str) -> NoHeader {
    NoHeader { found: found.into(), expected }
}

/// The header of a regular file.
///
/// # Errors
/// A name that is longer than ustar has room for: 100 bytes, or up to 155 before a `/` and 100 after it.
pub fn header(name: &str, bytes: u64) -> Result<[u8; BLOCK], NoHeader> {
    let long = || no_header(format!("a name of {} bytes", name.len()), "one that ustar has room for");
    let fits = |at: &usize| *at <= PREFIX && name.len() - at - 1 <= NAME;
    let (prefix, rest) = if name.len() <= NAME {
        ("", name)
    } else {
        let at = name.match_indices('/').map(|(at, _)| at).find(fits).ok_or_else(long)?;
        (name.get(..at).unwrap_or_default(), name.get(at + 1..).unwrap_or_default())
    };
    let mut header = [0; BLOCK];
    let fields: [(usize, &[u8]); 9] = [
        (0, rest.as_bytes()),
        (100, b"0000644"),
        (108, b"0000000"),
        (116, b"0000000"),
        (SIZE.start, &size(bytes)),
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

/// Eleven octal digits and a zero, or after a first byte 128 the number itself, its highest byte first.
fn size(bytes: u64) -> [u8; SIZE.end - SIZE.start] {
    let mut field = [0; SIZE.end - SIZE.start];
    let digits = format!("{bytes:011o}");
    let binary = bytes.to_be_bytes();
    let (at, text) = if bytes < BINARY { (0, digits.as_bytes()) } else { (field.len() - binary.len(), &binary[..]) };
    field.iter_mut().skip(at).zip(text).for_each(|(to, from)| *to = *from);
    if bytes >= BINARY {
        field[0] = 0x80;
    }
    field
}

/// Zeros that follow a file of so many bytes.
pub fn padding(bytes: u64) -> usize {
    let block = BLOCK as u64;
    usize::try_from((block - bytes % block) % block).unwrap_or(0)
}

fn put(header: &mut [u8; BLOCK], at: usize, bytes: &[u8]) {
    header.iter_mut().skip(at).zip(bytes).for_each(|(to, from)| *to = *from);
}

fn checksum(header: &[u8]) -> u64 {
    let value = |(at, byte): (usize, &u8)| if CHECKSUM.contains(&at) { u64::from(b' ') } else { u64::from(*byte) };
    header.iter().enumerate().map(value).sum()
}

/// What a header says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// As it stands there: whoever reads looks where it leads.
    pub name: String,
    /// Bytes that follow.
    pub bytes: u64,
}

impl Member {
    /// Reads a header, which has to be the very one that [`header`] writes: what else could stand there is covered by no signature.
    ///
    /// # Errors
    /// A block that is no header, and one in another form: of a link or a device, with a time, an owner or a mode.
    pub fn read(block: &[u8; BLOCK]) -> Result<Member, NoHeader> {
        let field = |range: Range<usize>| block.get(range).unwrap_or_default();
        if field(257..262) != b"ustar" {
            return Err(no_header("no header of a tar file", OWN));
        }
        let text = |bytes: &[u8]| {
            let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
            String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned()
        };
        let (mut name, prefix) = (text(field(0..NAME)), text(field(345..345 + PREFIX)));
        if !prefix.is_empty() {
            name = format!("{prefix}/{name}");
        }
        let bytes = read_size(field(SIZE)).ok_or_else(|| no_header(format!("no size of {name:?}"), OWN))?;
        match header(&name, bytes) {
            Ok(own) if own == *block => Ok(Member { name, bytes }),
            _ => Err(no_header(format!("another header of {name:?}"), OWN)),
        }
    }
}

fn read_size(field: &[u8]) -> Option<u64> {
    match field.split_first() {
        Some((0x80, number)) => {
            let (high, low) = number.split_at_checked(number.len().checked_sub(size_of::<u64>())?)?;
            let low = low.try_into().ok().map(u64::from_be_bytes)?;
            high.iter().all(|byte| *byte == 0).then_some(low)
        }
        _ => octal(field),
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

    #[test]
    fn sizes_of_every_length_are_read_back() {
        for bytes in [0, 1, 511, 512, BINARY - 1, BINARY, 1 << 40, u64::MAX] {
            let read = Member::read(&header("a", bytes).unwrap()).unwrap();
            assert_eq!(read, Member { name: "a".to_owned(), bytes });
        }
        assert_eq!([0, 1, 511, 512, 513, u64::MAX].map(padding), [0, 511, 1, 0, 511, 1]);
    }

    #[test]
    fn gnu_tar_reads_a_header_of_a_file_beyond_8_gib() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.tar"), header("large", BINARY + 7).unwrap()).unwrap();
        let listed = std::process::Command::new("tar").args(["-tvf", "a.tar"]).current_dir(folder.path()).output().unwrap();
        assert!(String::from_utf8(listed.stdout).unwrap().contains("8589934599"));
    }

    #[test]
    fn names_beyond_ustar_are_refused() {
        assert!(header(&"n".repeat(100), 0).is_ok());
        assert!(header(&"n".repeat(101), 0).unwrap_err().to_string().contains("a name of 101 bytes"));
        let long = format!("{}/{}", "d".repeat(155), "n".repeat(100));
        assert_eq!(Member::read(&header(&long, 3).unwrap()).unwrap().name, long);
        assert!(header(&format!("d{long}"), 0).is_err());
    }

    fn changed(at: usize, bytes: &[u8]) -> String {
        let mut block = header("a", 1).unwrap();
        put(&mut block, at, bytes);
        let sum = format!("{:06o}\0 ", checksum(&block));
        put(&mut block, CHECKSUM.start, sum.as_bytes());
        Member::read(&block).map_or_else(|error| error.to_string(), |member| format!("{member:?}"))
    }

    #[test]
    fn links_modes_and_sizes_in_another_form_are_refused() {
        for kind in *b"1234567Lxg\0" {
            assert!(changed(156, &[kind]).contains("another header of \"a\""), "{}", char::from(kind));
        }
        assert!(changed(100, b"0000755").contains("another header"));
        for size in [&b"\xff\xff\xff\xff"[..], b"9", b"\x80\x01", b"           "] {
            assert!(changed(124, size).contains("no size"), "{size:?}");
        }
        assert!(changed(257, b"ustaz").contains("no header"));
    }

    proptest! {
        #[test]
        fn any_block_is_read_or_refused(bytes: [u8; 32], at in 0_usize..480) {
            let whole = header("some/name", 12345).unwrap();
            let mut block = whole;
            put(&mut block, at, &bytes);
            let is_right = match Member::read(&block) {
                Ok(member) => header(&member.name, member.bytes) == Ok(block),
                Err(_) => block != whole,
            };
            prop_assert!(is_right);
        }

        #[test]
        fn names_and_sizes_are_read_back(name in "[a-z]{1,60}(/[a-zA-Z0-9._-]{1,60}){0,3}", bytes: u64) {
            let read = header(&name, bytes).ok().map(|block| Member::read(&block).unwrap());
            let whole = Member { name, bytes };
            prop_assert!(read.is_none_or(|read| read == whole));
        }
    }
}
