//! On which file system a directory is, by the kernel's list of what is mounted (proc_pid_mountinfo(5)).
use std::path::{Path, PathBuf};

/// What is mounted somewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    pub(super) point: PathBuf,
    /// `lustre`, `ext4`, `nfs4` …
    pub(super) kind: String,
    /// A device, or what a network file system calls itself.
    pub(super) source: String,
    /// Of the file system, not of this mount of it.
    options: Vec<String>,
}

/// What holds a directory: the longest path above it, and of several at one path the last, which covers the others.
pub(super) fn of(mountinfo: &str, directory: &Path) -> Option<Mount> {
    let above = mountinfo.lines().filter_map(mount).filter(|mount| directory.starts_with(&mount.point));
    above.enumerate().max_by_key(|(index, mount)| (mount.point.components().count(), *index)).map(|(_, mount)| mount)
}

/// `36 35 98:0 /root /point rw,noatime master:1 - ext4 /dev/sda1 rw,quota`
fn mount(line: &str) -> Option<Mount> {
    let (before, after) = line.split_once(" - ")?;
    let (point, mut rest) = (before.split(' ').nth(4)?, after.split(' '));
    let (kind, source) = (rest.next()?.to_owned(), rest.next()?);
    let options = rest.next().unwrap_or_default().split(',').map(str::to_owned).collect();
    Some(Mount { point: PathBuf::from(plain(point)), kind, source: plain(source), options })
}

/// Blanks and the like are written as a backslash and three octal digits.
fn plain(field: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(field.to_owned(), |text, (code, letter)| text.replace(code, letter))
}

impl Mount {
    /// Whether the program `quota` knows of limits of users or groups there (`usr`, `grp`). Of NFS only the server knows.
    pub(super) fn has_kernel_quotas(&self, of: &str) -> bool {
        // As the kernel shows them: usrquota, uquota of older ones, usrjquota=FILE where they are kept in a file.
        let short = of.get(..1).unwrap_or_default();
        let names = [format!("{of}quota"), format!("{short}quota"), format!("{of}jquota")];
        let is_on = |option: &String| names.iter().any(|name| option.split('=').next() == Some(name.as_str()));
        match self.kind.as_str() {
            "nfs" | "nfs4" => true,
            "ext2" | "ext3" | "ext4" | "xfs" | "f2fs" | "jfs" => self.options.iter().any(is_on),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
22 1 254:1 / / rw,relatime - ext4 /dev/vda1 rw
30 22 0:40 / /scratch rw - lustre 10.0.0.1@o2ib:/scratch rw,flock
31 22 0:41 / /people rw shared:1 - nfs4 server:/people rw,vers=4.2
32 22 7:0 / /work\\040one rw - ext4 /dev/loop0 rw,quota,usrquota,prjquota
33 22 7:1 / /work\\040one rw - xfs /dev/loop1 rw,noquota
";

    #[test]
    fn the_nearest_and_the_last_mount_counts() {
        let kind = |path: &str| of(TABLE, Path::new(path)).map(|mount| (mount.kind.clone(), mount.has_kernel_quotas("usr")));
        assert_eq!(kind("/scratch/p/run"), Some(("lustre".to_owned(), false)));
        assert_eq!(kind("/scratchy"), Some(("ext4".to_owned(), false)));
        assert_eq!(kind("/people/a"), Some(("nfs4".to_owned(), true)));
        assert_eq!(kind("/work one/x"), Some(("xfs".to_owned(), false)));
        let first = mount(TABLE.lines().nth(3).unwrap()).unwrap();
        assert_eq!(["usr", "grp"].map(|of| first.has_kernel_quotas(of)), [true, false]);
        assert_eq!(of("nonsense", Path::new("/")), None);
    }
}
