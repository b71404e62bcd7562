//! Whether Slurm's rules take a job, decided without asking anybody: a pure function of what the job asks and what Slurm said.
//!
//! Which limit counts where several name one: that of the partition's QOS, else of the job's, else of the association; the job's QOS before the
//! partition's if its flag OverPartQOS says so; those of the partition itself always, unless a flag of the QOS sets them aside
//! (<https://slurm.schedmd.com/resource_limits.html>, "Hierarchy"; flags: sacctmgr(1)).
use sirocco_config::WallTime;

use super::rules::{Association, Limits, Partition, Quality, Resources, Rules};
use super::{Allowed, Asked};
use crate::output::count;

/// What stands against a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    /// To change.
    pub(crate) setting: &'static str,
    /// What was found and what is allowed.
    pub(crate) message: String,
    pub(crate) help: String,
}

/// Both at once: what is allowed is told only where nothing stands against the job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Judged {
    pub(crate) problems: Vec<Problem>,
    pub(crate) allowed: Allowed,
}

pub(crate) fn judge(asked: &Asked, rules: &Rules) -> Judged {
    let mut judged = Judged { allowed: Allowed { notes: rules.notes.clone(), ..Allowed::default() }, ..Judged::default() };
    let partition = judged.partition(asked, rules);
    let association = judged.account(asked, rules, partition);
    let quality = judged.quality(asked, rules, partition, association);
    if let Some(partition) = partition {
        judged.within_partition(asked, partition, quality);
    }
    if rules.enforced.limits {
        let of_partition = partition.and_then(|one| find(rules.qualities.as_deref(), one.qos.as_deref()?));
        judged.within_limits(asked, rules, &Chain { of_partition, quality, association });
    }
    judged
}

/// Where limits are looked for.
struct Chain<'a> {
    of_partition: Option<&'a Quality>,
    quality: Option<&'a Quality>,
    association: Option<&'a Association>,
}

impl Judged {
    fn against(&mut self, setting: &'static str, message: String, help: impl Into<String>) {
        self.problems.push(Problem { setting, message, help: help.into() });
    }

    fn partition<'a>(&mut self, asked: &Asked, rules: &'a Rules) -> Option<&'a Partition> {
        let all = rules.partitions.as_deref()?;
        let names = || all.iter().map(|one| one.name.as_str()).collect::<Vec<_>>().join(", ");
        let Some(name) = &asked.partition else {
            let default = all.iter().find(|one| one.is_default);
            let Some(default) = default else {
                let message = format!(
                    "[site] partition: Slurm has no partition that jobs go to by themselves: expected one of {}",
                    names()
                );
                self.against("site.partition", message, "set site.partition");
                return None;
            };
            return self.state_of(all, &default.name, false);
        };
        if name.contains(',') {
            self.allowed.notes.push(format!("[site] partition = {name:?}: which of them takes the job was not checked"));
            return None;
        }
        self.state_of(all, name, true)
    }

    /// The partition of that name, and whether it takes jobs now.
    fn state_of<'a>(&mut self, all: &'a [Partition], name: &str, is_typed: bool) -> Option<&'a Partition> {
        let names = || all.iter().map(|one| one.name.as_str()).collect::<Vec<_>>().join(", ");
        let found = all.iter().find(|one| one.name == *name);
        let found_at = named("partition", is_typed, name);
        match found {
            None => {
                let message = format!("{found_at}: Slurm knows no partition of that name: expected one of {}", names());
                self.against("site.partition", message, "set site.partition; sinfo --summarize shows what each has");
            }
            Some(one) if ["DRAIN", "INACTIVE"].contains(&one.state.as_str()) => {
                let message = format!("{found_at}: it is in the state {} and takes no jobs", one.state);
                self.against("site.partition", message, "wait until it is UP, or set site.partition");
            }
            Some(one) if one.state != "UP" => {
                self.allowed.notes.push(format!("partition {name} is {}: jobs wait until it is UP", one.state));
            }
            Some(_) => {}
        }
        self.allowed.partition = Some(name.to_owned());
        found
    }

    /// The association by which the job would run, and whether the partition takes the account.
    fn account<'a>(&mut self, asked: &Asked, rules: &'a Rules, partition: Option<&Partition>) -> Option<&'a Association> {
        let name = asked.account.as_ref().or(rules.default_account.as_ref());
        self.allowed.account = name.cloned();
        let taken = |name: &String| partition.is_none_or(|one| one.accounts.has(name));
        if let (Some(name), Some(partition)) = (name.filter(|name| !taken(name)), partition) {
            let (who, list) = (&partition.name, partition.accounts.words());
            let found_at = named("account", asked.account.is_some(), name);
            // Newer versions of Slurm take accounts below those in the list, too; sbatch says what this one does.
            self.allowed
                .notes
                .push(format!("{found_at}: partition {who} is for {list}, and accounts below: sbatch refuses others"));
        }
        let all = rules.associations.as_deref().filter(|_| rules.enforced.associations)?;
        let user = &rules.user;
        let list = names(all.iter().filter(|one| taken(&one.account)).map(|one| one.account.as_str()));
        if all.is_empty() {
            let message = format!("[site] account: Slurm lets user {user} use no account on this cluster");
            self.against("site.account", message, "whoever administers the project has to add the user");
            return None;
        }
        let Some(name) = name else {
            let message = format!("[site] account: Slurm has no default account for user {user}: expected one of {list}");
            self.against("site.account", message, "set site.account");
            return None;
        };
        let of_account: Vec<_> = all.iter().filter(|one| one.account.eq_ignore_ascii_case(name)).collect();
        let within = |one: &&&Association| one.partition.as_ref() == partition.map(|partition| &partition.name);
        let found = of_account.iter().find(within).or_else(|| of_account.iter().find(|one| one.partition.is_none()));
        let found_at = named("account", asked.account.is_some(), name);
        if of_account.is_empty() {
            let message = format!("{found_at}: Slurm does not let user {user} use it: expected one of {list}");
            self.against("site.account", message, "set site.account");
        } else if found.is_none() && partition.is_some() {
            let partitions = names(of_account.iter().filter_map(|one| one.partition.as_deref()));
            let message = format!("{found_at}: user {user} may use it in partition {partitions} only");
            self.against("site.partition", message, "set site.partition or site.account");
        }
        found.copied()
    }

    /// The QOS that the job would have.
    fn quality<'a>(
        &mut self,
        asked: &Asked,
        rules: &'a Rules,
        partition: Option<&Partition>,
        association: Option<&'a Association>,
    ) -> Option<&'a Quality> {
        let by_itself = || {
            let one = association?;
            let only = one.qos.first().filter(|_| one.qos.len() == 1);
            one.default_qos.as_ref().or(only).or_else(|| one.qos.iter().find(|name| *name == "normal"))
        };
        let name = asked.qos.as_ref().or_else(by_itself)?;
        self.allowed.qos = Some(name.clone());
        if name.contains(',') {
            self.allowed.notes.push(format!("[site] qos = {name:?}: which of them takes the job was not checked"));
            return None;
        }
        let found_at = named("qos", asked.qos.is_some(), name);
        if let Some(one) = partition.filter(|one| !one.qualities.has(name)) {
            let message = format!("{found_at}: partition {} takes no jobs of it: expected {}", one.name, one.qualities.words());
            self.against("site.qos", message, "set site.qos or site.partition");
        }
        let known = rules.qualities.as_deref();
        let found = find(known, name);
        let usable = association.filter(|_| rules.enforced.qos);
        if let Some(one) = usable.filter(|one| !one.qos.iter().any(|other| other.eq_ignore_ascii_case(name))) {
            let (account, list) = (&one.account, one.qos.join(", "));
            let message = format!("{found_at}: account {account} may not use it: expected one of {list}");
            self.against("site.qos", message, "set site.qos or site.account");
        } else if let (None, Some(all)) = (found, known.filter(|_| rules.enforced.qos)) {
            let list = names(all.iter().map(|one| one.name.as_str()));
            self.against(
                "site.qos",
                format!("{found_at}: Slurm knows no QOS of that name: expected one of {list}"),
                "set site.qos",
            );
        }
        found
    }

    /// What the partition itself allows.
    fn within_partition(&mut self, asked: &Asked, partition: &Partition, quality: Option<&Quality>) {
        let (name, sets_aside) = (&partition.name, |flag| quality.is_some_and(|one| one.has(flag)));
        let most = partition.most_nodes.filter(|_| !sets_aside("PartitionMaxNodes"));
        let (most, there) = (most.filter(|most| asked.nodes > *most), partition.nodes.filter(|there| asked.nodes > *there));
        let fewer = "ask for fewer nodes: parallel.dp divides the ranks among them";
        if let Some(there) = there {
            self.against("site.nodes", format!("{}: partition {name} has {}", nodes(asked), count(there, "node")), fewer);
        } else if let Some(most) = most {
            self.against(
                "site.nodes",
                format!("{}: partition {name} gives a job {} at most", nodes(asked), count(most, "node")),
                fewer,
            );
        }
        let least = partition.least_nodes.filter(|least| asked.nodes < *least && !sets_aside("PartitionMinNodes"));
        if let Some(least) = least {
            let message = format!("{}: partition {name} gives a job {} at least", nodes(asked), count(least, "node"));
            self.against("site.nodes", message, "set site.nodes or site.partition");
        }
        let longest = partition.max_time.filter(|_| !sets_aside("PartitionTimeLimit"));
        if let (Some(time), Some(longest)) = (asked.time, longest)
            && time > longest
        {
            self.against(
                "site.time",
                format!("[site] time = {time}: partition {name} gives a job {longest} at most"),
                shorter(&longest),
            );
        }
    }

    /// What QOS and association allow. A job beyond one of these waits for ever.
    fn within_limits<'a>(&mut self, asked: &Asked, rules: &'a Rules, chain: &Chain<'a>) {
        if let Some((time, longest, who)) = chain.too_long(asked) {
            let others = chain.fitting(rules, |other| other.too_long(asked).is_none());
            let message = format!("[site] time = {time}: {who} gives a job {longest} at most (MaxWall){others}");
            self.against("site.time", message, shorter(&longest));
        }
        for (resource, number, setting) in asked.resources() {
            if let Some(limit) = chain.too_much(resource, number) {
                let others = chain.fitting(rules, |other| other.too_much(resource, number).is_none());
                self.against(
                    setting,
                    format!("{}: {limit}{others}", asked.words(resource, number)),
                    "ask for less, or set site.qos",
                );
            }
            if let Some((who, least)) = chain.too_little(resource, number) {
                let message =
                    format!("{}: {who} gives a job {least} at least (MinTRES {resource})", asked.words(resource, number));
                self.against(setting, message, "ask for more, or set site.qos");
            }
        }
    }
}

/// Limits of what a job takes, for whom each is, and sacctmgr's name of it.
type Kind = (fn(&Limits) -> &Resources, &'static str, &'static str);
const KINDS: [Kind; 4] = [
    (|limits| &limits.job, "a job", "MaxTRES"),
    (|limits| &limits.user, "a user", "MaxTRESPerUser"),
    (|limits| &limits.account, "an account", "MaxTRESPerAccount"),
    (|limits| &limits.all, "all jobs together", "GrpTRES"),
];

impl<'a> Chain<'a> {
    /// Who gives limits, in the order in which they count.
    fn sources(&self) -> Vec<(String, &'a Limits)> {
        let of = |one: &'a Quality, words: &str| (format!("QOS {}{words}", one.name), &one.limits);
        let mut qualities: Vec<_> = self
            .of_partition
            .map(|one| of(one, " of the partition"))
            .into_iter()
            .chain(self.quality.map(|one| of(one, "")))
            .collect();
        if self.quality.is_some_and(|one| one.has("OverPartQOS")) {
            qualities.reverse();
        }
        let association = self.association.map(|one| (format!("account {}", one.account), &one.limits));
        qualities.into_iter().chain(association).collect()
    }

    /// The first who has a limit of some kind.
    fn first<T>(&self, limit: impl Fn(&'a Limits) -> Option<T>) -> Option<(String, T)> {
        self.sources().into_iter().find_map(|(who, limits)| Some((who, limit(limits)?)))
    }

    /// The time that was asked for, the longest there is, and who says so.
    fn too_long(&self, asked: &Asked) -> Option<(WallTime, WallTime, String)> {
        let (time, (who, longest)) = (asked.time?, self.first(|limits| limits.time)?);
        (time > longest).then_some((time, longest, who))
    }

    /// The first limit that is broken, in words.
    fn too_much(&self, resource: &str, number: u64) -> Option<String> {
        KINDS.into_iter().find_map(|(kind, whose, key)| {
            let (who, most) = self.first(|limits| kind(limits).get(resource).copied())?;
            (number > most).then(|| format!("{who} gives {whose} {most} at most ({key} {resource})"))
        })
    }

    /// Who wants more of a job, and how much. How many CPUs it will have is not known, nor GPUs of a run that computes on none: a site may ask
    /// for them by options of its own.
    fn too_little(&self, resource: &str, number: u64) -> Option<(String, u64)> {
        let is_known = resource == "node" || resource == "gres/gpu" && number > 0;
        self.first(|limits| limits.least.get(resource).copied()).filter(|(_, least)| is_known && number < *least)
    }

    /// Words that name the QOS which the account may use and with which it would do.
    fn fitting(&self, rules: &'a Rules, fits: impl Fn(&Chain<'a>) -> bool) -> String {
        let usable = |one: &&Quality| self.association.is_none_or(|association| association.qos.contains(&one.name));
        let instead = |one: &&'a Quality| fits(&Chain { quality: Some(one), ..*self });
        let list = names(rules.qualities.iter().flatten().filter(usable).filter(instead).map(|one| one.name.as_str()));
        if list.is_empty() { String::new() } else { format!("; QOS {list} would do") }
    }
}

impl Asked {
    /// What is counted of a job, and the setting that it follows from.
    fn resources(&self) -> [(&'static str, u64, &'static str); 3] {
        [("node", self.nodes, "site.nodes"), ("gres/gpu", self.gpus, "site.nodes"), ("cpu", self.ranks, "parallel.dp")]
    }

    fn words(&self, resource: &str, number: u64) -> String {
        match resource {
            "node" => nodes(self),
            "gres/gpu" => format!("the job asks for {}", count(number, "GPU")),
            _ => format!("the job has {}, each with one CPU at least", count(number, "rank")),
        }
    }
}

fn nodes(asked: &Asked) -> String {
    if asked.spare_nodes == 0 {
        return format!("[site] nodes = {}", asked.nodes);
    }
    format!("[site] nodes and spare_nodes = {}", asked.nodes)
}

fn shorter(longest: &WallTime) -> String {
    format!("set site.time={longest} or less: a longer run becomes a chain of jobs by itself")
}

/// `[site] KEY = "NAME"`, or that Slurm puts it there.
fn named(key: &str, is_typed: bool, name: &str) -> String {
    if is_typed { format!("[site] {key} = {name:?}") } else { format!("[site] {key}: Slurm takes {name}, as none is named") }
}

fn find<'a>(all: Option<&'a [Quality]>, name: &str) -> Option<&'a Quality> {
    all?.iter().find(|one| one.name.eq_ignore_ascii_case(name))
}

/// Each name once, in the order in which they come.
fn names<'a>(all: impl Iterator<Item = &'a str>) -> String {
    let mut list: Vec<&str> = Vec::new();
    for name in all {
        if !list.contains(&name) {
            list.push(name);
        }
    }
    list.join(", ")
}

#[cfg(test)]
mod tests;
