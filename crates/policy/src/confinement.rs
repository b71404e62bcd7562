//! The six levels of confinement, with the numbers and words that facts, requests, rules and messages share.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How far a process is kept from the network and from other files. Each level holds what those below it hold.
///
/// These are the levels of the crate `confine`, with its numbers and names. All but the last are measured on every node; what the site's own
/// network lets out is for its operator to state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Confinement {
    /// 0: variables that lead out are dropped.
    Environment,
    /// 1: filters on system calls.
    Seccomp,
    /// 2: a network namespace of its own.
    NetworkNamespace,
    /// 3: Landlock, only the files and ports that were named.
    Landlock,
    /// 4: connections only to the job's own hosts, made by a broker that checks the peer.
    Hosts,
    /// 5: the site itself lets nothing out, such as by a firewall for each job.
    Site,
}

impl Confinement {
    /// Every level, from the lowest.
    pub const ALL: [Confinement; 6] = [
        Confinement::Environment,
        Confinement::Seccomp,
        Confinement::NetworkNamespace,
        Confinement::Landlock,
        Confinement::Hosts,
        Confinement::Site,
    ];

    /// 0 to 5, as rules read it.
    pub fn number(self) -> u8 {
        match self {
            Confinement::Environment => 0,
            Confinement::Seccomp => 1,
            Confinement::NetworkNamespace => 2,
            Confinement::Landlock => 3,
            Confinement::Hosts => 4,
            Confinement::Site => 5,
        }
    }

    /// The level of this number; `None` above 5.
    pub fn of_number(number: u8) -> Option<Confinement> {
        Confinement::ALL.into_iter().find(|level| level.number() == number)
    }

    /// As facts and requests write it.
    pub fn word(self) -> &'static str {
        match self {
            Confinement::Environment => "environment",
            Confinement::Seccomp => "seccomp",
            Confinement::NetworkNamespace => "network_namespace",
            Confinement::Landlock => "landlock",
            Confinement::Hosts => "hosts",
            Confinement::Site => "site",
        }
    }

    fn words() -> String {
        Confinement::ALL.map(|level| level.to_string()).join(", ")
    }
}

impl fmt::Display for Confinement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.number(), self.word())
    }
}

impl Serialize for Confinement {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.word())
    }
}

/// A level as files write it: its word or its number.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Number(i64),
    Word(String),
    Other(serde::de::IgnoredAny),
}

impl<'de> Deserialize<'de> for Confinement {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Confinement, D::Error> {
        let (level, found) = match Written::deserialize(deserializer)? {
            Written::Number(number) => (u8::try_from(number).ok().and_then(Confinement::of_number), number.to_string()),
            Written::Word(word) => (Confinement::ALL.into_iter().find(|level| level.word() == word), format!("{word:?}")),
            Written::Other(_) => (None, "of another type".to_owned()),
        };
        let wrong = || serde::de::Error::custom(format!("confinement {found}: expected a level: {}", Confinement::words()));
        level.ok_or_else(wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_its_word_and_its_number() {
        for (number, level) in Confinement::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(level.number()), number);
            assert_eq!(Confinement::of_number(level.number()), Some(level));
            let word = serde_json::to_string(&level).unwrap();
            assert_eq!(serde_json::from_str::<Confinement>(&word).unwrap(), level);
            assert_eq!(serde_json::from_str::<Confinement>(&number.to_string()).unwrap(), level);
        }
        assert!(Confinement::ALL.is_sorted());
        for bad in ["6", "-1", "\"none\"", "\"NetworkNamespace\"", "true", "2.0", "null"] {
            let error = serde_json::from_str::<Confinement>(bad).unwrap_err().to_string();
            assert!(
                error.contains("expected a level: 0 (environment), 1 (seccomp), 2 (network_namespace), 3 (landlock)"),
                "{error}"
            );
        }
    }
}
