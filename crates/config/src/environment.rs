//! Every environment variable that the programs read, in one place. Nothing else in the workspace names one.
//!
//! Settings of a run are never environment variables: a run directory must say all there is to know about its run.
//! (What the *build* reads, such as `LIBTORCH`, is documented in `scripts/setup.sh`.)

/// A variable, who reads it and what it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variable {
    /// The name, to be given to `std::env::var_os`.
    pub name: &'static str,
    /// The program that reads it.
    pub read_by: &'static str,
    /// What it changes, and what holds without it.
    pub meaning: &'static str,
}

/// The filter of the logs, in the syntax of `tracing-subscriber`.
pub const LOG: Variable = Variable {
    name: "SIROCCO_LOG",
    read_by: "sirocco-train, sirocco-serve",
    meaning: "what is logged, for example debug or sirocco_comm=trace; without it: info",
};

/// The `mpirun` that starts the ranks.
pub const MPIRUN: Variable = Variable {
    name: "SIROCCO_MPIRUN",
    read_by: "sirocco",
    meaning: "the mpirun that starts the ranks, name or path; without it: the mpirun found on PATH",
};

/// Where `sirocco check` puts token caches that it makes only to see whether they can be made.
pub const TMPDIR: Variable =
    Variable { name: "TMPDIR", read_by: "sirocco", meaning: "the directory for short-lived files; without it: /tmp" };

/// Where mpirun is looked for.
pub const PATH: Variable =
    Variable { name: "PATH", read_by: "sirocco", meaning: "where mpirun is looked for; without it: no run of several ranks" };

/// Nodes of the job that Slurm has given to this shell, over which mpirun spreads its ranks.
pub const NODES: Variable = Variable {
    name: "SLURM_NNODES",
    read_by: "sirocco",
    meaning: "nodes over which mpirun spreads the ranks; without it: this one, and ranks are compared with its GPUs",
};

/// The compute node on which Slurm has started this command.
pub const NODE_NAME: Variable = Variable {
    name: "SLURMD_NODENAME",
    read_by: "sirocco",
    meaning: "the compute node that sirocco site check looks at; without it: this host is none, if the site has Slurm",
};

/// Where environment modules are looked for.
pub const MODULE_PATH: Variable = Variable {
    name: "MODULEPATH",
    read_by: "sirocco",
    meaning: "where sirocco site check looks for the modules of a site; without it: there are none to see",
};

/// How long a waiting thread of GNU OpenMP, which libtorch computes with, turns in a circle before it sleeps.
pub const SPIN_COUNT: Variable = Variable {
    name: "GOMP_SPINCOUNT",
    read_by: "libtorch",
    meaning: "turns of a waiting OpenMP thread before it sleeps; without it: 1000, so that a shared core is given up soon",
};

/// OpenMP's own setting of the same; where it is given, it holds.
pub const WAIT_POLICY: Variable = Variable {
    name: "OMP_WAIT_POLICY",
    read_by: "libtorch",
    meaning: "active or passive waiting of OpenMP threads; without it: see GOMP_SPINCOUNT",
};

/// How long the allocator keeps freed memory.
pub const PURGE_DELAY: Variable = Variable {
    name: "MIMALLOC_PURGE_DELAY",
    read_by: "sirocco-train, sirocco-serve",
    meaning: "milliseconds that freed memory is kept before the system gets it back; without it: -1, for ever, because the next step \
              needs the same buffers again",
};

/// Where `make bench` leaves what it measured of this machine (`sirocco/calibration.json`).
pub const CACHE_HOME: Variable = Variable {
    name: "XDG_CACHE_HOME",
    read_by: "sirocco",
    meaning: "where sirocco plan looks for what make bench measured, in sirocco/calibration.json; without it: .cache in HOME",
};

/// The directory in which caches are where nothing else says.
pub const HOME: Variable = Variable {
    name: "HOME",
    read_by: "sirocco",
    meaning: "its .cache is looked at where XDG_CACHE_HOME is not set; without it: this machine counts as not calibrated",
};

/// Every variable.
pub const ALL: &[Variable] =
    &[CACHE_HOME, HOME, LOG, MODULE_PATH, MPIRUN, NODES, NODE_NAME, PATH, PURGE_DELAY, SPIN_COUNT, TMPDIR, WAIT_POLICY];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_variable_is_told_once_and_whole() {
        for (index, variable) in ALL.iter().enumerate() {
            assert!(!variable.read_by.is_empty() && variable.meaning.contains("without it: "), "{variable:?}");
            assert!(ALL[..index].iter().all(|other| other.name != variable.name), "{variable:?} is there twice");
        }
    }
}
