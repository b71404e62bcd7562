//! The repository as a set of text files, for tests that hold house rules.

use std::path::{Path, PathBuf};
use std::process::Command;

/// One text file of the repository.
pub struct TextFile {
    /// Path from the root of the repository, with `/`.
    pub name: String,
    /// The whole text.
    pub text: String,
}

impl TextFile {
    /// The numbered lines (from 1) before the unit tests, which stand at the foot of a module.
    pub fn code_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text
            .lines()
            .enumerate()
            .map(|(index, line)| (index + 1, line))
            .take_while(|(_, line)| !line.starts_with("#[cfg(test)]"))
    }

    /// Is it Rust source?
    pub fn is_rust(&self) -> bool {
        self.name.ends_with(".rs")
    }
}

/// The root of the repository.
pub fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests).to_path_buf()
}

/// Every text file that git tracks or would track. Files that are not UTF-8 are left out.
///
/// # Panics
/// When git is missing or this is not a clone.
pub fn text_files() -> Vec<TextFile> {
    let listed = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .expect("git lists the repository's files");
    assert!(listed.status.success(), "git ls-files failed: {}", String::from_utf8_lossy(&listed.stderr));
    let names = String::from_utf8_lossy(&listed.stdout);
    let read = |name: &str| std::fs::read(root().join(name)).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    names.split_terminator('\0').filter_map(|name| read(name).map(|text| TextFile { name: name.to_owned(), text })).collect()
}
