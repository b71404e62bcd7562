//! What Slurm says of who may run what. A limit that is `None` or not in a list is none.
use std::collections::BTreeMap;

use sirocco_config::WallTime;

/// Everything that was answered.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Rules {
    /// Who asks.
    pub(crate) user: String,
    /// What of the accounts Slurm holds jobs to.
    pub(crate) enforced: Enforced,
    pub(crate) partitions: Option<Vec<Partition>>,
    /// Of this user; `None` where nobody keeps accounts, or they could not be asked.
    pub(crate) associations: Option<Vec<Association>>,
    pub(crate) default_account: Option<String>,
    pub(crate) qualities: Option<Vec<Quality>>,
    /// Why something is not there that might be.
    pub(crate) notes: Vec<String>,
}

/// `AccountingStorageEnforce`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Enforced {
    pub(crate) associations: bool,
    pub(crate) limits: bool,
    pub(crate) qos: bool,
}

/// Who may use something: `ALL`, or those in a list but those in another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Access {
    /// `None` is everybody.
    pub(crate) allowed: Option<Vec<String>>,
    pub(crate) denied: Vec<String>,
}

/// A partition.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Partition {
    pub(crate) name: String,
    pub(crate) is_default: bool,
    /// `UP`, `DOWN`, `DRAIN`, `INACTIVE`.
    pub(crate) state: String,
    pub(crate) accounts: Access,
    pub(crate) qualities: Access,
    pub(crate) nodes: Option<u64>,
    pub(crate) least_nodes: Option<u64>,
    pub(crate) most_nodes: Option<u64>,
    pub(crate) max_time: Option<WallTime>,
    /// A QOS whose limits are the partition's.
    pub(crate) qos: Option<String>,
}

/// A user's share in an account, perhaps in one partition alone.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Association {
    pub(crate) account: String,
    pub(crate) partition: Option<String>,
    pub(crate) qos: Vec<String>,
    pub(crate) default_qos: Option<String>,
    pub(crate) limits: Limits,
}

/// A quality of service.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Quality {
    pub(crate) name: String,
    pub(crate) flags: Vec<String>,
    pub(crate) limits: Limits,
}

/// By the names that Slurm has for them: `node`, `cpu`, `gres/gpu`.
pub(crate) type Resources = BTreeMap<String, u64>;

/// The limits of a QOS or an association.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Limits {
    /// Of a job's time (MaxWall).
    pub(crate) time: Option<WallTime>,
    /// What a job takes at most (MaxTRES),
    pub(crate) job: Resources,
    /// and at least (MinTRES).
    pub(crate) least: Resources,
    /// What all jobs of a user take at a time (MaxTRESPerUser),
    pub(crate) user: Resources,
    /// all of an account (MaxTRESPerAccount),
    pub(crate) account: Resources,
    /// and all together (GrpTRES).
    pub(crate) all: Resources,
}

impl Access {
    /// Whether a name is among those who may. Slurm has such names in lower case.
    pub(crate) fn has(&self, name: &str) -> bool {
        let is_in = |list: &[String]| list.iter().any(|one| one.eq_ignore_ascii_case(name));
        // The second list counts only where there is no first, as Slurm has it.
        self.allowed.as_deref().map_or_else(|| !is_in(&self.denied), is_in)
    }

    /// `a, b`, or `all but c`.
    pub(crate) fn words(&self) -> String {
        match &self.allowed {
            Some(names) => names.join(", "),
            None => format!("all but {}", self.denied.join(", ")),
        }
    }
}

impl Quality {
    pub(crate) fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|one| one.eq_ignore_ascii_case(flag))
    }
}
