//! The rules and facts that decide about a run, kept beside its ledger: by the time somebody asks for evidence they may be others.
//!
//! ```text
//! RUN/policy/RULES-FACTS/schema.cedarschema    RULES and FACTS: the first 16 digits of the digests that entries name
//!                       /set/…                 the set
//!                       /own/000.toml …        what a user added to its facts
//!                       /signed/….sig          the signatures that the set had (OpenSSF Model Signing)
//! ```

use std::fs;
use std::path::Path;

use sirocco_files::{BareDigest, replace};
use sirocco_policy::SCHEMA;

use crate::custody::Custody;
use crate::error::{CustodyError, io};

/// Where they lie in a run's directory.
pub const TEXTS: &str = "policy";

impl Custody {
    /// Keeps the texts in a run's directory, unless these are there.
    ///
    /// # Errors
    /// A directory that cannot be written.
    pub fn keep_texts(&self, run: &Path) -> Result<(), CustodyError> {
        let short = |digest: String| digest.chars().take(16).collect::<String>();
        let (rules, facts) = (self.gate().rules().digest(), self.gate().facts().digest());
        let name = format!("{}-{}", short(rules.to_string()), short(facts.to_string()));
        let folder = run.join(TEXTS);
        let (kept, unfinished) = (folder.join(&name), folder.join(format!(".{name}.{}", std::process::id())));
        if !kept.is_dir() {
            self.write_texts(&unfinished)?;
            match fs::rename(&unfinished, &kept) {
                Ok(()) => replace::sync_directory(&folder)?,
                // Another process of this run was as quick.
                Err(_) if kept.is_dir() => fs::remove_dir_all(&unfinished).map_err(io("remove", &unfinished))?,
                Err(error) => return Err(io("rename", &unfinished)(error)),
            }
        }
        self.keep_signature(&kept)
    }

    /// The same texts may be signed later, and again by somebody else.
    fn keep_signature(&self, kept: &Path) -> Result<(), CustodyError> {
        let Some(signature) = &self.set().signature else { return Ok(()) };
        let folder = kept.join("signed");
        let path = folder.join(format!("{}.sig", BareDigest::of(signature)));
        if path.is_file() {
            return Ok(());
        }
        fs::create_dir_all(&folder).map_err(io("create", &folder))?;
        Ok(replace::file_and_name(&path, signature, 0o644)?)
    }

    fn write_texts(&self, folder: &Path) -> Result<(), CustodyError> {
        // What a process of the same number has left.
        if folder.is_dir() {
            fs::remove_dir_all(folder).map_err(io("remove", folder))?;
        }
        let read = self.set();
        let set = read.files.iter().map(|file| (format!("set/{}", file.name), &*file.text));
        let own = read.own.iter().zip(0..).map(|(file, number)| (format!("own/{number:03}.toml"), &*file.text));
        let schema = ("schema.cedarschema".to_owned(), SCHEMA);
        for (name, text) in std::iter::once(schema).chain(set).chain(own) {
            let path = folder.join(name);
            let parent = replace::directory(&path);
            fs::create_dir_all(parent).map_err(io("create", parent))?;
            replace::new_file(&path, text.as_bytes(), 0o644)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use sirocco_config::OPEN_POLICY;

    use super::*;
    use crate::custody::Settings;

    #[test]
    fn texts_are_kept_once_for_each_version() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("run");
        let facts = folder.path().join("mine.toml");
        let open = |own: &[&Path]| {
            let facts = own.iter().map(|path| path.to_path_buf()).collect();
            let settings =
                Settings { set: OPEN_POLICY.to_owned(), facts, purpose: None, site: "local".to_owned(), account: None };
            Custody::open(settings, folder.path(), None).unwrap()
        };
        let versions = || fs::read_dir(run.join(TEXTS)).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
        open(&[]).keep_texts(&run).unwrap();
        open(&[]).keep_texts(&run).unwrap();
        let [first] = versions().try_into().unwrap();
        assert!(
            first.join("set/policy.cedar").is_file() && first.join("schema.cedarschema").is_file() && !first.join("own").exists()
        );
        fs::write(&facts, "").unwrap();
        open(&[&facts]).keep_texts(&run).unwrap();
        let second = versions().into_iter().find(|version| *version != first).unwrap();
        assert_eq!(fs::read_to_string(second.join("own/000.toml")).unwrap(), "");
        assert_eq!(versions().len(), 2);
    }
}
