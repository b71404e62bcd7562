//! What of the environment of a login shell goes into a job: not what belongs to another job, and nothing that leads out of the site unless
//! the run file names it.
use std::process::Command;

/// What Slurm sets in jobs, and what would change how sbatch reads a script.
const OF_SLURM: [&str; 4] = ["SLURM_", "SBATCH_", "SLURMD_", "PMIX_"];

/// Endings of names whose values open doors of services elsewhere.
const KEYS: [&str; 8] =
    ["_API_KEY", "_API_TOKEN", "_ACCESS_TOKEN", "_ACCESS_KEY", "_ACCESS_KEY_ID", "_SECRET_KEY", "_AUTH_TOKEN", "_CREDENTIALS"];

/// Others that do, and have such names.
const NAMED: [&str; 8] = [
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "GITHUB_TOKEN",
    "GH_TOKEN",
    "GITLAB_TOKEN",
    "WANDB_ENTITY",
    "SENTRY_DSN",
    "AWS_SESSION_TOKEN",
];

/// Variables that are set here and lead out of the site, but for those that `kept` names.
pub(crate) fn leading_out(kept: &[String]) -> Vec<String> {
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let mut found: Vec<String> = names.filter(|name| leads_out(name) && !kept.contains(name)).collect();
    found.sort();
    found
}

/// Keeps what must not go into a job from a command that makes one.
pub(crate) fn keep_out_of_jobs(command: &mut Command, leading_out: &[String]) {
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| is_of_slurm(name) || leading_out.iter().any(|out| out == name)) {
            command.env_remove(name);
        }
    }
}

/// `SLURM_CONF` says where Slurm is, and belongs to no job.
fn is_of_slurm(name: &str) -> bool {
    OF_SLURM.iter().any(|start| name.starts_with(start)) && name != "SLURM_CONF"
}

fn leads_out(name: &str) -> bool {
    let upper = name.to_uppercase();
    let proxy = upper.ends_with("_PROXY") && upper != "NO_PROXY";
    proxy || KEYS.iter().any(|end| upper.ends_with(end)) || NAMED.contains(&upper.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leads_out_is_known_by_its_name() {
        for out in
            ["https_proxy", "ALL_PROXY", "OPENAI_API_KEY", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "GOOGLE_APPLICATION_CREDENTIALS"]
        {
            assert!(leads_out(out), "{out}");
        }
        for inside in ["no_proxy", "PATH", "LD_LIBRARY_PATH", "OMP_NUM_THREADS", "KEYBOARD", "SLURM_CONF"] {
            assert!(!leads_out(inside), "{inside}");
        }
        assert!(is_of_slurm("SLURM_JOB_ID") && is_of_slurm("SBATCH_PARTITION") && !is_of_slurm("SLURM_CONF"));
    }
}
