//! Jobs of Slurm: how far their ranks have to be confined, how far that is possible, and by which means.

use sirocco_config::Run;
use sirocco_confine::Level;
use sirocco_policy::{Action, Confinement, Kind as Of};

use super::need::{allowing, of_run};
use super::{ADVICE, in_policy};
use crate::failure::{Failure, Kind};
use crate::gate::RunPolicy;

/// How the ranks of a job are confined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Means {
    /// Nothing is needed above level 0.
    Nothing,
    /// Each rank confines itself and goes on speaking with the others by TCP, as MPI does between nodes: level 1.
    Each,
    /// One process confines itself, and starts the ranks inside: the job has one node, and everything is as on one machine.
    Together,
}

/// The highest level that the ranks of such a job can have. What their nodes lack is found there.
pub(crate) fn highest(run: &Run) -> Level {
    // MPI connects by itself, and only what stays on one node can have a network of its own.
    if run.site.nodes == 1 { Level::Landlock } else { Level::Seccomp }
}

/// The same as policies have it.
pub(crate) fn highest_in_policy(run: &Run) -> Option<Confinement> {
    in_policy(highest(run))
}

/// How the ranks have to be confined.
///
/// # Errors
/// When the policy or the run file needs more than such a job can have.
pub(crate) fn means(run: &Run, action: Action) -> Result<Means, Failure> {
    let (wanted, highest) = (Level::of_number(run.policy.confinement).unwrap_or(Level::Site), highest(run));
    if wanted > highest {
        return Err(beyond(run, format_args!("[policy] confinement = {} is demanded", run.policy.confinement)));
    }
    let policy = RunPolicy::open(run)?;
    Ok(match allowing(policy.custody(), &[of_run(policy.custody(), run, (Of::Checkpoint, action))]) {
        Some(level) if level > highest => {
            return Err(beyond(run, format_args!("the policy allows this run from level {level} on")));
        }
        Some(level) => by(run, wanted.max(level)),
        // Refused at every level, as far as names tell: who asks with what is known of the bytes does so at the highest there is.
        None => by(run, highest),
    })
}

/// What a level needs. Ranks of one node that need no network of their own are started by what starts them elsewhere.
fn by(run: &Run, level: Level) -> Means {
    match level {
        Level::Environment => Means::Nothing,
        _ if run.site.nodes > 1 => Means::Each,
        Level::Seccomp if run.ranks() > 1 => Means::Each,
        _ => Means::Together,
    }
}

fn beyond(run: &Run, demanded: std::fmt::Arguments<'_>) -> Failure {
    let (nodes, highest) = (run.site.nodes, highest(run));
    let of = if nodes == 1 { "one node".to_owned() } else { format!("{nodes} nodes") };
    let message = format!("{demanded}, and level {highest} is the highest that is possible in a job of {of}");
    let help = if nodes == 1 { "" } else { "site.nodes=1 makes level 3 possible, where its kernel has it; " };
    Failure::new(Kind::Machine, message).help(format_args!("{help}{ADVICE}"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use sirocco_config::RunFile;

    use super::*;

    fn run(more: &str) -> Run {
        let text = format!("name = 'x'\nmodel.path = '/m'\ndata.train = ['/d']\ntrain.steps = 1\nsite.profile = 'slurm'\n{more}");
        RunFile::parse(&text, Path::new("run.toml")).unwrap().check(Path::new("/base")).unwrap()
    }

    #[test]
    fn several_nodes_reach_level_1_and_one_node_what_a_machine_does() {
        let many = run("site.nodes = 2\nparallel.dp = 2");
        assert_eq!((highest(&many), by(&many, Level::Seccomp)), (Level::Seccomp, Means::Each));
        let one = run("parallel.dp = 2");
        assert_eq!((by(&one, Level::Seccomp), by(&one, Level::NetworkNamespace)), (Means::Each, Means::Together));
        assert_eq!(by(&run(""), Level::Seccomp), Means::Together, "a rank that is alone needs nobody");
        assert_eq!(by(&many, Level::Environment), Means::Nothing);
    }

    #[test]
    fn what_is_demanded_beyond_that_is_refused_with_what_is_possible() {
        let of = |more: &str| means(&run(more), Action::Train);
        assert_eq!(of("").unwrap(), Means::Nothing);
        assert_eq!(of("policy.confinement = 1\nsite.nodes = 2\nparallel.dp = 2").unwrap(), Means::Each);
        assert_eq!(of("policy.confinement = 2").unwrap(), Means::Together);
        let refused = of("policy.confinement = 2\nsite.nodes = 2\nparallel.dp = 2").unwrap_err();
        assert_eq!(refused.kind, Kind::Machine);
        let words =
            "[policy] confinement = 2 is demanded, and level 1 (seccomp) is the highest that is possible in a job of 2 nodes";
        assert_eq!(refused.message, words);
        assert!(of("policy.confinement = 4").is_err());
    }
}
