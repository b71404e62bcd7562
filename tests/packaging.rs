//! The recipes in `packaging/`: they name the versions, digests and files of this repository, and the image's definition is one that
//! Apptainer reads (its own rules, from pkg/build/types/parser/deffile.go and internal/pkg/build/args of version 1.6) and refuses unpinned bases.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Stdio};

use sirocco_tests::repository::root;

const DEFINITION: &str = "packaging/apptainer/sirocco.def";
const CUDA: &str = "packaging/apptainer/cuda.txt";
const EASYCONFIG: &str = "packaging/easybuild/Sirocco-0.1.0-gompi-2026.1.eb";
const SPACK: &str = "packaging/spack/spack_repo/sirocco/packages/sirocco/package.py";
const SPACK_YAML: &str = "packaging/spack/spack.yaml";

fn text(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// What stands between `before` and the next `after`, everywhere.
fn between<'a>(text: &'a str, before: &str, after: &str) -> Vec<&'a str> {
    text.split(before).skip(1).filter_map(|rest| rest.split(after).next()).collect()
}

fn version() -> String {
    let file = text("Cargo.toml");
    let workspace = file.split("[workspace.package]").nth(1).expect("[workspace.package]");
    between(workspace, "version = \"", "\"")[0].to_owned()
}

/// File → digest, of scripts/downloads.txt, which scripts/setup.sh fetches by.
fn pins(of: &[&str]) -> BTreeMap<String, String> {
    let text = text("scripts/downloads.txt");
    let rows = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let wanted = |name: &str| name.split_once('.').is_some_and(|(what, _)| of.contains(&what));
    rows.filter(|row| row.len() == 4 && wanted(row[0])).map(|row| (row[2].to_owned(), row[3].to_owned())).collect()
}

#[test]
fn recipes_are_of_this_version() {
    let version = version();
    assert!(EASYCONFIG.contains(&format!("Sirocco-{version}-")), "{EASYCONFIG} is not called after {version}");
    assert_eq!(between(&text(EASYCONFIG), "\nversion = '", "'"), [version.as_str()]);
    assert_eq!(between(&text(SPACK), "\n    version(\"", "\""), [version.as_str()]);
    assert_eq!(between(&text(SPACK), "/sirocco-", ".tar.gz"), [version.as_str()]);
    assert_eq!(between(&text(SPACK_YAML), "sirocco@=", "\n"), [version.as_str()]);
    assert_eq!(between(&text(DEFINITION), "source=sirocco-", ".tar.gz"), [version.as_str()]);
    assert_eq!(between(&text(DEFINITION), "image.version ", "\n"), [version.as_str()]);
}

#[test]
fn rust_is_the_one_of_the_toolchain_file() {
    let toolchain = text("rust-toolchain.toml");
    let rust = between(&toolchain, "channel = \"", "\"")[0];
    assert_eq!(between(&text(DEFINITION), "RUSTUP_TOOLCHAIN=", "\n"), [rust]);
    assert_eq!(between(&text(EASYCONFIG), "('Rust', '", "'"), [rust]);
    // Spack may take a newer one: it has not every version, and cargo asks only for this one or later.
    assert_eq!(between(&text(SPACK), "rust@", ":\""), [rust.rsplit_once('.').expect("three numbers").0]);
}

#[test]
fn libtorch_is_the_one_of_the_set_up() {
    let setup = text("scripts/setup.sh");
    let torch = between(&setup, "\ntorch_version=", "\n")[0];
    assert_eq!(between(&text(EASYCONFIG), "local_libtorch = '", "'"), [torch]);
    let spack = text(SPACK);
    let named: BTreeSet<_> = between(&spack, "py-torch@", " ").into_iter().collect();
    assert_eq!(named, BTreeSet::from([torch]));
    assert_eq!(between(&text(CUDA), "\ntorch==", " "), [torch]);
}

#[test]
fn every_download_has_the_digest_of_the_set_up() {
    let easyconfig = text(EASYCONFIG);
    let listed = easyconfig.split("checksums = [").nth(1).and_then(|rest| rest.split("\n]").next()).expect("checksums");
    let quoted: Vec<&str> = listed.split('\'').skip(1).step_by(2).collect();
    let found: BTreeMap<_, _> = quoted.chunks(2).map(|pair| (pair[0].to_owned(), pair[1].to_owned())).collect();
    assert_eq!(found, pins(&["torch", "cupti", "cudart"]), "left: {EASYCONFIG}; right: scripts/downloads.txt");

    let cuda = text(CUDA);
    for (project, pin) in [("torch", "torch"), ("nvidia-cuda-cupti", "cupti"), ("nvidia-cuda-runtime", "cudart")] {
        let entry = between(&cuda, &format!("\n{project}=="), "==")[0];
        let found: BTreeSet<_> = between(entry, "sha256:", "\n").into_iter().map(|line| line[..64].to_owned()).collect();
        assert_eq!(found, pins(&[pin]).into_values().collect(), "{CUDA}: {project}");
    }
    let packages = cuda.lines().filter(|line| line.contains("=="));
    assert_eq!(cuda.matches("--hash=sha256:").count(), 2 * packages.count(), "{CUDA}: a digest for each of two architectures");
}

#[test]
fn files_that_recipes_name_are_there() {
    for recipe in [DEFINITION, EASYCONFIG, SPACK] {
        for folder in ["scripts/", "packaging/"] {
            let text = text(recipe);
            let words = text.split(|letter: char| letter.is_whitespace() || "\"'`;".contains(letter));
            for name in words.filter(|word| word.starts_with(folder)).map(|word| word.trim_end_matches(['.', ',', ':'])) {
                assert!(root().join(name).exists(), "{recipe} names {name}, which is not there");
            }
        }
    }
    let makefile = text("Makefile");
    for target in ["install", "dist"] {
        assert!(makefile.contains(&format!("\n{target}:")), "recipes need make {target}");
    }
}

// --- The image's definition ------------------------------------------------------------------------------------------------------

const HEADERS: [&str; 3] = ["bootstrap", "from", "stage"];
const SECTIONS: [&str; 11] =
    ["help", "setup", "files", "labels", "environment", "pre", "post", "runscript", "test", "startscript", "arguments"];
/// What only who builds can know.
const NO_DEFAULT: [&str; 2] = ["rust", "debian"];

/// One stage: its header, and its sections by their whole first line.
#[derive(Debug, Default)]
struct Stage {
    text: String,
    header: BTreeMap<String, String>,
    sections: BTreeMap<String, String>,
}

/// Stages begin at `Bootstrap:`, sections at a line whose first word starts with `%`.
fn stages() -> Vec<Stage> {
    let text = text(DEFINITION);
    let parts: Vec<&str> = text.split("\nBootstrap:").collect();
    assert!(parts[0].lines().all(|line| line.starts_with('#') || line.is_empty()), "comments before the first stage");
    parts[1..].iter().map(|part| stage(&format!("Bootstrap:{part}"))).collect()
}

fn stage(text: &str) -> Stage {
    let mut stage = Stage { text: text.to_owned(), ..Stage::default() };
    let mut section: Option<String> = None;
    for line in text.lines() {
        match (line.trim_start().strip_prefix('%'), &section) {
            (Some(name), _) => {
                assert!(stage.sections.insert(name.to_owned(), String::new()).is_none(), "%{name} is there twice");
                section = Some(name.to_owned());
            }
            (None, Some(name)) => *stage.sections.get_mut(name).expect("the section") += &format!("{line}\n"),
            (None, None) if line.is_empty() || line.starts_with('#') => {}
            (None, None) => {
                let (key, value) = line.split_once(':').unwrap_or_else(|| panic!("a header without a value: {line}"));
                stage.header.insert(key.to_lowercase(), value.trim().to_owned());
            }
        }
    }
    stage
}

impl Stage {
    /// Defaults of the build arguments: each stage has its own.
    fn defaults(&self) -> BTreeMap<&str, &str> {
        let lines = self.sections["arguments"].lines().map(str::trim).filter(|line| !line.starts_with('#'));
        lines.filter_map(|line| line.split_once('=')).collect()
    }

    /// The text of a section with build arguments in their places.
    fn filled(&self, section: &str, given: &[(&str, &str)]) -> String {
        let mut text = self.sections[section].clone();
        for (name, value) in given.iter().copied().chain(self.defaults()) {
            text = text.replace(&format!("{{{{ {name} }}}}"), value);
        }
        assert!(!text.contains("{{"), "an argument is left: {text}");
        text
    }
}

fn named<'a>(stages: &'a [Stage], name: &str) -> &'a Stage {
    stages.iter().find(|stage| stage.header["stage"] == name).unwrap_or_else(|| panic!("no stage {name}"))
}

#[test]
fn the_definition_is_one_that_apptainer_reads() {
    let stages = stages();
    assert_eq!(stages.iter().map(|stage| stage.header["stage"].as_str()).collect::<Vec<_>>(), ["build", "final"]);
    for stage in &stages {
        assert_eq!(
            stage.header.keys().collect::<BTreeSet<_>>(),
            HEADERS.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>().iter().collect()
        );
        for name in stage.sections.keys() {
            let (word, arguments) = name.split_once(' ').unwrap_or((name, ""));
            assert!(SECTIONS.contains(&word), "%{word} is no section");
            let source = arguments.strip_prefix("from ");
            assert!(arguments.is_empty() || (word == "files" && source == Some("build")), "%{name}");
        }
        let used: BTreeSet<_> = between(&stage.text, "{{ ", " }}").into_iter().collect();
        let known: BTreeSet<_> = stage.defaults().into_keys().chain(NO_DEFAULT).collect();
        assert!(used.is_subset(&known), "no default for some of {used:?}: known are {known:?}");
        assert!(NO_DEFAULT.iter().all(|name| !stage.defaults().contains_key(name)), "a base image has a default");
    }
    let shared = |name: &str| stages.iter().map(|stage| stage.defaults()[name].to_owned()).collect::<BTreeSet<_>>().len() == 1;
    assert!(["agent", "mpi", "device"].into_iter().all(shared), "stages differ in a default");
}

const DIGEST: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// What the build's first lines, up to the last check of a base image, say to these arguments.
fn checked(given: &[(&str, &str)]) -> (Option<i32>, String) {
    let stages = stages();
    let post = named(&stages, "build").filled("post", given);
    let checks = post.split("\n\n").next().expect("the checks stand before the first empty line");
    assert!(checks.matches("\n    pinned ").count() == 2, "both base images are checked first:\n{checks}");
    let output = Command::new("sh").args(["-c", checks]).stdin(Stdio::null()).output().expect("sh");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn base_images_without_a_digest_are_refused() {
    let (rust, debian) = (format!("rust@sha256:{DIGEST}"), format!("debian@sha256:{DIGEST}"));
    assert_eq!(checked(&[("rust", &rust), ("debian", &debian)]), (Some(0), String::new()));
    for (rust, debian) in
        [("rust:1.95.0", debian.as_str()), (&rust, "debian:bookworm"), (&rust, &debian[..70]), ("rust@sha256:x", &debian)]
    {
        let (code, said) = checked(&[("rust", rust), ("debian", debian)]);
        assert!(code == Some(2) && said.contains("is no digest: expected NAME@sha256:"), "{rust}, {debian}: {code:?}, {said}");
    }
    let local = [("agent", "localimage"), ("rust", "./rust"), ("debian", "./debian")];
    assert_eq!(checked(&local), (Some(0), String::new()), "images of one's own have no digest of a registry");
    let (code, said) = checked(&[("agent", "library"), ("rust", &rust), ("debian", &debian)]);
    assert!(code == Some(2) && said.contains("expected docker or localimage"), "{said}");
}

#[test]
fn sections_that_are_run_are_shell() {
    let given = [("rust", "r"), ("debian", "d")];
    let shellcheck = Command::new("shellcheck").arg("--version").output().is_ok();
    for stage in &stages() {
        for name in ["post", "environment", "runscript", "test"].into_iter().filter(|name| stage.sections.contains_key(*name)) {
            let directory = tempfile::TempDir::new().expect("a temporary directory");
            let path = directory.path().join(name);
            std::fs::write(&path, format!("#!/bin/sh\n{}", stage.filled(name, &given))).expect("a script");
            let run = |program: &str, options: &[&str]| {
                let output = Command::new(program).args(options).arg(&path).output().expect(program);
                assert!(
                    output.status.success(),
                    "%{name}: {program}: {}",
                    String::from_utf8_lossy(&[output.stdout, output.stderr].concat())
                );
            };
            run("sh", &["-n"]);
            if shellcheck {
                // What is always so once an argument has its value: a case of one word, a comparison with itself.
                run("shellcheck", &["--shell=sh", "--exclude=SC2194,SC2195,SC2209"]);
            }
        }
    }
}
