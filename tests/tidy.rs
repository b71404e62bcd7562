//! House rules as tests: which crate may know which, and what no file may hold.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, PackageId};
use sirocco_tests::repository::{TextFile, root, text_files};

/// `unsafe` may stand under these paths and nowhere else; ARCHITECTURE.md says why for each.
const UNSAFE_HOMES: [&str; 2] = ["crates/comm/src/", "crates/model/src/raw/"];

/// Crates that must build and run without libtorch: a login node has none.
const WITHOUT_LIBTORCH: [&str; 18] = [
    "sirocco",
    "sirocco-evidence",
    "sirocco-verify",
    "sirocco-files",
    "sirocco-optim",
    "sirocco-config",
    "sirocco-plan",
    "sirocco-site",
    "sirocco-policy",
    "sirocco-confine",
    "sirocco-corpus",
    "sirocco-tokens",
    "sirocco-comm",
    "sirocco-checkpoint",
    "sirocco-signing",
    "sirocco-ledger",
    "sirocco-custody",
    "sirocco-bundle",
];

const LONGEST_FILE: usize = 400;

fn metadata() -> Metadata {
    // Only this platform: other platforms' crates may never have been downloaded.
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let options = ["--filter-platform".to_owned(), platform, "--offline".to_owned()];
    MetadataCommand::new().manifest_path(root().join("Cargo.toml")).other_options(options).exec().expect("cargo metadata")
}

/// Crate → the workspace crates that its library or program uses (tests of a crate may use more).
fn edges(metadata: &Metadata) -> BTreeMap<String, BTreeSet<String>> {
    let members: BTreeSet<_> = metadata.workspace_packages().iter().map(|package| package.name.to_string()).collect();
    let uses = |package: &cargo_metadata::Package| {
        package
            .dependencies
            .iter()
            .filter(|d| d.kind != DependencyKind::Development)
            .map(|d| d.name.clone())
            .filter(|name| members.contains(name))
            .collect()
    };
    metadata.workspace_packages().into_iter().map(|package| (package.name.to_string(), uses(package))).collect()
}

/// The same, as ARCHITECTURE.md draws it: the lines `crate → crate crate` of the fenced block under "Crate edges".
fn drawn_edges(document: &str) -> BTreeMap<String, BTreeSet<String>> {
    let section = document.split("## Crate edges").nth(1).expect("ARCHITECTURE.md has a section \"Crate edges\"");
    let block = section.split("```").nth(1).expect("\"Crate edges\" has a fenced block");
    let rows = block.lines().filter_map(|line| line.split_once('→'));
    rows.map(|(from, to)| {
        (from.trim().to_owned(), to.split_whitespace().filter(|word| *word != "–").map(str::to_owned).collect())
    })
    .collect()
}

fn architecture() -> String {
    std::fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md")
}

/// Fails with one line per offence.
fn none_of(offences: impl IntoIterator<Item = String>, rule: &str) {
    let report = offences.into_iter().fold(String::new(), |report, offence| report + "  " + &offence + "\n");
    assert!(report.is_empty(), "{rule}:\n{report}");
}

/// Every line of code in `files` for which `bad` holds, as `file:line: text`.
fn lines_where(files: &[&TextFile], bad: impl Fn(&str) -> bool) -> Vec<String> {
    let lines = files.iter().flat_map(|file| file.code_lines().map(move |(number, line)| (file, number, line)));
    lines
        .filter(|(_, _, line)| bad(line))
        .map(|(file, number, line)| format!("{}:{number}: {}", file.name, line.trim()))
        .collect()
}

fn rust_files(files: &[TextFile]) -> Vec<&TextFile> {
    files.iter().filter(|file| file.is_rust()).collect()
}

fn in_crates(files: &[TextFile]) -> Vec<&TextFile> {
    files.iter().filter(|file| file.is_rust() && file.name.starts_with("crates/") && file.name.contains("/src/")).collect()
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with("//")
}

#[test]
fn crate_edges_are_as_architecture_md_draws_them() {
    let (found, drawn) = (edges(&metadata()), drawn_edges(&architecture()));
    assert_eq!(found, drawn, "left: cargo metadata; right: the block under \"Crate edges\" in ARCHITECTURE.md");
}

#[test]
fn model_knows_no_other_crate_of_the_workspace() {
    assert_eq!(edges(&metadata())["sirocco-model"], BTreeSet::new());
}

#[test]
fn model_knows_no_files() {
    let files = text_files();
    let model: Vec<_> = in_crates(&files).into_iter().filter(|file| file.name.starts_with("crates/model/")).collect();
    let bad = |line: &str| !is_comment(line) && ["std::fs", "fs::", "File::"].iter().any(|word| line.contains(word));
    none_of(lines_where(&model, bad), "crates/model does no input or output");
}

#[test]
fn login_node_crates_never_reach_libtorch() {
    let metadata = metadata();
    let resolve = metadata.resolve.as_ref().expect("a resolved graph");
    let mut uses: BTreeMap<&PackageId, Vec<&PackageId>> = BTreeMap::new();
    for node in &resolve.nodes {
        let normal = node.deps.iter().filter(|dep| dep.dep_kinds.iter().any(|kind| kind.kind != DependencyKind::Development));
        uses.insert(&node.id, normal.map(|dep| &dep.pkg).collect());
    }
    for name in WITHOUT_LIBTORCH {
        let start = metadata.workspace_packages().into_iter().find(|package| *package.name == *name);
        let mut open = vec![&start.unwrap_or_else(|| panic!("no crate {name}")).id];
        let mut seen = BTreeSet::new();
        while let Some(id) = open.pop() {
            if seen.insert(id) {
                assert!(!["tch", "torch-sys"].contains(&metadata[id].name.as_str()), "{name} reaches {}", metadata[id].name);
                open.extend(uses.get(id).into_iter().flatten());
            }
        }
    }
}

#[test]
fn every_dependency_is_used() {
    let (metadata, files) = (metadata(), text_files());
    let mut unused = Vec::new();
    for package in metadata.workspace_packages() {
        let folder = package.manifest_path.parent().and_then(|path| path.strip_prefix(&metadata.workspace_root).ok());
        let folder = format!("{}/", folder.expect("a member's folder"));
        let sources: Vec<_> = files.iter().filter(|file| file.is_rust() && file.name.starts_with(&folder)).collect();
        for name in package.dependencies.iter().map(|dependency| dependency.name.replace('-', "_")) {
            if !sources.iter().any(|file| file.text.contains(&name)) {
                unused.push(format!("{folder}Cargo.toml: {name}"));
            }
        }
    }
    let root = &files.iter().find(|file| file.name == "Cargo.toml").expect("Cargo.toml").text;
    let listed = root.split("[workspace.dependencies]").nth(1).and_then(|rest| rest.split("\n[").next()).unwrap_or_default();
    let used: BTreeSet<_> =
        metadata.workspace_packages().into_iter().flat_map(|p| p.dependencies.iter().map(|d| d.name.clone())).collect();
    let names = listed.lines().filter_map(|line| line.split_once(" = ")).map(|(name, _)| name);
    unused.extend(names.filter(|name| !used.contains(*name)).map(|name| format!("Cargo.toml: {name}")));
    none_of(unused, "a dependency that is listed is used");
}

#[test]
fn every_workspace_member_is_described() {
    let (document, metadata) = (architecture(), metadata());
    let missing = metadata.workspace_packages().into_iter().filter_map(|package| {
        let folder = package.manifest_path.parent()?.strip_prefix(&metadata.workspace_root).ok()?.to_string();
        (!document.contains(&format!("`{folder}/`"))).then(|| format!("{folder}/"))
    });
    none_of(missing, "every member of the workspace has its line in ARCHITECTURE.md");
}

#[test]
fn every_rust_file_says_what_it_is_on_line_one() {
    let files = text_files();
    let silent = rust_files(&files).into_iter().filter(|file| !file.text.starts_with("//! ")).map(|file| file.name.clone());
    none_of(silent, "line 1 of a Rust file is its module doc");
}

#[test]
fn no_rust_file_is_long() {
    let files = text_files();
    let lengths = rust_files(&files).into_iter().map(|file| (file.text.lines().count(), &file.name));
    let long = lengths.filter(|(lines, _)| *lines > LONGEST_FILE).map(|(lines, name)| format!("{name}: {lines} lines"));
    none_of(long, "a file is about one thing: at most 400 lines");
}

#[test]
fn no_unfinished_work() {
    let words =
        ["dbg!(", concat!("todo", "!("), "unimplemented!(", concat!("TO", "DO"), concat!("FIX", "ME"), concat!("#[ign", "ore")];
    let files = text_files();
    let sources: Vec<_> = rust_files(&files).into_iter().filter(|file| file.name != "tests/tidy.rs").collect();
    let offences =
        sources.iter().flat_map(|file| file.text.lines().enumerate().map(move |(index, line)| (file, index + 1, line)));
    let measurement = concat!("#[ign", "ore = \"a measurement");
    let found = offences.filter(|(_, _, line)| words.iter().any(|word| line.contains(word)) && !line.contains(measurement));
    none_of(found.map(|(file, number, line)| format!("{}:{number}: {}", file.name, line.trim())), "what is here is finished");
}

#[test]
fn unsafe_stays_at_home() {
    let files = text_files();
    let sources: Vec<_> = rust_files(&files)
        .into_iter()
        .filter(|f| f.name != "tests/tidy.rs" && !UNSAFE_HOMES.iter().any(|home| f.name.starts_with(home)))
        .collect();
    let bad = |line: &str| {
        !is_comment(line) && ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"].iter().any(|word| line.contains(word))
    };
    none_of(lines_where(&sources, bad), "unsafe lives in comm and in one module of model");
}

#[test]
fn only_config_and_programs_read_the_environment() {
    let files = text_files();
    let libraries: Vec<_> = in_crates(&files).into_iter().filter(|file| !file.name.starts_with("crates/config/")).collect();
    let bad = |line: &str| {
        !is_comment(line) && ["env::var", "env::set_var", "env::args", "env::current_dir"].iter().any(|word| line.contains(word))
    };
    none_of(lines_where(&libraries, bad), "environment variables are read by config and the programs");
}

#[test]
fn one_rank_takes_the_path_of_many() {
    let counts = ["size()", "size", "ranks", "ranks()", "world", "dp", "tp", "pp", "fsdp"];
    let branch = |line: &str| {
        let packed: String = line.chars().filter(|c| !c.is_whitespace()).collect();
        let compared =
            |count: &&str| [">1", "==1", "!=1", "<=1", "<2", ">=2"].iter().any(|with| packed.contains(&format!("{count}{with}")));
        !is_comment(line) && (line.contains("if ") || line.contains("match ")) && counts.iter().any(compared)
    };
    let files = text_files();
    let engine = ["crates/comm/", "crates/parallel/", "crates/model/", "crates/optim/"];
    let sources: Vec<_> =
        in_crates(&files).into_iter().filter(|file| engine.iter().any(|home| file.name.starts_with(home))).collect();
    none_of(lines_where(&sources, branch), "a group of one uses comm's Solo, not another branch");
}

#[test]
fn no_path_of_one_machine_and_no_registry_name() {
    let words = [
        concat!("/ro", "ot/"),
        concat!("/wo", "rk/"),
        concat!("/home", "/"),
        concat!("pypi.", "org"),
        concat!("pythonhosted", ".org"),
        concat!("crates", ".io"),
    ];
    let exempt = ["Cargo.lock", "LICENSE"];
    let files = text_files();
    let mut found = Vec::new();
    for file in files.iter().filter(|file| !exempt.contains(&file.name.as_str())) {
        for (index, line) in file.text.lines().enumerate() {
            if let Some(word) = words.iter().find(|word| line.contains(**word)) {
                found.push(format!("{}:{}: {word}", file.name, index + 1));
            }
        }
    }
    none_of(found, "the repository names no machine and no registry");
}

#[test]
fn links_in_documents_lead_somewhere() {
    let mut broken = Vec::new();
    for file in text_files().iter().filter(|file| file.name.ends_with(".md")) {
        let folder = root().join(&file.name);
        let targets = file.text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for target in
            targets.filter(|target| !target.contains("://") && !target.starts_with('#') && !target.contains(char::is_whitespace))
        {
            let path = target.split('#').next().unwrap_or(target);
            if !folder.with_file_name(path).exists() {
                broken.push(format!("{}: {target}", file.name));
            }
        }
    }
    none_of(broken, "relative links name files that exist");
}
