//! What scontrol and sacctmgr say, as values. Lines that are none of theirs are passed over.
use std::collections::BTreeMap;

use sirocco_config::WallTime;

use super::rules::{Access, Association, Enforced, Limits, Partition, Quality, Resources};

/// The fields that are asked for of a user, in this order.
pub(crate) const ASSOCIATION: &str = "format=DefaultAccount,Account,Partition,QOS,DefaultQOS,MaxWall,MaxTRES,GrpTRES";
/// The same of a QOS.
pub(crate) const QUALITY: &str = "format=Name,Flags,MaxWall,MaxTRES,MinTRES,MaxTRESPU,MaxTRESPA,GrpTRES";

/// `KEY = value` of `scontrol show config`.
pub(crate) fn setting<'a>(config: &'a str, key: &str) -> Option<&'a str> {
    let pairs = config.lines().filter_map(|line| line.split_once('='));
    pairs.map(|(name, value)| (name.trim(), value.trim())).find(|(name, _)| *name == key).map(|(_, value)| value)
}

/// What jobs are held to; each of the later ones brings the first along (slurm.conf(5), AccountingStorageEnforce).
pub(crate) fn enforced(config: &str) -> Enforced {
    let words: Vec<String> =
        list(setting(config, "AccountingStorageEnforce").unwrap_or_default()).iter().map(|word| word.to_lowercase()).collect();
    let has = |names: &[&str]| words.iter().any(|word| names.contains(&word.as_str()));
    let (limits, qos) = (has(&["limits", "safe", "all"]), has(&["qos", "all"]));
    Enforced { associations: limits || qos || has(&["associations", "wckeys"]), limits, qos }
}

/// Lines `KEY=value KEY=value …`, one for each partition.
pub(crate) fn partitions(said: &str) -> Vec<Partition> {
    said.lines().filter_map(partition).collect()
}

fn partition(line: &str) -> Option<Partition> {
    let fields: BTreeMap<&str, &str> = line.split_whitespace().filter_map(|word| word.split_once('=')).collect();
    let value = |key: &str| fields.get(key).copied();
    let access = |allowed: &str, denied: &str| Access {
        allowed: value(allowed).filter(|names| !names.eq_ignore_ascii_case("ALL")).map(list),
        denied: value(denied).map(list).unwrap_or_default(),
    };
    let number = |key: &str| value(key).and_then(|text| text.parse().ok());
    Some(Partition {
        name: value("PartitionName")?.to_owned(),
        is_default: value("Default") == Some("YES"),
        state: value("State").unwrap_or("UP").to_owned(),
        accounts: access("AllowAccounts", "DenyAccounts"),
        qualities: access("AllowQos", "DenyQos"),
        nodes: number("TotalNodes"),
        least_nodes: number("MinNodes"),
        most_nodes: number("MaxNodes"),
        max_time: value("MaxTime").and_then(WallTime::parse),
        qos: value("QoS").filter(|name| *name != "N/A").map(str::to_owned),
    })
}

/// The account that a job has without one, and the associations, of `sacctmgr show user NAME withassoc`; none where it knows no such user.
pub(crate) fn associations(said: &str) -> (Option<String>, Option<Vec<Association>>) {
    let mut default = None;
    let all = said.lines().filter_map(|line| {
        let [own, account, partition, qos, default_qos, time, job, all] = line.split('|').collect::<Vec<_>>()[..] else {
            return None;
        };
        default = text(own);
        let limits = Limits { time: WallTime::parse(time), job: resources(job), all: resources(all), ..Limits::default() };
        let (account, partition, default_qos) = (text(account)?, text(partition), text(default_qos));
        Some(Association { account, partition, qos: list(qos), default_qos, limits })
    });
    let all = all.collect();
    (default, Some(all))
}

/// Lines of `sacctmgr show qos`.
pub(crate) fn qualities(said: &str) -> Vec<Quality> {
    let line = |line: &str| {
        let [name, flags, time, job, least, user, account, all] = line.split('|').collect::<Vec<_>>()[..] else { return None };
        let limits = Limits {
            time: WallTime::parse(time),
            job: resources(job),
            least: resources(least),
            user: resources(user),
            account: resources(account),
            all: resources(all),
        };
        Some(Quality { name: text(name)?, flags: list(flags), limits })
    };
    said.lines().filter_map(line).collect()
}

fn text(field: &str) -> Option<String> {
    Some(field.trim()).filter(|field| !field.is_empty()).map(str::to_owned)
}

fn list(field: &str) -> Vec<String> {
    field.split(',').filter_map(text).collect()
}

/// `cpu=8,gres/gpu=4,node=2`; what is no number is no limit.
fn resources(field: &str) -> Resources {
    let pair = |one: &str| {
        let (name, number) = one.split_once('=')?;
        Some((name.trim().to_lowercase(), number.trim().parse().ok()?))
    };
    field.split(',').filter_map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Slurm 22.05, as the cluster of the tests says it, and a partition of a site with lists.
    const PARTITIONS: &str = "\
PartitionName=main AllowGroups=ALL AllowAccounts=ALL AllowQos=ALL AllocNodes=ALL Default=YES QoS=N/A DefaultTime=00:10:00 MaxNodes=UNLIMITED MaxTime=UNLIMITED MinNodes=0 Nodes=n[1-4] State=UP TotalCPUs=8 TotalNodes=4
PartitionName=fenced AllowGroups=ALL AllowAccounts=reef,dune DenyQos=low AllowQos=ALL Default=NO QoS=wide MaxNodes=1 MaxTime=2-00:20:00 MinNodes=1 State=DRAIN TotalNodes=4
slurm_load_partitions: no line of theirs
";

    #[test]
    fn partitions_are_read() {
        let found = partitions(PARTITIONS);
        assert_eq!(found.len(), 2);
        assert!(
            found[0].is_default && found[0].accounts.has("anyone") && found[0].most_nodes.is_none() && found[0].qos.is_none()
        );
        let fenced = &found[1];
        assert_eq!((fenced.most_nodes, fenced.max_time.map(WallTime::seconds)), (Some(1), Some(174_000)));
        assert_eq!((fenced.qos.as_deref(), fenced.state.as_str()), (Some("wide"), "DRAIN"));
        assert!(fenced.accounts.has("Reef") && !fenced.accounts.has("cliff") && !fenced.qualities.has("low"));
        assert_eq!((fenced.accounts.words(), fenced.qualities.words()), ("reef, dune".to_owned(), "all but low".to_owned()));
    }

    #[test]
    fn associations_and_qualities_are_read() {
        let (default, found) =
            associations("dune|dune||normal,short|normal|||\ndune|reef|fenced|short|short|01:00:00|node=4,gres/gpu=8|cpu=64\n");
        let found = found.unwrap();
        assert_eq!((default.as_deref(), found.len(), found[0].qos.len()), (Some("dune"), 2, 2));
        assert_eq!((found[1].partition.as_deref(), found[1].limits.job["gres/gpu"]), (Some("fenced"), 8));
        assert_eq!(found[1].limits.time.map(WallTime::seconds), Some(3600));
        assert_eq!(associations("").1, Some(vec![]), "a user of whom nobody knows");
        let found = qualities("normal||01:00:00|node=3||||\nshort|DenyOnLimit,OverPartQOS|00:10:00||node=2|node=4||\nbad line\n");
        assert_eq!((found.len(), found[0].limits.job["node"], found[1].limits.user["node"]), (2, 3, 4));
        assert!(found[1].has("OverPartQOS") && found[1].limits.least["node"] == 2);
    }

    #[test]
    fn what_is_enforced_follows_the_configuration() {
        let of = |words: &str| enforced(&format!("ClusterName = test\nAccountingStorageEnforce = {words}\n"));
        assert_eq!(of("none"), Enforced::default());
        assert_eq!(of("associations"), Enforced { associations: true, ..Enforced::default() });
        assert_eq!(of("associations,limits,qos,safe"), Enforced { associations: true, limits: true, qos: true });
        assert_eq!(of("qos"), Enforced { associations: true, limits: false, qos: true });
    }
}
