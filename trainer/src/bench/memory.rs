//! What this process holds in memory, as the system counts it.

use serde::Serialize;

/// Resident memory, in bytes; 0 where the system does not tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(super) struct Resident {
    /// What the program and libtorch have asked for.
    anonymous: u64,
    /// Pages of programs and libraries that have been touched.
    file: u64,
    /// What processes share, such as the buffers of MPI.
    shared: u64,
    /// The most of all of it so far.
    peak: u64,
}

impl Resident {
    /// Now.
    pub(super) fn now() -> Self {
        Self::parse(&std::fs::read_to_string("/proc/self/status").unwrap_or_default())
    }

    /// From the text of /proc/self/status.
    fn parse(status: &str) -> Self {
        let bytes = |name: &str| {
            let kilobytes = |line: &str| line.strip_prefix(name)?.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok();
            status.lines().find_map(kilobytes).unwrap_or(0) * 1024
        };
        Self { anonymous: bytes("RssAnon:"), file: bytes("RssFile:"), shared: bytes("RssShmem:"), peak: bytes("VmHWM:") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_words_are_understood() {
        let status =
            "Name:\tx\nVmHWM:\t   20 kB\nVmRSS:\t   16 kB\nRssAnon:\t    8 kB\nRssFile:\t    4 kB\nRssShmem:\t       0 kB\n";
        assert_eq!(Resident::parse(status), Resident { anonymous: 8192, file: 4096, shared: 0, peak: 20480 });
        assert_eq!(Resident::parse("?"), Resident::default());
        assert!(Resident::now().peak >= Resident::now().anonymous);
    }
}
