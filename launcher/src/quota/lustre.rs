//! Quotas of Lustre, by `lfs quota -q`: <https://doc.lustre.org/lustre_manual.xhtml>, "Configuring and Managing Quotas". Not run here: there is no
//! Lustre to run it on.
use std::path::Path;

use super::{Found, Quota, Who, ask};

/// Of user, group, and the directory's project if it has one.
pub(super) fn quotas(directory: &Path, who: &Who) -> Found {
    let path = directory.display().to_string();
    let mut found = Found::default();
    let mut all = vec![("-u", "user", who.user.to_string()), ("-g", "group", who.group.to_string())];
    let project = ask("lfs", &["project", "-d", &path]).ok();
    all.extend(project.and_then(|said| read_project(&said)).map(|project| ("-p", "project", project)));
    for (option, what, id) in all {
        let said = ask("lfs", &["quota", "-q", option, &id, &path]);
        let missing = said.is_err();
        found.add(said.map(|said| read(&said, &format!("{what} {id}"))));
        if missing {
            break;
        }
    }
    found
}

/// `    42 P /path`; 0 is no project.
fn read_project(said: &str) -> Option<String> {
    let number: u32 = said.split_whitespace().next()?.parse().ok()?;
    (number > 0).then(|| number.to_string())
}

/// Eight columns behind the path, which may stand on the line before.
fn read(said: &str, of: &str) -> Option<Quota> {
    said.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        Quota::of_columns(of, *fields.last_chunk()?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quota::Usage;

    /// The forms of the manual's section "Quota Administration" as `-q` leaves them: a line of numbers behind the mount point, on one line or,
    /// behind a long one, on the next; a project's number as lfs-project(1) shows it.
    #[test]
    fn what_the_manual_shows_is_read() {
        let quota =
            read("      /mnt/testfs     5120*      0    5121       -      26       0       0       -\n", "user 500").unwrap();
        assert_eq!(quota.bytes, Usage { used: 5120 * 1024, soft: None, hard: Some(5121 * 1024) });
        assert_eq!(quota.files, Usage { used: 26, soft: None, hard: None });
        let wrapped = "/lustre/a/long/name\n      [288*]  300   10240  6d23h59m57s   8*   5   6000   none\n";
        let quota = read(wrapped, "project 42").unwrap();
        assert_eq!((quota.bytes.soft, quota.files.soft, quota.files.hard), (Some(300 * 1024), Some(5), Some(6000)));
        assert_eq!(read("Unexpected quotactl error: Operation not supported\n", "user 1"), None);
        assert_eq!(read_project("   42 P /mnt/testfs/dir\n").as_deref(), Some("42"));
        assert_eq!(read_project("    0 - /mnt/testfs/dir\n"), None);
    }
}
