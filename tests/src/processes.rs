//! The processes of a run's ranks, to be killed or stopped.

use std::fs;
use std::path::Path;

/// Process id of the `sirocco-train` that is rank `rank` of the run in `directory`; none while it has not started, or when it is gone.
pub fn rank_process(directory: &Path, rank: usize) -> Option<String> {
    // As Open MPI and the MPICH family tell it to their processes.
    let wanted = [format!("OMPI_COMM_WORLD_RANK={rank}\0"), format!("PMI_RANK={rank}\0")];
    let processes = fs::read_dir("/proc").ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut processes = processes.filter(|id| id.bytes().all(|byte| byte.is_ascii_digit()));
    processes.find(|id| {
        let read = |file: &str| fs::read(format!("/proc/{id}/{file}")).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let (Ok(arguments), Ok(environment)) = (read("cmdline"), read("environ")) else { return false };
        let program = arguments.split('\0').next().unwrap_or_default();
        program.ends_with("sirocco-train")
            && arguments.contains(&*directory.to_string_lossy())
            && wanted.iter().any(|word| environment.contains(word))
    })
}
