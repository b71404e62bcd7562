//! What the reader refuses, in which words; and that no text makes it panic.
use std::path::Path;

use proptest::prelude::*;
use sirocco_site::Site;

/// The least that a site file says, with its last line number.
const LEAST: &str = "\
[site]
name = 'here'
title = 'Here'
scheduler = 'slurm'
sources = ['us']
[source.us]
document = 'README.md'
read = '2026-11-22'
";

const MELUXINA: &str = include_str!("../../../configs/sites/meluxina.toml");

fn parse(more: &str) -> Result<Site, String> {
    Site::parse(&format!("{LEAST}{more}"), Path::new("here.toml")).map_err(|error| error.to_string())
}

#[test]
fn unknown_names_are_refused_with_line_and_neighbour() {
    assert_eq!(parse("[netwrok]\n").unwrap_err(), "here.toml:9: unknown section [netwrok]; did you mean network?");
    let message = parse("[partition.gpu]\nsources = ['us']\nmax-time = '1-0'\n").unwrap_err();
    assert_eq!(message, "here.toml:11: unknown [partition.gpu] max-time; did you mean max_time?");
    let message = parse("[mpi]\nstart = 'srun'\nsources = ['us']\nxyz = 1\n").unwrap_err();
    assert_eq!(message, "here.toml:12: unknown [mpi] xyz; here stand start, sources");
    let message = parse("[partition.gpu]\nsources = ['us']\ngpus = { cuont = 4 }\n").unwrap_err();
    assert_eq!(message, "here.toml:11: unknown [partition.gpu.gpus] cuont; did you mean count?");
    assert!(parse("[mpi\n").unwrap_err().starts_with("here.toml:9: not valid TOML: "));
    assert!(parse("[site]\n").unwrap_err().starts_with("here.toml:9: not valid TOML: duplicate key"));
}

#[test]
fn every_group_has_sources_and_every_source_is_of_use() {
    let message = parse("[mpi]\nstart = 'srun'\n").unwrap_err();
    assert_eq!(message, "here.toml:9: [mpi] sources is missing: expected the names of the [source.NAME] that say these facts");
    let message = parse("[mpi]\nstart = 'srun'\nsources = ['uss']\n").unwrap_err();
    assert_eq!(
        message,
        "here.toml:11: [mpi] sources = [\"uss\"]: expected names of [source.NAME] of this file, and \"uss\" is none; did you mean \"us\"?"
    );
    let message = parse("[source.them]\nurl = 'https://example.org/'\nread = '2026-11-22'\n").unwrap_err();
    assert_eq!(message, "here.toml:9: no facts name the source them: expected every source to be the source of something");
}

#[test]
fn values_are_checked() {
    let cases = [
        ("[mpi]\nsources = ['us']\nstart = 'ssh'\n", "here.toml:11: [mpi] start = \"ssh\": expected \"srun\" or \"pmix\""),
        ("[mpi]\nsources = ['us']\n", "here.toml:9: [mpi] start is missing: expected \"srun\""),
        ("[partition.gpu]\nsources = ['us']\nmax_time = 'soon'\n", "max_time = \"soon\": expected a time as Slurm writes it"),
        ("[partition.gpu]\nsources = ['us']\nnodes = 0\n", "nodes = 0: expected a whole number from 1"),
        ("[partition.gpu]\nsources = ['us']\ngpus = { count = 4 }\n", "[partition.gpu.gpus] vendor is missing"),
        ("[partition.gpu]\nsources = ['us']\ngpus = 4\n", "gpus = 4: expected a table in braces"),
        ("[partition]\nnodes = 4\n", "here.toml:10: [partition] nodes = 4: expected a section, [partition.NAME]"),
        ("[partition.'a b']\nsources = ['us']\n", "here.toml:9: a section of [partition] = \"a b\": expected a name of letters"),
        ("[qos.x]\nsources = ['us']\nmax_percent = 101\n", "expected a whole number from 1 to 100"),
        ("[submit]\nsources = ['us']\nrequired = ['account', 'money']\n", "expected a list of \"account\" or"),
        ("[submit]\nsources = ['us']\noptions = ['exclusive']\n", "expected options as sbatch takes them"),
        ("[submit]\nsources = ['us']\ngpu_request = '--gres=gpu:4'\n", "expected an option with {gpus}"),
        ("[network]\nsources = ['us']\ninterfaces = ['ib 0']\n", "expected names of interfaces"),
        ("[disk]\nsources = ['us']\nkind = 'ssd'\npath = 'tmp'\n", "expected a path from /"),
        ("[internet]\nsources = ['us']\ncompute_nodes = 'maybe'\n", "expected \"open\" or \"closed\""),
        ("[energy]\nsources = ['us']\nread_at = ['wall']\n", "expected a list of \"sacct\""),
        ("[note.x]\nsources = ['us']\ntext = \"two\\nlines\"\n", "expected a text on one line"),
        ("[source.x]\nurl = 'ftp://x'\nread = '2026-11-22'\n", "expected a link that begins with https://"),
        (
            "[source.x]\nurl = 'https://x'\ndocument = 'y'\nread = '2026-11-22'\n",
            "[source.x] url is missing: expected one of url",
        ),
        ("[source.x]\nurl = 'https://x'\nread = '2026-13-01'\n", "read = \"2026-13-01\": expected the day"),
    ];
    for (more, expected) in cases {
        let message = parse(more).unwrap_err();
        assert!(message.contains(expected), "{message}\n{expected}");
    }
    let of_head = |from: &str, to: &str| {
        let text = LEAST.replace(from, to);
        Site::parse(&text, Path::new("here.toml")).unwrap_err().to_string()
    };
    assert!(
        of_head("title = 'Here'", "title = 'Here'\ncountry = 'Lux'").contains("country = \"Lux\": expected two capital letters")
    );
    assert!(of_head("title = 'Here'", "").contains("here.toml:1: [site] title is missing"));
    assert!(
        of_head("title = 'Here'", "title = 'Here'\ndefault_partition = 'gpu'")
            .contains("expected the NAME of a [partition.NAME]")
    );
    assert!(Site::parse("", Path::new("here.toml")).unwrap_err().to_string().starts_with("here.toml: section [site] is missing"));
}

#[test]
fn the_document_names_every_section_and_key() {
    let document = include_str!("../../../docs/sites.md");
    let names = |text: &str| text.split_once("; here stand ").unwrap_or_else(|| panic!("{text}")).1.replace(',', " ");
    let all = names(&parse("[zzzzzzzzz]\n").unwrap_err());
    for section in all.split_whitespace() {
        let (head, title) = match section {
            "partition" | "qos" | "note" | "source" => (format!("[{section}.x]\n"), format!("| `[{section}.NAME]` |")),
            _ => (format!("[{section}]\n"), format!("| `[{section}]` |")),
        };
        let row = document.lines().find(|line| line.starts_with(&title)).unwrap_or_else(|| panic!("no row {title}"));
        let text = match section {
            "site" => Site::parse("[site]\nzzzzzzzzz = 1\n", Path::new("here.toml")).unwrap_err().to_string(),
            _ => parse(&format!("{head}zzzzzzzzz = 1\n")).unwrap_err(),
        };
        for key in names(&text).split_whitespace().filter(|key| *key != "sources") {
            assert!(row.contains(&format!("`{key}")), "{title} does not name {key}");
        }
    }
}

#[test]
fn sections_stay_in_the_order_of_the_file() {
    let site = parse("[qos.z]\nsources = ['us']\n[qos.a]\nsources = ['us']\n[qos.m]\nsources = ['us']\n").unwrap();
    assert_eq!(site.qos.iter().map(|qos| qos.facts.name.as_str()).collect::<String>(), "zam");
}

fn line() -> impl Strategy<Value = String> {
    let section = "\\[?\\[?(site|source|partition|qos|gpus|note|disk)?(\\.[a-z'\"]{0,3})?\\]?\\]?";
    let key = "(name|title|sources|gpus|max_time|required|environment|read_at|a\\.b)? ?=? ?[0-9a-z\"'\\[\\]{}=,:.*-]{0,12}";
    prop_oneof![section, key, "\\PC{0,20}", Just(LEAST.to_owned())]
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(lines in proptest::collection::vec(line(), 0..8), any in any::<String>()) {
        let _ = Site::parse(&lines.join("\n"), Path::new("here.toml"));
        let _ = Site::parse(&any, Path::new("here.toml"));
    }

    #[test]
    fn a_profile_with_any_line_changed_is_read_or_refused(number in 0usize..200, line in line()) {
        let mut lines: Vec<&str> = MELUXINA.lines().collect();
        let number = number % lines.len();
        lines[number] = &line;
        let _ = Site::parse(&lines.join("\n"), Path::new("meluxina.toml"));
    }
}
