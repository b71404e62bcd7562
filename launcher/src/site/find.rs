//! Where profiles are: files in `configs/sites` beside the programs, and copies of ours inside the program for a place without any.
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sirocco_config::nearest;
use sirocco_site::Site;

use crate::failure::{Failure, Kind};

/// Ours, as they were when the program was built. A test holds that none is forgotten.
const BUILT_IN: [(&str, &str); 7] = [
    ("jupiter", include_str!("../../../configs/sites/jupiter.toml")),
    ("leonardo", include_str!("../../../configs/sites/leonardo.toml")),
    ("local", include_str!("../../../configs/sites/local.toml")),
    ("lumi", include_str!("../../../configs/sites/lumi.toml")),
    ("marenostrum5", include_str!("../../../configs/sites/marenostrum5.toml")),
    ("meluxina", include_str!("../../../configs/sites/meluxina.toml")),
    ("slurm", include_str!("../../../configs/sites/slurm.toml")),
];

/// Folders of profiles, from the folder of the program: beside it, in an installation, in a clone with its own `target`.
const FOLDERS: [&str; 4] = ["configs/sites", "../configs/sites", "../share/sirocco/configs/sites", "../../configs/sites"];

/// A profile and where it came from.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) site: Site,
    /// A path, or `built in`.
    pub(crate) from: String,
}

/// The profile of that name, or in that file: a word with a `/` or with `.toml` at its end is a path.
pub(crate) fn site(name: &str) -> Result<Found, Failure> {
    if name.contains('/') || name.ends_with(".toml") {
        return in_file(Path::new(name));
    }
    let places = places()?;
    match places.get(name) {
        Some(place) => read(name, place),
        None => {
            let names: Vec<&str> = places.keys().map(String::as_str).collect();
            let meant = nearest(name, names.iter().copied()).map_or_else(String::new, |name| format!("; did you mean {name}?"));
            let message = format!("no site is called {name}: expected one of {}{meant}", names.join(", "));
            Err(Failure::usage(message).help("a new site is a new file: sirocco site list --help says where"))
        }
    }
}

/// Every profile, by name; one that cannot be read is an error among them.
pub(crate) fn all() -> Result<Vec<Result<Found, Failure>>, Failure> {
    Ok(places()?.iter().map(|(name, place)| read(name, place)).collect())
}

/// Where the profile of a name is.
enum Place {
    File(PathBuf),
    BuiltIn(&'static str),
}

fn places() -> Result<BTreeMap<String, Place>, Failure> {
    let mut places: BTreeMap<String, Place> =
        BUILT_IN.into_iter().map(|(name, text)| (name.to_owned(), Place::BuiltIn(text))).collect();
    for path in folder()?.into_iter().flat_map(|folder| std::fs::read_dir(folder).into_iter().flatten().flatten()) {
        let path = path.path();
        if let (Some("toml"), Some(stem)) = (extension(&path), path.file_stem().and_then(|stem| stem.to_str())) {
            places.insert(stem.to_owned(), Place::File(path.clone()));
        }
    }
    Ok(places)
}

/// The first folder of profiles that there is.
fn folder() -> Result<Option<PathBuf>, Failure> {
    let own = std::env::current_exe().and_then(std::fs::canonicalize);
    let own =
        own.map_err(|error| Failure::new(Kind::Machine, format_args!("cannot find the directory of this program: {error}")))?;
    let beside = own.parent().unwrap_or(&own);
    Ok(FOLDERS.iter().filter_map(|folder| beside.join(folder).canonicalize().ok()).find(|folder| folder.is_dir()))
}

fn extension(path: &Path) -> Option<&str> {
    path.extension().and_then(|extension| extension.to_str())
}

fn read(name: &str, place: &Place) -> Result<Found, Failure> {
    match place {
        Place::File(path) => in_file(path),
        Place::BuiltIn(text) => {
            let site = Site::parse(text, Path::new(&format!("{name}.toml")))?;
            Ok(Found { site, from: "built in".to_owned() })
        }
    }
}

fn in_file(path: &Path) -> Result<Found, Failure> {
    let (site, stem) = (Site::read(path)?, path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default());
    if site.name != stem {
        let (path, name) = (path.display(), &site.name);
        let message = format!("{path}: [site] name = {name:?}: expected {stem:?}, as the file is called");
        return Err(Failure::usage(message).help("rename the file, or set the name in it"));
    }
    Ok(Found { site, from: path.display().to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_profile_of_the_repository_is_built_in() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/sites");
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
            .collect();
        files.sort();
        assert_eq!(files, BUILT_IN.map(|(name, _)| name.to_owned()));
        for (name, text) in BUILT_IN {
            assert_eq!(read(name, &Place::BuiltIn(text)).unwrap().site.name, name);
        }
    }
}
