//! Quotas of IBM Storage Scale (GPFS), by `mmlsquota -Y`, whose first line names the columns of the others:
//! <https://www.ibm.com/docs/en/storage-scale>, "mmlsquota command" and "mmlsattr command". Not run here: there is no GPFS to run it on.
use std::path::Path;

use super::mounts::Mount;
use super::{Found, Quota, UNIT, Usage, Who, ask};

/// Where its commands are when they are not on PATH.
const FOLDER: &str = "/usr/lpp/mmfs/bin";

/// Of user, group, and the fileset that holds the directory.
pub(super) fn quotas(mount: &Mount, directory: &Path, who: &Who) -> Found {
    let mut found = Found::default();
    let device = mount.source.trim_start_matches("/dev/");
    let mut all = vec![("-u", "user", who.user.to_string()), ("-g", "group", who.group.to_string())];
    let about = command("mmlsattr", &["-L", &directory.display().to_string()]).ok();
    all.extend(about.and_then(|said| fileset(&said)).map(|name| ("-j", "fileset", name)));
    for (option, what, id) in all {
        let said = command("mmlsquota", &[option, &id, "-Y", device]);
        let missing = said.is_err();
        found.add(said.map(|said| read(&said, device, &format!("{what} {id}"))));
        if missing {
            break;
        }
    }
    found
}

fn command(name: &str, words: &[&str]) -> Result<String, String> {
    let full = format!("{FOLDER}/{name}");
    ask(if Path::new(&full).is_file() { &full } else { name }, words)
}

/// `fileset name:         root`; the root fileset is the whole file system, and has no quota of its own.
fn fileset(said: &str) -> Option<String> {
    let name = said.lines().find_map(|line| line.trim().strip_prefix("fileset name:"))?.trim();
    (!name.is_empty() && name != "root").then(|| name.to_owned())
}

/// The line of a device, its fields by the names of the header; none where a user has one in each of several filesets, for which of them the run
/// is in is not said there.
fn read(said: &str, device: &str, of: &str) -> Option<Quota> {
    let header: Vec<&str> = said.lines().find(|line| line.contains(":HEADER:"))?.split(':').collect();
    let mut found = said.lines().filter(|line| !line.contains(":HEADER:")).filter_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let field = |name: &str| fields.get(header.iter().position(|one| *one == name)?).copied();
        let number = |name: &str| field(name)?.parse::<u64>().ok();
        if field("filesystemName")? != device {
            return None;
        }
        Some(Quota {
            of: of.to_owned(),
            bytes: Usage::of(number("blockUsage")?, number("blockQuota")?, number("blockLimit")?, UNIT),
            files: Usage::of(number("filesUsage")?, number("filesQuota")?, number("filesLimit")?, 1),
        })
    });
    let first = found.next();
    first.filter(|_| found.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The columns of mmlsquota -Y of release 5, with numbers of our own.
    const SAID: &str = "\
mmlsquota::HEADER:version:reserved:reserved:filesystemName:quotaType:id:name:blockUsage:blockQuota:blockLimit:blockInDoubt:blockGrace:filesUsage:filesQuota:filesLimit:filesInDoubt:filesGrace:remarks:quota:defQuota:fid:filesetname:
mmlsquota::0:1:::home:USR:1001:ada:10:20:30:0:none:1:0:0:0:none:e:on:off:::
mmlsquota::0:1:::work:USR:1001:ada:1048576:2097152:3145728:0:none:4000:0:500000:0:none:e:on:off:::
";

    #[test]
    fn columns_are_found_by_name() {
        let quota = read(SAID, "work", "user 1001").unwrap();
        assert_eq!(quota.bytes, Usage { used: 1 << 30, soft: Some(2 << 30), hard: Some(3 << 30) });
        assert_eq!(quota.files, Usage { used: 4000, soft: None, hard: Some(500_000) });
        assert_eq!(read(SAID, "scratch", "user 1001"), None);
        let of_two = SAID.replace("home:USR", "work:USR");
        assert_eq!(read(&of_two, "work", "user 1001"), None, "which fileset is it?");
        assert_eq!(read("mmlsquota: no such device\n", "work", "user 1001"), None);
        let said = "file name:            /data/p1\nfileset name:         p1\nsnapshot name:\n";
        assert_eq!(fileset(said).as_deref(), Some("p1"));
        assert_eq!(fileset("fileset name:         root\n"), None);
    }
}
