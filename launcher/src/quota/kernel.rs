//! Quotas that Linux keeps (ext4, xfs) or asks of an NFS server, by the program `quota` of the Linux quota tools.
use std::path::Path;
use std::process::Command;

use super::mounts::Mount;
use super::{Found, LIMIT, Quota, Who};
use crate::site::ask::{End, within};

/// Of user and group; nothing where they have no limits. Those of a project only root may ask for, and need not be asked: what is left of one is the
/// free space of its directories.
pub(super) fn quotas(mount: &Mount, who: &Who) -> Found {
    let mut found = Found::default();
    for (which, what, id) in [("usr", "user", who.user), ("grp", "group", who.group)] {
        if mount.has_kernel_quotas(which) {
            found.add(one(mount, &format!("--{what}"), &id.to_string(), &format!("{what} {id}")));
        }
    }
    found
}

/// Its exit status says whether a quota is exceeded, and whether there is one at all.
fn one(mount: &Mount, option: &str, id: &str, of: &str) -> Result<Option<Quota>, String> {
    let mut command = Command::new("quota");
    command.args(["--no-wrap", "--raw-grace", "--verbose", "--show-mntpoint", "--hide-device", option]);
    command.arg(format!("--filesystem={}", mount.point.display())).arg(id);
    let heard = within(LIMIT, &mut command);
    let unasked = |why: String| Err(format!("quota: {why}: quotas of {} were not checked", mount.point.display()));
    match (read(&heard.out, &mount.point, of), heard.end) {
        (Some(quota), _) => Ok(Some(quota)),
        (None, End::NotStarted(error)) => unasked(error.to_string()),
        (None, End::TooLate) => unasked(format!("no answer in {} s", LIMIT.as_secs())),
        (None, End::Well | End::Badly) => match heard.err.lines().next() {
            Some(why) => unasked(why.trim_start_matches("quota: ").to_owned()),
            None => Ok(None),
        },
    }
}

/// The line of a mount point: `/point 8 1000 2000 0 3 10 20 0`.
fn read(said: &str, point: &Path, of: &str) -> Option<Quota> {
    let point = point.display().to_string();
    let fields = said.lines().find_map(|line| {
        let rest = line.trim().strip_prefix(&point)?;
        rest.starts_with(char::is_whitespace).then(|| rest.split_whitespace().collect::<Vec<_>>())
    })?;
    Quota::of_columns(of, fields.try_into().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quota::Usage;

    /// What quota 4.06 says; tests/quotas runs the program itself.
    #[test]
    fn the_line_of_the_mount_point_is_read() {
        let said = "Disk quotas for user ada (uid 1000): \n     Filesystem  blocks   quota   limit   grace   files   quota   limit   grace\n      /work-old       1       2       3       0       4       5       6       0\n          /work    1500*   1000    2000  1795000000       3       0      20       0\n";
        let quota = read(said, Path::new("/work"), "user 1000").unwrap();
        assert_eq!(quota.bytes, Usage { used: 1500 * 1024, soft: Some(1000 * 1024), hard: Some(2000 * 1024) });
        assert_eq!(quota.files, Usage { used: 3, soft: None, hard: Some(20) });
        assert_eq!(read("Disk quotas for user ada (uid 1000): none\n", Path::new("/work"), "user 1000"), None);
    }
}
