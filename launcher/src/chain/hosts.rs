//! Slurm's notation for many hosts, `mel[2001-2004,2010],login1`, without asking `scontrol`, which costs a process.
//! What it means: <https://slurm.schedmd.com/scontrol.html#OPT_hostnames> and <https://slurm.schedmd.com/srun.html#OPT_nodelist>.

use std::fmt::Write as _;

/// More hosts than any cluster has: a list that names more is a mistake, and is refused before it fills the memory.
const MOST: usize = 100_000;

/// Most digits of a number in a host's name; it fits 64 bits with room for one more.
const MOST_DIGITS: usize = 18;

/// Most bytes of a name: those of DNS (RFC 1035).
const MOST_BYTES: usize = 255;

/// Why a list cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HostsError {
    /// A `[` without its `]`, or the other way round, or one inside another.
    Brackets {
        list: String,
    },
    /// A place where a name or a number should be.
    Empty {
        list: String,
    },
    /// Not a number, or numbers that fall.
    Range {
        list: String,
        range: String,
    },
    TooMany {
        list: String,
    },
    /// A name that no host can have.
    Long {
        list: String,
    },
}

impl std::fmt::Display for HostsError {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (list, what) = match self {
            HostsError::Brackets { list } => (list, "found brackets that do not fit each other".to_owned()),
            HostsError::Empty { list } => (list, "found nothing where a host or a number should be".to_owned()),
            HostsError::Range { list, range } => (list, format!("found the range '{range}'")),
            HostsError::TooMany { list } => (list, format!("found more than {MOST} hosts")),
            HostsError::Long { list } => (list, format!("found a name of more than {MOST_BYTES} bytes")),
        };
        let shown: String = list.chars().take(80).collect();
        let more = if shown.len() < list.len() { "…" } else { "" };
        write!(
            out,
            "the list of hosts '{shown}{more}': {what}; expected a list as Slurm writes it, such as mel[2001-2004,2010],login1"
        )
    }
}

impl std::error::Error for HostsError {}

/// Every host of a list, in its order. An empty list has none.
pub(crate) fn expand(list: &str) -> Result<Vec<String>, HostsError> {
    let mut hosts = Vec::new();
    if list.trim().is_empty() {
        return Ok(hosts);
    }
    for part in parts(list)? {
        hosts.extend(hosts_of(list, part.trim(), MOST - hosts.len())?);
    }
    Ok(hosts)
}

/// A list cut at the commas outside brackets.
fn parts(list: &str) -> Result<Vec<&str>, HostsError> {
    let brackets = || HostsError::Brackets { list: list.to_owned() };
    let (mut parts, mut start, mut inside) = (Vec::new(), 0, false);
    for (at, letter) in list.char_indices() {
        match (letter, inside) {
            ('[', false) => inside = true,
            (']', true) => inside = false,
            ('[' | ']', _) => return Err(brackets()),
            (',', false) => {
                parts.push(&list[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&list[start..]);
    if inside { Err(brackets()) } else { Ok(parts) }
}

/// One part: text and brackets in turns, of which the last one runs fastest. At most `most` hosts.
fn hosts_of(list: &str, part: &str, most: usize) -> Result<Vec<String>, HostsError> {
    let too_many = || HostsError::TooMany { list: list.to_owned() };
    if part.is_empty() || part.contains(char::is_whitespace) {
        return Err(HostsError::Empty { list: list.to_owned() });
    }
    let (mut names, mut rest, mut bytes) = (vec![String::new()], part, 0);
    let mut short = |text: &str| {
        bytes += text.len();
        if bytes > MOST_BYTES { Err(HostsError::Long { list: list.to_owned() }) } else { Ok(()) }
    };
    while let Some((text, behind)) = rest.split_once('[') {
        short(text)?;
        let (inside, behind) = behind.split_once(']').ok_or_else(|| HostsError::Brackets { list: list.to_owned() })?;
        let numbers = numbers(list, inside, most)?;
        if names.len().saturating_mul(numbers.len()) > most {
            return Err(too_many());
        }
        names = names.iter().flat_map(|name| numbers.iter().map(move |number| format!("{name}{text}{number}"))).collect();
        rest = behind;
    }
    short(rest)?;
    if names.len() > most {
        return Err(too_many());
    }
    names.iter_mut().for_each(|name| name.push_str(rest));
    Ok(names)
}

/// The numbers between two brackets as they are written: `08-10` is 08, 09, 10.
fn numbers(list: &str, inside: &str, most: usize) -> Result<Vec<String>, HostsError> {
    let mut numbers = Vec::new();
    for range in inside.split(',') {
        let wrong = || HostsError::Range { list: list.to_owned(), range: range.to_owned() };
        let number = |text: &str| -> Result<u64, HostsError> {
            let is_number = text.len() <= MOST_DIGITS && text.bytes().all(|letter| letter.is_ascii_digit());
            text.parse().ok().filter(|_| is_number).ok_or_else(wrong)
        };
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        if first.is_empty() && last.is_empty() && range.is_empty() {
            return Err(HostsError::Empty { list: list.to_owned() });
        }
        let (from, to, width) = (number(first)?, number(last)?, first.len());
        if from > to {
            return Err(wrong());
        }
        if (to - from) as usize >= most - numbers.len().min(most) {
            return Err(HostsError::TooMany { list: list.to_owned() });
        }
        numbers.extend((from..=to).map(|number| format!("{number:0width$}")));
    }
    Ok(numbers)
}

/// Hosts in Slurm's notation, in their order: neighbours that differ in their last number only share brackets.
pub(crate) fn write(hosts: &[String]) -> String {
    let mut list = String::new();
    let mut rest = hosts;
    while let Some(first) = rest.first() {
        let (prefix, _) = cut(first);
        let count = rest.iter().take_while(|host| cut(host).0 == prefix && !cut(host).1.is_empty()).count();
        let (same, behind) = rest.split_at(count.max(1));
        if !list.is_empty() {
            list.push(',');
        }
        match same {
            [one] => list.push_str(one),
            many => {
                let numbers: Vec<&str> = many.iter().map(|host| cut(host).1).collect();
                let _ = write!(list, "{prefix}[{}]", ranges(&numbers));
            }
        }
        rest = behind;
    }
    list
}

/// A name before its last number, and that number.
fn cut(host: &str) -> (&str, &str) {
    let digits = host.bytes().rev().take_while(u8::is_ascii_digit).count().min(MOST_DIGITS);
    host.split_at(host.len() - digits)
}

/// Numbers as ranges, which is what they are when each is written as the one after the last with the first one's width.
fn ranges(numbers: &[&str]) -> String {
    let mut ranges: Vec<(&str, &str)> = Vec::new();
    for number in numbers {
        if let Some((first, last)) = ranges.last_mut()
            && let Ok(before) = last.parse::<u64>()
            && *number == format!("{:0width$}", before + 1, width = first.len())
        {
            *last = number;
            continue;
        }
        ranges.push((number, number));
    }
    let written = |(first, last): &(&str, &str)| if first == last { (*first).to_owned() } else { format!("{first}-{last}") };
    ranges.iter().map(written).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &str) -> Vec<String> {
        expand(list).unwrap()
    }

    #[test]
    fn lists_of_slurm_are_expanded() {
        assert_eq!(names("mel[2001-2003,2010],login1"), ["mel2001", "mel2002", "mel2003", "mel2010", "login1"]);
        assert_eq!(names("n1"), ["n1"]);
        assert_eq!(names("n[1-4]"), ["n1", "n2", "n3", "n4"]);
        assert_eq!(names("n[08-10],x[9-11]"), ["n08", "n09", "n10", "x9", "x10", "x11"]);
        assert_eq!(names("r[1-2]c[0-1]-ib"), ["r1c0-ib", "r1c1-ib", "r2c0-ib", "r2c1-ib"]);
        assert_eq!(names("ctl, n[3]"), ["ctl", "n3"]);
        assert_eq!(names(""), [] as [&str; 0]);
    }

    #[test]
    fn what_is_no_list_is_refused_with_what_was_expected() {
        for (list, found) in [
            ("n[1-2", "brackets"),
            ("n1-2]", "brackets"),
            ("n[1-[2]]", "brackets"),
            ("n1,,n2", "nothing where"),
            (",", "nothing where"),
            ("n[]", "nothing where"),
            ("n[1,]", "nothing where"),
            ("n1 n2", "nothing where"),
            ("n[2-1]", "the range '2-1'"),
            ("n[-]", "the range '-'"),
            ("n[1-x]", "the range '1-x'"),
            ("n[+1-3]", "the range '+1-3'"),
            ("n[1-2-3]", "the range '1-2-3'"),
            ("n[99999999999999999999]", "the range '99999999999999999999'"),
            ("n[0-99999999999]", "more than 100000 hosts"),
            ("n[1-50000],m[1-50001]", "more than 100000 hosts"),
            ("a[1-1000]b[1-1000]", "more than 100000 hosts"),
            ("a[1-9999]b[1-9999]c[1-9999]d[1-9999]", "more than 100000 hosts"),
        ] {
            let said = expand(list).unwrap_err().to_string();
            assert!(said.contains(found) && said.ends_with("such as mel[2001-2004,2010],login1"), "{list}: {said}");
        }
        assert_eq!(expand("n[1-100000]").unwrap().len(), MOST);
        let name = "n".repeat(256);
        for list in [name.clone(), format!("{name}[1-2]"), format!("a[1-2]{name}")] {
            assert!(expand(&list).unwrap_err().to_string().contains("more than 255 bytes"), "{list}");
        }
        let long = format!("n[{}", "1,".repeat(10_000));
        assert!(expand(&long).unwrap_err().to_string().len() < 300);
    }

    #[test]
    fn neighbours_share_brackets() {
        let written = |hosts: &[&str]| write(&hosts.iter().map(|host| (*host).to_owned()).collect::<Vec<_>>());
        assert_eq!(written(&["mel2001", "mel2002", "mel2003", "mel2010", "login1"]), "mel[2001-2003,2010],login1");
        assert_eq!(written(&["n9", "n10", "n011"]), "n[9-10,011]");
        assert_eq!(written(&["n099", "n100"]), "n[099-100]");
        assert_eq!(written(&["n2", "n1"]), "n[2,1]");
        assert_eq!(written(&["ctl", "ctl", "7"]), "ctl,ctl,7");
        assert_eq!(written(&[]), "");
    }

    #[test]
    fn what_is_written_is_read_back() {
        // Names of few letters and digits, so that neighbours, leading zeros and repetitions are common.
        let mut state = 1u64;
        let mut draw = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        for round in 0..5000 {
            let hosts: Vec<String> = (0..draw(12))
                .map(|at| match draw(4) {
                    0 => format!("n{}", at + draw(3)),
                    1 => format!("n{:03}", 95 + at * (1 + draw(2))),
                    2 => ["ctl", "a-b", "x.y", "7", "00", "r1c"][draw(6) as usize].to_owned(),
                    _ => format!("r{}c{:02}", draw(2), 8 + at),
                })
                .collect();
            let list = write(&hosts);
            assert_eq!(expand(&list), Ok(hosts), "round {round}: {list}");
        }
        let wide: Vec<String> = (0..30).map(|digits| format!("n{}", "9".repeat(digits))).collect();
        assert_eq!(expand(&write(&wide)), Ok(wide));
    }
}
