//! Locks by names, for file systems without flock(2): whoever makes the link `LOCK.1` holds the lock, and removes it afterwards.
//!
//! symlink(2) makes a name or finds it made, in one step and with what it says: which process holds it. The link of a process that was killed
//! is never removed by another, because between looking and removing it could have become somebody else's; it is passed, and the lock is
//! `LOCK.2` from then on. Nobody can hold two of them at once: a number is asked for only after all below it were found to be of dead
//! processes, and those stay.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::id;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

use crate::LedgerError;

/// How long a process is waited for that cannot be looked at from here.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);
/// Pauses between two looks: the first, doubled until it is the second.
const PAUSES: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(50)];
/// No more killed processes are passed.
const NUMBERS: u32 = 10_000;

/// The locks of this process. A link of this process that is not here is nobody's: it could not be removed, or a network lost the answer
/// to the request that made it.
static HELD: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

fn held() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Held until this is dropped.
#[derive(Debug)]
pub(super) struct NamedLock(PathBuf);

impl Drop for NamedLock {
    fn drop(&mut self) {
        let mut held = held();
        // If it stays, it is taken over by this process, and passed by others once this one has ended.
        let _ = std::fs::remove_file(&self.0);
        held.remove(&self.0);
    }
}

/// Waits until nobody else holds the lock called `base`: for as long as it takes where the holder is seen to live, `patience` for one that
/// cannot be seen.
pub(super) fn hold(base: &Path, patience: Duration) -> Result<NamedLock, LedgerError> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let here = Place::own();
    // The count tells one time of holding it from the next.
    let own = format!("{} {}", here.holder(id()), COUNT.fetch_add(1, Ordering::Relaxed));
    let (mut number, mut pause) = (1, PAUSES[0]);
    let (mut last, mut since) = (None, Instant::now());
    loop {
        let path = numbered(base, number);
        let holder = match attempt(&path, &here, &own)? {
            Attempt::Held(lock) => return Ok(lock),
            Attempt::By(holder) => Some(holder),
            Attempt::Vanished => None,
        };
        if holder != last {
            (pause, since) = (PAUSES[0], Instant::now());
        }
        match holder.as_deref().map(|holder| here.state(holder)) {
            Some(State::Dead) if number < NUMBERS => number += 1,
            Some(State::Dead | State::Unknown) if since.elapsed() >= patience => {
                let (holder, waited) = (holder.unwrap_or_default(), patience.as_secs());
                return Err(LedgerError::LockHeld { path, holder, waited });
            }
            _ => {
                std::thread::sleep(pause);
                pause = pause.saturating_mul(2).min(PAUSES[1]);
            }
        }
        last = holder;
    }
}

enum Attempt {
    Held(NamedLock),
    /// Who holds it, in its own words.
    By(String),
    /// It was there, and is gone by now.
    Vanished,
}

fn attempt(path: &Path, here: &Place, own: &str) -> Result<Attempt, LedgerError> {
    let mut held = held();
    let error = match std::os::unix::fs::symlink(own, path) {
        Ok(()) => {
            held.insert(path.to_owned());
            return Ok(Attempt::Held(NamedLock(path.to_owned())));
        }
        Err(error) => error,
    };
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::EXIST) => {}
        Some(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS) => {
            return Err(LedgerError::NoLocks { path: path.to_owned(), source: error });
        }
        _ => return Err(LedgerError::io("lock", path, error)),
    }
    let holder = match std::fs::read_link(path) {
        Ok(holder) => holder.to_string_lossy().into_owned(),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Attempt::Vanished),
        Err(error) => return Err(LedgerError::io("read the lock", path, error)),
    };
    let is_own = holder.strip_prefix(&here.holder(id())).is_some_and(|rest| rest.starts_with(' '));
    if is_own && held.insert(path.to_owned()) {
        return Ok(Attempt::Held(NamedLock(path.to_owned())));
    }
    Ok(Attempt::By(holder))
}

fn numbered(base: &Path, number: u32) -> PathBuf {
    let mut name = base.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Alive,
    /// It has ended, for ever.
    Dead,
    /// On another machine, before the last start of this one, or in another container.
    Unknown,
}

/// Where process numbers mean the same processes.
struct Place(String);

impl Place {
    /// The machine, its start, and the container (pid_namespaces(7)). What cannot be read stands as `-`.
    fn own() -> Place {
        let line = |path: &str| std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
        let words = [
            line("/proc/sys/kernel/hostname"),
            line("/proc/sys/kernel/random/boot_id"),
            std::fs::read_link("/proc/self/ns/pid").ok().map(|link| link.to_string_lossy().into_owned()),
        ];
        let word =
            |word: Option<String>| word.filter(|word| !word.is_empty()).map_or("-".to_owned(), |word| word.replace(' ', "_"));
        Place(words.map(word).join(" "))
    }

    /// What a process of this place writes: `process PID of STARTED on HOST BOOT CONTAINER`.
    fn holder(&self, pid: u32) -> String {
        format!("process {pid} of {} on {}", stat(pid).map_or_else(|| "-".to_owned(), |stat| stat.started), self.0)
    }

    fn state(&self, holder: &str) -> State {
        let words: Vec<&str> = holder.split(' ').collect();
        let (["process", pid, "of", start, "on"], Some(place)) = (words.get(..5).unwrap_or_default(), words.get(5..8)) else {
            return State::Unknown;
        };
        // Without all three nobody knows whose number it is.
        if place.contains(&"-") || place.join(" ") != self.0 {
            return State::Unknown;
        }
        let Some(number) = pid.parse().ok().and_then(Pid::from_raw) else { return State::Unknown };
        match number.as_raw_nonzero().get().try_into().ok().and_then(stat) {
            // Ended, and nobody has asked how.
            Some(now) if matches!(now.state, 'Z' | 'X') => State::Dead,
            // The number was given to another since.
            Some(now) if *start != "-" && now.started != *start => State::Dead,
            Some(_) if *start != "-" => State::Alive,
            _ if test_kill_process(number) == Err(Errno::SRCH) => State::Dead,
            // Other accounts' processes may be hidden (hidepid of proc(5)): whose the number is now nobody says.
            _ => State::Unknown,
        }
    }
}

/// What proc_pid_stat(5) says of a process.
struct Stat {
    /// Field 3: a letter.
    state: char,
    /// Field 22: when it began, in ticks since the machine did.
    started: String,
}

fn stat(pid: u32) -> Option<Stat> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is a name in parentheses, with anything in it.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    Some(Stat { state: fields.first()?.chars().next()?, started: (*fields.get(19)?).to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dead() -> String {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let holder = Place::own().holder(child.id());
        assert_eq!(Place::own().state(&holder), State::Alive);
        child.kill().unwrap();
        // Not waited for yet it is a zombie, which has its number and its beginning still.
        while stat(child.id()).is_some_and(|stat| stat.state != 'Z') {
            std::thread::yield_now();
        }
        assert_eq!(Place::own().state(&holder), State::Dead);
        child.wait().unwrap();
        holder
    }

    #[test]
    fn a_lock_of_this_process_that_could_not_be_removed_is_taken_over() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().join("lock");
        std::os::unix::fs::symlink(format!("{} 77", Place::own().holder(id())), numbered(&base, 1)).unwrap();
        let held = hold(&base, Duration::ZERO).unwrap();
        assert_eq!(held.0, numbered(&base, 1));
        let other = std::thread::scope(|scope| {
            let other = scope.spawn(|| hold(&base, Duration::ZERO).unwrap().0.clone());
            drop(held);
            other.join().unwrap()
        });
        assert_eq!(other, numbered(&base, 1), "and then by the next in turn");
    }

    #[test]
    fn the_lock_of_a_killed_process_is_passed_and_stays() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().join("lock");
        for number in 1..3 {
            std::os::unix::fs::symlink(dead(), numbered(&base, number)).unwrap();
        }
        let held = hold(&base, Duration::ZERO).unwrap();
        assert_eq!(held.0, folder.path().join("lock.3"));
        drop(held);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_number_that_another_process_has_by_now_is_of_a_dead_one() {
        let here = Place::own();
        let holder = here.holder(id());
        assert_eq!(here.state(&holder), State::Alive);
        let begin = stat(id()).unwrap().started;
        assert_eq!(here.state(&holder.replacen(&format!("of {begin} on"), "of 1 on", 1)), State::Dead);
    }

    #[test]
    fn a_process_that_cannot_be_seen_is_waited_for_and_then_named() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().join("lock");
        let host = Place::own().0.split(' ').next().unwrap().to_owned();
        for text in [
            dead().replacen(&format!("on {host}"), "on elsewhere", 1),
            "anything".to_owned(),
            "process x of 1 on a b c".to_owned(),
        ] {
            std::os::unix::fs::symlink(&text, numbered(&base, 1)).unwrap();
            let Err(error) = hold(&base, Duration::from_millis(5)) else { panic!("{text}") };
            let said = error.to_string();
            assert!(matches!(error, LedgerError::LockHeld { .. }) && said.contains("lock.1") && said.contains(&text), "{said}");
            std::fs::remove_file(numbered(&base, 1)).unwrap();
        }
    }

    #[test]
    fn a_file_in_the_place_of_a_lock_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().join("lock");
        std::fs::write(numbered(&base, 1), "").unwrap();
        assert!(matches!(hold(&base, Duration::ZERO), Err(LedgerError::Io { action: "read the lock", .. })));
    }
}
