//! The words before a program that make it run in a container: `apptainer exec … IMAGE`, to be put between srun and `sirocco-train`.
//!
//! The host's MPI starts the ranks, the container's own MPI joins them (docs: packaging/README.md). So the container keeps the host's
//! network, `/dev`, `/tmp` and `/dev/shm`: the ranks of a node meet there, and a `--contain` would part them. It does not get the home directory:
//! what a run reads and writes is named.
use std::path::{Path, PathBuf};

use sirocco_config::{OPEN_POLICY, Run};
use sirocco_custody::MACHINE;

use crate::failure::Failure;

/// A directory of the host that a container gets, under its own name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bind {
    path: PathBuf,
    writable: bool,
}

impl Bind {
    pub(crate) fn read_only(path: &Path) -> Bind {
        Bind { path: path.to_owned(), writable: false }
    }

    pub(crate) fn writable(path: &Path) -> Bind {
        Bind { path: path.to_owned(), writable: true }
    }

    /// What the ranks of a run open: its directory, the model, the place of staged checkpoints, rules and facts, and the keys that sign. The
    /// data are in the run directory by then, as token caches.
    pub(crate) fn of_run(run: &Run, directory: &Path, keys: Option<&Path>) -> Vec<Bind> {
        let staging = run.checkpoint.staging.iter().map(|path| Bind::writable(path));
        let rules = Some(Path::new(&run.policy.set)).filter(|_| run.policy.set != OPEN_POLICY);
        let asked = rules.into_iter().chain(run.policy.facts.iter().map(PathBuf::as_path)).chain(run.policy.trust.as_deref());
        let own = [Bind::writable(directory), Bind::read_only(&run.model.path)];
        // What the machine demands of rules holds inside, too.
        let machine = Some(Path::new(MACHINE)).and_then(Path::parent).filter(|path| path.is_dir());
        own.into_iter().chain(staging).chain(asked.chain(machine).map(Bind::read_only)).chain(keys.map(Bind::writable)).collect()
    }

    fn word(&self) -> Result<String, Failure> {
        // Apptainer splits at `,` and `:`, and takes `\` for its own (ParseBindPath in pkg/runtime/engine/apptainer/config/bind.go, 1.6).
        let is_plain = |text: &&str| !text.contains(|letter: char| ":,\\\"'".contains(letter) || letter.is_control());
        let path = self.path.to_str().filter(is_plain).filter(|_| self.path.is_absolute());
        let path = path.ok_or_else(|| no_words(&self.path))?;
        Ok(format!("{path}:{path}:{}", if self.writable { "rw" } else { "ro" }))
    }
}

/// The words before a program of a run in its image, to which the directory of the `keys` belongs; none without an image.
pub(crate) fn of_run(run: &Run, directory: &Path, gpus: bool, keys: Option<&Path>) -> Result<Vec<String>, Failure> {
    match &run.site.container {
        None => Ok(Vec::new()),
        Some(image) => before_program(image, Bind::of_run(run, directory, keys), gpus),
    }
}

/// `apptainer exec` with those directories, and the driver and devices of NVIDIA's GPUs if `gpus`. A name that has no form in words is refused.
pub(crate) fn before_program(image: &Path, binds: Vec<Bind>, gpus: bool) -> Result<Vec<String>, Failure> {
    let image = image.to_str().ok_or_else(|| no_words(image))?.to_owned();
    let mut words = vec!["apptainer".to_owned(), "exec".to_owned(), "--no-home".to_owned()];
    if gpus {
        words.push("--nv".to_owned());
    }
    for bind in in_order(binds) {
        words.extend(["--bind".to_owned(), bind.word()?]);
    }
    words.push(image);
    Ok(words)
}

fn no_words(path: &Path) -> Failure {
    let expected = "expected an absolute path of UTF-8 text without `:`, `,`, `\\`, quotes and control characters";
    Failure::usage(format_args!("{}: a container cannot be given this: {expected}", path.display()))
        .help("use a name of it without them: a symbolic link will do")
}

/// Each path once, writable if anything wants it so, and the outer before the inner: a later bind lies over an earlier one.
fn in_order(mut binds: Vec<Bind>) -> Vec<Bind> {
    // Of two equal paths the writable one comes first, and is the one that stays.
    binds.sort_by(|one, other| one.path.cmp(&other.path).then(other.writable.cmp(&one.writable)));
    binds.dedup_by(|later, earlier| later.path == earlier.path);
    binds
}

#[cfg(test)]
mod tests {
    use super::*;
    use sirocco_config::RunFile;

    const TEXT: &str = "name = 'x'\nmodel.path = '/models/m'\ndata.train = ['/data/a']\ntrain.steps = 1\n";

    fn run(more: &str) -> Run {
        RunFile::parse(&format!("{TEXT}{more}"), Path::new("run.toml")).unwrap().check(Path::new("/base")).unwrap()
    }

    #[test]
    fn without_an_image_there_are_no_words() {
        assert!(of_run(&run(""), Path::new("/runs/x"), true, None).unwrap().is_empty());
    }

    #[test]
    fn a_run_gets_its_directory_its_model_and_nothing_else() {
        let words = of_run(&run("site.container = '/i/sirocco.sif'"), Path::new("/runs/x"), false, None).unwrap();
        let expected = "apptainer exec --no-home --bind /models/m:/models/m:ro --bind /runs/x:/runs/x:rw /i/sirocco.sif";
        assert_eq!(words.join(" "), expected);
    }

    #[test]
    fn rules_facts_and_keys_go_with_it() {
        let run = run(
            "site.container = '/i/sirocco.sif'\npolicy.set = '/rules'\npolicy.facts = ['/facts.toml']\npolicy.trust = '/trust'",
        );
        let words = of_run(&run, Path::new("/runs/x"), false, Some(Path::new("/keys"))).unwrap().join(" ");
        for bind in ["/rules:/rules:ro", "/facts.toml:/facts.toml:ro", "/trust:/trust:ro", "/keys:/keys:rw"] {
            assert!(words.contains(&format!("--bind {bind} ")), "{words}");
        }
    }

    #[test]
    fn gpus_and_staging_are_asked_for_where_the_run_does() {
        let run = run("site.container = 'sirocco.sif'\nmodel.device = 'cuda'\ncheckpoint.staging = '/nvme'\n");
        let expected = "apptainer exec --no-home --nv --bind /models/m:/models/m:ro --bind /nvme:/nvme:rw --bind /runs/x:/runs/x:rw \
                        /base/sirocco.sif";
        assert_eq!(of_run(&run, Path::new("/runs/x"), true, None).unwrap().join(" "), expected);
    }

    #[test]
    fn a_directory_is_bound_once_and_the_outer_one_first() {
        let binds = ["/w/model", "/w", "/w/model"].map(Path::new);
        let binds = vec![Bind::read_only(binds[0]), Bind::writable(binds[1]), Bind::writable(binds[2])];
        let words = before_program(Path::new("/i.sif"), binds, false).unwrap();
        assert_eq!(words[3..], ["--bind", "/w:/w:rw", "--bind", "/w/model:/w/model:rw", "/i.sif"]);
    }

    #[test]
    fn spaces_stay_in_one_word_and_what_the_option_would_split_is_refused() {
        let words = before_program(Path::new("/an image.sif"), vec![Bind::writable(Path::new("/my runs"))], false).unwrap();
        assert_eq!(words[3..], ["--bind", "/my runs:/my runs:rw", "/an image.sif"]);
        for path in ["/a:b", "/a,b", "/a\\b", "/a\"b", "/a\nb", "relative", ""] {
            let refused = before_program(Path::new("/i.sif"), vec![Bind::writable(Path::new(path))], false).unwrap_err();
            assert!(refused.message.starts_with(&format!("{path}: a container cannot be given")), "{refused:?}");
        }
    }
}
