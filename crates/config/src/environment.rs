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

/// Where `sirocco check` puts token caches that it makes only to see whether they can be made; a node's is tested.
pub const TMPDIR: Variable = Variable {
    name: "TMPDIR",
    read_by: "sirocco, sirocco-train",
    meaning: "the directory for short-lived files; without it: /tmp",
};

/// Where mpirun is looked for.
pub const PATH: Variable =
    Variable { name: "PATH", read_by: "sirocco", meaning: "where mpirun is looked for; without it: no run of several ranks" };

/// Nodes of the job that Slurm has given to this shell, over which mpirun spreads its ranks.
pub const NODES: Variable = Variable {
    name: "SLURM_NNODES",
    read_by: "sirocco",
    meaning: "nodes over which mpirun spreads the ranks; without it: this one, and ranks are compared with its GPUs",
};

/// The job that this command runs in.
pub const JOB_ID: Variable = Variable {
    name: "SLURM_JOB_ID",
    read_by: "sirocco",
    meaning: "the job whose ranks sirocco job starts; without it: there is none, and sirocco job is refused",
};

/// Its nodes.
pub const JOB_NODES: Variable = Variable {
    name: "SLURM_JOB_NODELIST",
    read_by: "sirocco",
    meaning: "the nodes on which sirocco job starts ranks; without it: there is no job, and sirocco job is refused",
};

/// CPUs of the node that the job's script runs on.
pub const JOB_CPUS: Variable =
    Variable { name: "SLURM_CPUS_ON_NODE", read_by: "sirocco", meaning: "CPUs that the ranks of a node share; without it: 1" };

/// CPUs of each rank, if the job's script asked for them.
pub const JOB_CPUS_PER_TASK: Variable = Variable {
    name: "SLURM_CPUS_PER_TASK",
    read_by: "sirocco",
    meaning: "threads of each rank that sirocco job starts; without it: the CPUs of the node by its ranks",
};

/// When the job ends.
pub const JOB_END: Variable = Variable {
    name: "SLURM_JOB_END_TIME",
    read_by: "sirocco",
    meaning: "the end of the job in seconds since 1970, should Slurm not answer; without it: no end is known then",
};

/// The array that the job is a task of.
pub const ARRAY_JOB: Variable = Variable {
    name: "SLURM_ARRAY_JOB_ID",
    read_by: "sirocco",
    meaning: "with SLURM_ARRAY_TASK_ID the name of a job of a sweep; without it: SLURM_JOB_ID is its name",
};

/// Which of its tasks.
pub const ARRAY_TASK: Variable = Variable {
    name: "SLURM_ARRAY_TASK_ID",
    read_by: "sirocco",
    meaning: "with SLURM_ARRAY_JOB_ID the name of a job of a sweep; without it: SLURM_JOB_ID is its name",
};

/// How often Slurm has started the job again.
pub const JOB_RESTARTS: Variable = Variable {
    name: "SLURM_RESTART_COUNT",
    read_by: "sirocco",
    meaning: "how often Slurm had started the job before, for its record; without it: never",
};

/// The compute node on which Slurm has started this command.
pub const NODE_NAME: Variable = Variable {
    name: "SLURMD_NODENAME",
    read_by: "sirocco, sirocco-train",
    meaning: "the compute node that sirocco site check looks at, and the name of a node that is tested; without it: this host is none, if \
              the site has Slurm, and is tested under its host name",
};

/// Where environment modules are looked for.
pub const MODULE_PATH: Variable = Variable {
    name: "MODULEPATH",
    read_by: "sirocco",
    meaning: "where sirocco site check looks for the modules of a site; without it: there are none to see",
};

/// What the terminal can do.
pub const TERMINAL: Variable =
    Variable { name: "TERM", read_by: "sirocco", meaning: "dumb: sirocco watch writes plain lines; without it: the same" };

/// Whether a terminal gets colours (no-color.org).
pub const NO_COLOUR: Variable = Variable {
    name: "NO_COLOR",
    read_by: "sirocco",
    meaning: "anything: sirocco watch draws without colours; without it: with them",
};

/// The image that a command runs in.
pub const CONTAINER: Variable = Variable {
    name: "SINGULARITY_CONTAINER",
    read_by: "sirocco",
    meaning: "the image that sirocco doctor runs in, set by Apptainer and SingularityCE; without it: it runs on the host itself",
};

/// The step of a job that srun made.
pub const STEP: Variable = Variable {
    name: "SLURM_STEP_ID",
    read_by: "sirocco",
    meaning: "the step of srun in which sirocco doctor looks for PMIx or PMI; without it: srun did not start it",
};

/// How a rank finds the others through PMIx.
pub const PMIX: Variable = Variable {
    name: "PMIX_NAMESPACE",
    read_by: "MPI",
    meaning: "set by what starts ranks with PMIx (srun --mpi=pmix, mpirun); without it: PMI, or a rank that is alone",
};

/// How a rank finds the others through PMI.
pub const PMI: Variable = Variable {
    name: "PMI_RANK",
    read_by: "MPI",
    meaning: "set by what starts ranks with PMI (srun --mpi=pmi2, mpirun of MPICH); without it: PMIx, or a rank that is alone",
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

/// Where the keys are that sign what runs publish (`sirocco/keys`).
pub const CONFIG_HOME: Variable = Variable {
    name: "XDG_CONFIG_HOME",
    read_by: "sirocco, sirocco-train, sirocco-serve",
    meaning: "where the keys are that sign, in sirocco/keys, unless [policy] keys says otherwise; without it: .config in HOME",
};

/// Where the ledger is of what an account does outside of any run (`sirocco/ledger`).
pub const STATE_HOME: Variable = Variable {
    name: "XDG_STATE_HOME",
    read_by: "sirocco, sirocco-train, sirocco-serve",
    meaning: "where the account's ledger is, in sirocco/ledger; without it: .local/state in HOME",
};

/// The directory in which the three above are where nothing else says.
pub const HOME: Variable = Variable {
    name: "HOME",
    read_by: "sirocco, sirocco-train, sirocco-serve",
    meaning: "its .cache, .config and .local/state stand in for the variables that begin with XDG_; without it: this machine counts as \
              not calibrated, and what signs or keeps the account's ledger is refused",
};

/// What `sirocco train` says to its ranks of their confinement.
pub const CONFINED: Variable = Variable {
    name: "SIROCCO_CONFINED",
    read_by: "sirocco-train",
    meaning: "the level that sirocco measured, the network outside, and the account: a rank compares the first two with what is in force for \
              it; without it: a rank counts as not confined",
};

/// Where programs look for libraries.
pub const LIBRARIES: Variable = Variable {
    name: "LD_LIBRARY_PATH",
    read_by: "sirocco",
    meaning: "directories that a run confined to named files may read, too; without it: those of the programs and of the system",
};

/// Every variable.
pub const ALL: &[Variable] = &[
    ARRAY_JOB,
    ARRAY_TASK,
    CACHE_HOME,
    CONFIG_HOME,
    CONFINED,
    CONTAINER,
    HOME,
    JOB_CPUS,
    JOB_CPUS_PER_TASK,
    JOB_END,
    JOB_ID,
    JOB_NODES,
    JOB_RESTARTS,
    LIBRARIES,
    LOG,
    MODULE_PATH,
    MPIRUN,
    NODES,
    NODE_NAME,
    NO_COLOUR,
    PATH,
    PMI,
    PMIX,
    PURGE_DELAY,
    SPIN_COUNT,
    STATE_HOME,
    STEP,
    TERMINAL,
    TMPDIR,
    WAIT_POLICY,
];

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
