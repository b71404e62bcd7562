//! `[site]`: where a run computes, and what its jobs ask for there.
//!
//! Whether a site has what is asked for is for its profile to say; here is only what a run file can be wrong about by itself.
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::check::ANY;
use crate::error::ConfigError;
use crate::reader::Reader;
use crate::time::WallTime;

/// `[site]`: the cluster, and what a job asks of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Site {
    /// The name of a site's profile, or the path of one; `local` is this machine, without a scheduler.
    pub profile: String,
    /// Who pays.
    pub account: Option<String>,
    /// Where; without one, the default of the site.
    pub partition: Option<String>,
    /// Quality of service.
    pub qos: Option<String>,
    /// How long one job may take; a longer run becomes a chain of jobs.
    pub time: Option<WallTime>,
    /// Nodes of a job; each has the same number of ranks.
    pub nodes: u64,
    /// Nodes beyond those, to take the place of ones that fail their test.
    pub spare_nodes: u64,
    /// How often a run may go on by itself after a failure before a person has to look.
    pub restarts: u64,
    /// Variables of the environment that go into a job although they lead out of the site: proxies, keys of services.
    pub keep_environment: Vec<String>,
    /// The image in which the ranks run, absolute; without one they run as the programs beside `sirocco`.
    pub container: Option<PathBuf>,
}

/// The profile of a machine without a scheduler, which a run has unless it names another.
pub const LOCAL_SITE: &str = "local";

/// Most nodes that are asked for: no cluster has more.
const MOST_NODES: u64 = 100_000;

/// What `[site]` says. Paths start at `base`.
pub(crate) fn site(reader: &Reader<'_>, base: &Path) -> Result<Site, ConfigError> {
    let name =
        |key| reader.map(key, "a name, without spaces", |value| value.as_str().filter(|text| is_name(text)).map(str::to_owned));
    let time = "a length of time as Slurm writes it, at least a minute: \"30\" (minutes), \"06:00:00\", \"1-12:00:00\"";
    let variables = "a list of names of environment variables, such as [\"https_proxy\"]";
    Ok(Site {
        profile: profile(reader, base)?,
        account: name("account")?,
        partition: name("partition")?,
        qos: name("qos")?,
        time: reader.map("time", time, wall_time)?,
        nodes: reader.whole("nodes", 1, MOST_NODES)?.unwrap_or(1),
        spare_nodes: reader.whole("spare_nodes", 0, MOST_NODES)?.unwrap_or(0),
        restarts: reader.whole("restarts", 0, ANY)?.unwrap_or(3),
        keep_environment: reader
            .map("keep_environment", variables, |value| {
                let name = |item: &toml::Value| item.as_str().filter(|text| is_name(text)).map(str::to_owned);
                value.as_array()?.iter().map(name).collect()
            })?
            .unwrap_or_default(),
        container: container(reader, base)?,
    })
}

/// A file that the nodes see. An image by the name of a registry is none: a job fetches nothing.
fn container(reader: &Reader<'_>, base: &Path) -> Result<Option<PathBuf>, ConfigError> {
    let expected =
        "the path of a .sif image that every node sees; an image of a registry is pulled once, by hand: apptainer pull";
    reader.map("container", expected, |value| {
        let text = value.as_str()?;
        let is_file = text.ends_with(".sif") && !text.contains("://") && !text.contains(char::is_control);
        is_file.then(|| base.join(text))
    })
}

/// A whole number is minutes, as with sbatch.
fn wall_time(value: &toml::Value) -> Option<WallTime> {
    let text = value.as_integer().map_or_else(|| value.as_str().map(str::to_owned), |minutes| Some(minutes.to_string()))?;
    WallTime::parse(&text).filter(|time| time.seconds() >= 60)
}

/// A name stays as it is; what has a `/` or `.toml` in it is a path.
fn profile(reader: &Reader<'_>, base: &Path) -> Result<String, ConfigError> {
    let typed = reader.text("profile", "the name of a site, or the path of a profile")?;
    Ok(match typed {
        None => LOCAL_SITE.to_owned(),
        Some(path) if path.contains('/') || path.ends_with(".toml") => base.join(path).display().to_string(),
        Some(name) => name,
    })
}

/// What can stand in a line of a job script as it is.
fn is_name(text: &str) -> bool {
    let fits = |letter: char| letter.is_ascii_alphanumeric() || "._-+@:,".contains(letter);
    !text.is_empty() && text.len() <= 128 && !text.starts_with('-') && text.chars().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RunFile;

    fn container_of(typed: &str) -> Result<Option<PathBuf>, ConfigError> {
        let text = format!("name = 'x'\nmodel.path = 'm'\ndata.train = ['a']\ntrain.steps = 1\nsite.container = {typed}\n");
        Ok(RunFile::parse(&text, Path::new("run.toml"))?.check(Path::new("/base"))?.site.container)
    }

    #[test]
    fn an_image_is_a_file_and_nothing_that_a_job_would_have_to_fetch() {
        assert_eq!(container_of("'images/sirocco.sif'").unwrap().as_deref(), Some(Path::new("/base/images/sirocco.sif")));
        assert_eq!(container_of("'/shared/a b.sif'").unwrap().as_deref(), Some(Path::new("/shared/a b.sif")));
        for wrong in ["''", "'sirocco'", "'docker://debian'", "'oras://registry/sirocco.sif'", "\"a\\nb.sif\"", "true"] {
            let message = container_of(wrong).unwrap_err().to_string();
            assert!(message.starts_with("run.toml:5: [site] container = "), "{message}");
            assert!(message.contains("expected the path of a .sif image"), "{message}");
        }
    }
}
