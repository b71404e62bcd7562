//! Lists of files as programs make them: what every program needs, where it is installed, and what it reads and writes itself.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::Refused;
use crate::paths::Paths;

/// Programs, libraries and what they read of the system. /tmp and its likes are not among them.
const SYSTEM: [&str; 9] = ["/usr", "/lib", "/lib64", "/bin", "/etc", "/proc", "/sys", "/opt", "/dev/urandom"];
/// What every program may write.
const WRITTEN: [&str; 2] = ["/dev/shm", "/dev/null"];
/// Where GPUs are: each device by its own name, because the directory has others, too.
const DEVICES: &str = "/dev";

impl Paths {
    /// What every program needs besides its own files: the system's programs and libraries, shared memory, `/dev/null`, and GPUs.
    pub fn usual() -> Self {
        let mut paths = Self::default();
        paths.readable.extend(SYSTEM.map(PathBuf::from).into_iter().filter(|path| path.exists()));
        let written = WRITTEN.map(PathBuf::from).into_iter().chain(gpus());
        paths.writable.extend(written.filter(|path| path.exists()));
        paths
    }

    /// Adds a program and its libraries: its directory and the `lib` beside that, wherever it was installed.
    pub fn start(&mut self, program: &Path) {
        let program = fs::canonicalize(program).unwrap_or_else(|_| program.to_owned());
        let Some(bin) = program.parent() else { return };
        let lib = bin.with_file_name("lib");
        self.readable.extend([bin.to_owned(), lib].into_iter().filter(|path| path.exists()));
    }

    /// Adds a file, or a directory with the files that links in it lead to: a model's may lie in a cache elsewhere. What is not there is
    /// told by whoever opens it.
    pub fn read(&mut self, path: &Path) {
        let Ok(real) = fs::canonicalize(path) else { return };
        let entries = fs::read_dir(&real).into_iter().flatten().flatten();
        let links = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_symlink()));
        let targets = links.filter_map(|link| fs::canonicalize(link.path()).ok());
        // Only files: a link to a directory would open all of it.
        self.readable.extend(targets.filter(|target| target.is_file() && !target.starts_with(&real)));
        self.readable.push(real);
    }

    /// Adds a directory for all that is written below it. Makes it, because only what is there can be named.
    ///
    /// # Errors
    /// [`Refused::Path`] when it cannot be made.
    pub fn write(&mut self, directory: &Path) -> Result<(), Refused> {
        let unmade = |error: std::io::Error| Refused::Path { path: directory.to_owned(), message: error.to_string() };
        fs::create_dir_all(directory).map_err(unmade)?;
        self.writable.push(directory.to_owned());
        Ok(())
    }
}

fn gpus() -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(DEVICES).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        name.starts_with("nvidia") && !path.is_dir()
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn the_files_of_links_are_read_and_directories_of_links_are_not() {
        let place = tempfile::tempdir().unwrap();
        let [cache, model, elsewhere] = ["cache", "model", "elsewhere"].map(|name| place.path().join(name));
        [&cache, &model, &elsewhere].into_iter().for_each(|directory| fs::create_dir(directory).unwrap());
        fs::write(cache.join("blob"), "weights").unwrap();
        symlink(cache.join("blob"), model.join("model.safetensors")).unwrap();
        symlink(&elsewhere, model.join("more")).unwrap();
        symlink("nowhere", model.join("broken")).unwrap();
        let mut paths = Paths::default();
        paths.read(&model);
        paths.read(&place.path().join("not-there"));
        let resolved = paths.resolved().unwrap();
        assert!(resolved.covers(&fs::canonicalize(cache.join("blob")).unwrap()));
        assert!(!resolved.covers(&fs::canonicalize(&elsewhere).unwrap()) && !resolved.covers(&fs::canonicalize(&cache).unwrap()));
        assert!(resolved.writable.is_empty());
    }

    #[test]
    fn what_is_to_be_written_is_made() {
        let place = tempfile::tempdir().unwrap();
        let mut paths = Paths::usual();
        paths.write(&place.path().join("a/b")).unwrap();
        assert!(paths.resolved().unwrap().covers(&fs::canonicalize(place.path()).unwrap().join("a/b/c")));
        fs::write(place.path().join("file"), "").unwrap();
        assert!(matches!(paths.write(&place.path().join("file/below")), Err(Refused::Path { .. })));
    }

    #[test]
    fn a_program_is_started_with_what_lies_beside_it() {
        let place = tempfile::tempdir().unwrap();
        ["bin", "lib"].into_iter().for_each(|name| fs::create_dir(place.path().join(name)).unwrap());
        let program = place.path().join("bin/program");
        fs::write(&program, "").unwrap();
        let mut paths = Paths::default();
        paths.start(&program);
        let at = fs::canonicalize(place.path()).unwrap();
        assert_eq!(paths.readable, [at.join("bin"), at.join("lib")]);
    }
}
