//! Where the ranks of a run are, by what their logs say.
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use serde::Serialize;

use crate::chain::history::Job;
use crate::train::directory::RunDirectory;
use crate::train::holder::host as this_host;
use crate::watch::source::changed;

/// Bytes of a log that are looked through, from its end, and at once.
const DEEPEST: u64 = 4 << 20;
const BLOCK: u64 = 64 << 10;

/// How the line begins that says where a rank runs.
const MARK: &str = " started rank=";

/// One rank.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Rank {
    pub(super) rank: u64,
    /// Of the newest start that its log tells; else the node that Slurm gives to it when it places ranks in order.
    pub(super) host: Option<String>,
    pub(super) process: Option<u64>,
    /// Whether that process is there; none of another host.
    pub(super) alive: Option<bool>,
    /// When its log was last written to, in seconds since 1970.
    pub(super) last_line: Option<f64>,
}

/// The ranks that have logs.
pub(super) fn ranks(directory: &RunDirectory, ranks: u64, job: Option<&Job>) -> Vec<Rank> {
    let here = this_host();
    let one = |rank: u64| {
        let path = directory.log(rank);
        let last_line = Some(changed(&path)?);
        let (host, process) = started(&path).ok().flatten().unwrap_or_default();
        let is_here = host.as_ref() == Some(&here);
        let alive = process.filter(|_| is_here).map(is_alive);
        let host = host.or_else(|| placed(rank, job?));
        Some(Rank { rank, host, process, alive, last_line })
    };
    (0..ranks).filter_map(one).collect()
}

/// Whether a process of this host is there and has not ended: one that nobody has waited for keeps its entry (proc(5): `pid (name) Z …`).
fn is_alive(process: u64) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}

/// The node of a rank where each node has as many as the others, in order.
fn placed(rank: u64, job: &Job) -> Option<String> {
    let nodes = job.nodes.len() as u64;
    let each = job.ranks.filter(|ranks| nodes > 0 && ranks % nodes == 0)? / nodes;
    job.nodes.get(usize::try_from(rank.checked_div(each)?).ok()?).cloned()
}

/// Host and process of the newest start.
type Started = (Option<String>, Option<u64>);

/// Looks for the newest start from the end of the log: a resumed run has several, and many lines behind the last.
fn started(path: &Path) -> io::Result<Option<Started>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let (mut end, mut after) = (length, Vec::new());
    while end > length.saturating_sub(DEEPEST) {
        let begin = end.saturating_sub(BLOCK);
        let mut bytes = vec![0; (end - begin) as usize];
        file.seek(SeekFrom::Start(begin))?;
        file.read_exact(&mut bytes)?;
        // The line may begin in this block and end in the one that was read before.
        bytes.extend_from_slice(&after);
        let text = String::from_utf8_lossy(&bytes);
        if let Some(at) = text.rfind(MARK) {
            return Ok(Some(fields(text[at..].lines().next().unwrap_or_default())));
        }
        after = bytes;
        after.truncate(1024);
        end = begin;
    }
    Ok(None)
}

/// ` started rank=1 ranks=2 host="n1" process=123`
fn fields(line: &str) -> Started {
    let field = |name: &str| line.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    let host = field("host").map(|host| host.trim_matches('"').to_owned()).filter(|host| !host.is_empty());
    (host, field("process").and_then(|process| process.parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::history::{jobs, tests::two_jobs};

    #[test]
    fn the_newest_start_is_found_wherever_it_stands() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let start = |host: &str, process: u64| {
            format!("2026-11-22T11:55:39Z  INFO run: started rank=1 ranks=2 host=\"{host}\" process={process}\n")
        };
        let found = |text: &str| {
            fs::write(&path, text).unwrap();
            started(&path).unwrap()
        };
        assert_eq!(found("ready\n"), None);
        assert_eq!(found("2026 INFO run: started rank=1 ranks=2\nstep\n"), Some((None, None)));
        assert_eq!(found(&(start("n1", 7) + &start("n2", 8))), Some((Some("n2".to_owned()), Some(8))));
        // Across the border of two blocks, wherever that falls in the line.
        for more in (BLOCK - 120)..(BLOCK + 10) {
            let text = start("n1", 7) + &start("n3", 9) + &"x".repeat(more as usize);
            assert_eq!(found(&text), Some((Some("n3".to_owned()), Some(9))), "{more}");
        }
        assert_eq!(found(&(start("n1", 7) + &"x\n".repeat(3 << 20))), None);
    }

    #[test]
    fn a_process_that_has_ended_is_not_alive_although_nobody_has_waited_for_it() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let process = u64::from(child.id());
        let ended = (0..500).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            !is_alive(process)
        });
        assert!(ended && Path::new("/proc").join(process.to_string()).exists());
        child.wait().unwrap();
        assert!(!is_alive(process) && is_alive(u64::from(std::process::id())));
    }

    #[test]
    fn where_logs_do_not_say_it_the_record_does() {
        let all = jobs(two_jobs());
        let hosts: Vec<_> = (0..5).map(|rank| placed(rank, &all[0]).unwrap_or_default()).collect();
        assert_eq!(hosts, ["n1", "n1", "n2", "n2", ""]);
        assert_eq!(placed(0, &all[1]), None);
    }
}
