//! The processes of a run's ranks, to be killed or stopped.

use std::fs;
use std::path::Path;

/// What tells a process its rank: Open MPI's mpirun, the MPICH family's, Slurm. The first that is there counts: ranks of an mpirun may
/// have inherited Slurm's.
const RANK: [&str; 3] = ["OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_PROCID"];

/// Process id of the `sirocco-train` that is rank `rank` of the run in `directory`; none while it has not started, or when it is gone.
pub fn rank_process(directory: &Path, rank: usize) -> Option<String> {
    let processes = fs::read_dir("/proc").ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut processes = processes.filter(|id| id.bytes().all(|byte| byte.is_ascii_digit()));
    processes.find(|id| {
        let read = |file: &str| fs::read(format!("/proc/{id}/{file}")).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let (Ok(arguments), Ok(environment)) = (read("cmdline"), read("environ")) else { return false };
        let program = arguments.split('\0').next().unwrap_or_default();
        let variable = |name: &str| environment.split('\0').find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        program.ends_with("sirocco-train")
            && arguments.contains(&*directory.to_string_lossy())
            && RANK.iter().find_map(|name| variable(name)) == Some(rank.to_string().as_str())
    })
}
