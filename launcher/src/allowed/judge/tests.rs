//! What Slurm refuses, and what it takes and never starts, of the rules of one cluster.
use sirocco_config::WallTime;

use super::*;
use crate::allowed::read;
use crate::allowed::rules::Enforced;

/// As the commands say them: two accounts, three QOS, four partitions.
fn rules() -> Rules {
    let partitions = "\
PartitionName=main AllowAccounts=ALL AllowQos=ALL Default=YES QoS=N/A MaxNodes=UNLIMITED MaxTime=UNLIMITED MinNodes=0 State=UP TotalNodes=4
PartitionName=fenced AllowAccounts=reef AllowQos=short Default=NO QoS=N/A MaxNodes=1 MaxTime=00:20:00 MinNodes=0 State=UP TotalNodes=4
PartitionName=capped AllowAccounts=ALL AllowQos=ALL Default=NO QoS=wide MaxNodes=UNLIMITED MaxTime=01:00:00 MinNodes=2 State=UP TotalNodes=8
PartitionName=shut AllowAccounts=ALL AllowQos=ALL Default=NO QoS=N/A MaxNodes=UNLIMITED MaxTime=UNLIMITED MinNodes=0 State=DRAIN TotalNodes=4
";
    let (default_account, associations) =
        read::associations("dune|dune||normal,short|normal|||\ndune|reef|fenced|short|short||gres/gpu=4|\n");
    let qualities =
        "normal||01:00:00|node=3||||\nshort||00:10:00|||node=2||\nwide|PartitionTimeLimit|02:00:00|node=6||||cpu=64\n";
    Rules {
        user: "ada".to_owned(),
        enforced: Enforced { associations: true, limits: true, qos: true },
        partitions: Some(read::partitions(partitions)),
        associations,
        default_account,
        qualities: Some(read::qualities(qualities)),
        notes: vec![],
    }
}

/// A job by words such as `account=dune nodes=2`.
fn job(words: &str) -> Asked {
    let mut asked = Asked { nodes: 1, ranks: 1, ..Asked::default() };
    for (key, value) in words.split_whitespace().map(|word| word.split_once('=').unwrap()) {
        let number = || value.parse().unwrap();
        match key {
            "account" => asked.account = Some(value.to_owned()),
            "partition" => asked.partition = Some(value.to_owned()),
            "qos" => asked.qos = Some(value.to_owned()),
            "time" => asked.time = WallTime::parse(value),
            "nodes" => asked.nodes = number(),
            "gpus" => asked.gpus = number(),
            "ranks" => asked.ranks = number(),
            other => panic!("{other}"),
        }
    }
    asked
}

fn found(words: &str) -> Vec<String> {
    judge(&job(words), &rules()).problems.into_iter().map(|problem| format!("{}: {}", problem.setting, problem.message)).collect()
}

#[test]
fn what_is_allowed_is_named() {
    let judged = judge(&job("time=30 nodes=3"), &rules());
    assert_eq!(judged.problems, []);
    assert_eq!(judged.allowed.words().unwrap(), "account dune, partition main, QOS normal");
    assert_eq!(found("account=reef partition=fenced time=10 gpus=4"), Vec::<String>::new());
}

#[test]
fn who_may_not_is_told_who_may() {
    for (words, expected) in [
        (
            "account=cliff",
            "site.account: [site] account = \"cliff\": Slurm does not let user ada use it: expected one of dune, reef",
        ),
        (
            "partition=gpux",
            "site.partition: [site] partition = \"gpux\": Slurm knows no partition of that name: expected one of main, fenced, capped, shut",
        ),
        ("partition=shut", "site.partition: [site] partition = \"shut\": it is in the state DRAIN and takes no jobs"),
        ("account=reef", "site.partition: [site] account = \"reef\": user ada may use it in partition fenced only"),
        ("qos=wide", "site.qos: [site] qos = \"wide\": account dune may not use it: expected one of normal, short"),
    ] {
        assert_eq!(found(words), [expected], "{words}");
    }
    let several = found("partition=fenced time=30");
    assert_eq!(several.len(), 2, "QOS and time: {several:?}");
}

#[test]
fn what_would_wait_for_ever_is_told_with_the_limit() {
    for (words, expected) in [
        ("time=61", "site.time: [site] time = 01:01:00: QOS normal gives a job 01:00:00 at most (MaxWall)"),
        (
            "time=11 qos=short",
            "site.time: [site] time = 00:11:00: QOS short gives a job 00:10:00 at most (MaxWall); QOS normal would do",
        ),
        ("nodes=4", "site.nodes: [site] nodes = 4: QOS normal gives a job 3 at most (MaxTRES node)"),
        (
            "nodes=3 qos=short",
            "site.nodes: [site] nodes = 3: QOS short gives a user 2 at most (MaxTRESPerUser node); QOS normal would do",
        ),
        (
            "account=reef partition=fenced gpus=8",
            "site.nodes: the job asks for 8 GPUs: account reef gives a job 4 at most (MaxTRES gres/gpu)",
        ),
        ("account=reef partition=fenced nodes=2", "site.nodes: [site] nodes = 2: partition fenced gives a job 1 node at most"),
        ("partition=capped", "site.nodes: [site] nodes = 1: partition capped gives a job 2 nodes at least"),
        (
            "partition=capped nodes=2 ranks=65",
            "parallel.dp: the job has 65 ranks, each with one CPU at least: QOS wide of the partition gives all jobs together 64 at most (GrpTRES cpu)",
        ),
    ] {
        assert_eq!(found(words), [expected], "{words}");
    }
    let many = found("nodes=5");
    assert_eq!(many[0], "site.nodes: [site] nodes = 5: partition main has 4 nodes");
}

#[test]
fn the_partitions_qos_counts_before_the_jobs_unless_that_says_otherwise() {
    assert_eq!(found("partition=capped nodes=6 time=60"), Vec::<String>::new(), "six nodes of wide, not three of normal");
    let mut over = rules();
    over.qualities = Some(read::qualities("normal|OverPartQOS|01:00:00|node=3||||\nwide||02:00:00|node=6||||\n"));
    let problems = judge(&job("partition=capped nodes=6"), &over).problems;
    assert!(problems[0].message.contains("QOS normal gives a job 3 at most"), "{problems:?}");
    over.qualities = Some(read::qualities("normal|PartitionTimeLimit,PartitionMinNodes|02:00:00|||||\n"));
    assert_eq!(judge(&job("partition=capped time=90"), &over).problems, [], "flags that set limits of the partition aside");
}

#[test]
fn nobody_is_held_to_what_is_not_enforced_or_not_known() {
    let lax = Rules { enforced: Enforced::default(), ..rules() };
    assert_eq!(judge(&job("account=cliff qos=short nodes=4 time=600"), &lax).problems, []);
    let unknown =
        Rules { enforced: rules().enforced, notes: vec!["sacctmgr did not answer in time".to_owned()], ..Rules::default() };
    let judged = judge(&job("account=cliff qos=x nodes=99 time=600"), &unknown);
    assert_eq!((judged.problems.len(), judged.allowed.notes.len()), (0, 1));
    let nobody = Rules { associations: Some(vec![]), default_account: None, ..rules() };
    let problems = judge(&job("account=dune"), &nobody).problems;
    assert!(problems[0].message.ends_with("Slurm lets user ada use no account on this cluster"), "{problems:?}");
}

#[test]
fn what_only_sbatch_knows_is_a_note() {
    for (words, note) in [
        (
            "partition=fenced qos=short",
            "[site] account: Slurm takes dune, as none is named: partition fenced is for reef, and accounts below",
        ),
        ("partition=main,fenced", "[site] partition = \"main,fenced\": which of them takes the job was not checked"),
        ("qos=normal,short", "[site] qos = \"normal,short\": which of them takes the job was not checked"),
    ] {
        let judged = judge(&job(words), &rules());
        assert_eq!(judged.problems, [], "{words}");
        assert!(judged.allowed.notes.iter().any(|one| one.starts_with(note)), "{words}: {:?}", judged.allowed.notes);
    }
}

#[test]
fn a_default_partition_may_be_shut_too() {
    let mut shut = rules();
    shut.partitions.iter_mut().flatten().filter(|one| one.is_default).for_each(|one| one.state = "DRAIN".to_owned());
    let problems = judge(&job(""), &shut).problems;
    let expected = "[site] partition: Slurm takes main, as none is named: it is in the state DRAIN and takes no jobs";
    assert_eq!(problems.iter().map(|problem| problem.message.as_str()).collect::<Vec<_>>(), [expected]);
}

#[test]
fn gpus_that_a_site_asks_for_by_itself_are_not_counted_as_none() {
    let mut least = rules();
    for quality in least.qualities.iter_mut().flatten() {
        quality.limits.least.insert("gres/gpu".to_owned(), 2);
    }
    assert_eq!(judge(&job(""), &least).problems, []);
    assert_eq!(judge(&job("gpus=1"), &least).problems.len(), 1);
}
