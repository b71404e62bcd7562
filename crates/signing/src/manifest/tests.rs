//! Manifests of directories made for the purpose, and how directories differ from them.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;

use rustix::fs::{CWD, Mode, mkfifoat};
use tempfile::TempDir;

use super::*;

fn directory(files: &[(&str, &str)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    dir
}

fn shards(size: u64) -> Options {
    Options { method: Method::Shards { size: NonZeroU64::new(size).unwrap() }, ..Options::default() }
}

fn names(manifest: &Manifest) -> Vec<String> {
    manifest.resources.iter().map(Resource::name).collect()
}

fn differences(manifest: &Manifest, dir: &TempDir) -> Differences {
    manifest.compare(dir.path(), &[], &[]).unwrap().0
}

fn texts(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn lines_are_sorted_by_name_and_the_root_digest_of_oms_is_over_their_digests() {
    let dir = directory(&[("a/b", "2"), ("a-b", "1"), ("z", ""), ("é", "3")]);
    let manifest = Manifest::of(dir.path(), Options::default()).unwrap();
    assert_eq!(names(&manifest), ["a-b", "a/b", "z", "é"]);
    let all: Vec<u8> = ["1", "2", "", "3"].iter().flat_map(|text| Digest::of(text.as_bytes()).as_bytes().to_vec()).collect();
    assert_eq!(manifest.oms_root_digest(), Digest::of(&all));
    assert_eq!(dir.path().file_name().unwrap().to_str().unwrap(), manifest.model);
}

#[test]
fn shards_cut_files_and_leave_empty_ones_out() {
    let dir = directory(&[("w:1", "0123456789"), ("even", "01234567"), ("empty", "")]);
    let manifest = Manifest::of(dir.path(), shards(4)).unwrap();
    assert_eq!(names(&manifest), ["even:0:4", "even:4:8", "w:1:0:4", "w:1:4:8", "w:1:8:10"]);
    assert_eq!(manifest.resources[4].digest, Digest::of(b"89"));
    let (none, coverage) = manifest.compare(dir.path(), &[], &[]).unwrap();
    assert!(none.is_empty());
    assert_eq!((coverage.files, coverage.bytes, coverage.uncovered), (2, 18, texts(&["empty"])));
}

#[test]
fn what_is_left_out_is_left_out_with_all_below_it_and_nowhere_else() {
    let files = [("a", "1"), ("cache/x/y", "2"), ("sub/cache", "3"), ("cached", "4"), (".git/HEAD", "5"), ("sub/.git", "6")];
    let dir = directory(&files);
    let options = Options { ignore: texts(&["cache", "not-there"]), ..Options::default() };
    let manifest = Manifest::of(dir.path(), options).unwrap();
    assert_eq!(names(&manifest), ["a", "cached", "sub/.git", "sub/cache"]);
    let (none, coverage) = manifest.compare(dir.path(), &[], &[]).unwrap();
    assert!(none.is_empty());
    assert_eq!(coverage.uncovered, [".git/", "cache/"]);
}

#[test]
fn a_signed_file_counts_even_where_others_are_left_out() {
    let dir = directory(&[(".gitattributes", "1"), (".github/x", "2"), ("a", "3")]);
    let resources = [".gitattributes", "a"].map(|name| {
        let digest = Digest::of(&fs::read(dir.path().join(name)).unwrap());
        Resource { file: name.to_owned(), range: None, digest }
    });
    let manifest = Manifest::new("m".into(), Options::default(), resources.to_vec()).unwrap();
    let (none, coverage) = manifest.compare(dir.path(), &[], &[]).unwrap();
    assert!(none.is_empty(), "{none}");
    assert_eq!(coverage.uncovered, [".github/"]);
    fs::write(dir.path().join(".gitattributes"), "other").unwrap();
    assert_eq!(differences(&manifest, &dir).changed, [".gitattributes"]);
}

#[test]
fn paths_to_leave_out_are_relative_and_no_patterns() {
    for bad in ["", "/a", "../a", "a/../b", "a/", "./a", "*.bin", "a?", "[ab]"] {
        let options = Options { ignore: texts(&[bad]), ..Options::default() };
        assert!(matches!(options.check(), Err(Error::BadIgnore { .. })), "{bad}");
    }
}

#[test]
fn nothing_to_sign_is_an_error() {
    let dir = directory(&[(".git/HEAD", "x")]);
    let error = Manifest::of(dir.path(), Options::default()).unwrap_err();
    assert!(matches!(&error, Error::Empty { path } if path == dir.path()), "{error}");
    fs::write(dir.path().join("file"), "x").unwrap();
    let file = Manifest::of(&dir.path().join("file"), Options::default()).unwrap_err();
    assert!(matches!(file, Error::NotADirectory { .. }), "{file}");
    let gone = Manifest::of(&dir.path().join("gone"), Options::default()).unwrap_err();
    assert!(matches!(gone, Error::Io { .. }), "{gone}");
}

#[test]
fn links_are_refused_or_followed_to_files_only() {
    let dir = directory(&[("a", "1"), ("sub/b", "2")]);
    let away = directory(&[("c", "3")]);
    symlink(dir.path().join("a"), dir.path().join("inside")).unwrap();
    symlink(away.path().join("c"), dir.path().join("outside")).unwrap();
    let refused = Manifest::of(dir.path(), Options::default()).unwrap_err().to_string();
    assert!(refused.contains("side: a symbolic link, expected a regular file"), "{refused}");

    let follow = Options { follow_links: true, ..Options::default() };
    let manifest = Manifest::of(dir.path(), follow.clone()).unwrap();
    assert_eq!(names(&manifest), ["a", "inside", "outside", "sub/b"]);
    assert_eq!(manifest.resources[2].digest, Digest::of(b"3"));
    assert_eq!(manifest.compare(dir.path(), &[], &[]).unwrap().1.outside, ["outside"]);
    fs::write(away.path().join("c"), "other").unwrap();
    assert_eq!(differences(&manifest, &dir).changed, ["outside"]);

    for (target, words) in [("sub", "a symbolic link to a directory"), ("gone", "leads nowhere"), ("loop", "")] {
        let link = dir.path().join("loop");
        symlink(dir.path().join(target), &link).unwrap();
        let error = Manifest::of(dir.path(), follow.clone()).unwrap_err().to_string();
        assert!(error.contains("loop") && error.contains(words), "{error}");
        fs::remove_file(link).unwrap();
    }
}

#[test]
fn a_file_put_in_the_place_of_a_link_or_the_other_way_is_found() {
    let dir = directory(&[("a", "1"), ("b", "2")]);
    let manifest = Manifest::of(dir.path(), Options::default()).unwrap();
    fs::remove_file(dir.path().join("b")).unwrap();
    symlink("a", dir.path().join("b")).unwrap();
    let error = manifest.compare(dir.path(), &[], &[]).unwrap_err().to_string();
    assert!(error.contains("b: a symbolic link"), "{error}");
}

#[test]
fn what_is_no_file_and_what_has_no_name_is_refused() {
    let dir = directory(&[("a", "1")]);
    let pipe = dir.path().join("pipe");
    mkfifoat(CWD, &pipe, Mode::RUSR | Mode::WUSR).unwrap();
    let error = Manifest::of(dir.path(), Options::default()).unwrap_err().to_string();
    assert!(error.contains("pipe: a pipe, socket or device"), "{error}");
    fs::remove_file(pipe).unwrap();
    // Some file systems take no such name: then there is nothing to refuse.
    let Ok(()) = fs::write(dir.path().join(OsStr::from_bytes(b"\xff")), "x") else {
        eprintln!("skipped: the file system of {} refuses names that are not UTF-8", dir.path().display());
        return;
    };
    let error = Manifest::of(dir.path(), Options::default()).unwrap_err().to_string();
    assert!(error.contains("a name that is not UTF-8"), "{error}");
}

#[test]
fn digests_from_elsewhere_are_sorted_and_must_be_distinct_relative_files() {
    let resource = |file: &str| Resource { file: file.to_owned(), range: None, digest: Digest::of(b"x") };
    let new = |resources| Manifest::new("m".into(), Options::default(), resources);
    assert_eq!(names(&new(vec![resource("b"), resource("a")]).unwrap()), ["a", "b"]);
    assert!(matches!(new(Vec::new()), Err(Error::Empty { .. })));
    for bad in [vec![resource("a"), resource("a")], vec![resource("../a")], vec![resource("")]] {
        assert!(matches!(new(bad), Err(Error::BadFile { .. })));
    }
}

#[test]
fn the_digest_covers_names() {
    let one = directory(&[("a", "first"), ("b", "second")]);
    // The same contents in the same order under other names: a name inserted, the two in other places.
    let renamed = directory(&[("a", "first"), ("c", "second")]);
    let [one, renamed] = [&one, &renamed].map(|dir| Manifest::of(dir.path(), Options::default()).unwrap());
    assert_eq!(one.oms_root_digest(), renamed.oms_root_digest(), "which is why nothing refers to it");
    assert_ne!(one.digest(), renamed.digest());
    let lines = format!("{}  a\n{}  b\n", Digest::of(b"first"), Digest::of(b"second"));
    assert_eq!(one.digest(), Digest::of(lines.as_bytes()));
    // Whatever order a statement has them in.
    let reversed = Manifest { resources: one.resources.iter().rev().cloned().collect(), ..one.clone() };
    assert_eq!(reversed.digest(), one.digest());
}

#[test]
fn shards_and_files_of_the_same_name_have_other_digests() {
    let file = Resource { file: "w:0:4".to_owned(), range: None, digest: Digest::of(b"0123") };
    let shard = Resource { file: "w".to_owned(), range: Some((0, 4)), digest: Digest::of(b"0123") };
    let file = Manifest::new("m".into(), Options::default(), vec![file]).unwrap();
    let [four, five] = [4, 5].map(|size| Manifest::new("m".into(), shards(size), vec![shard.clone()]).unwrap());
    assert_eq!(names(&file), names(&four));
    assert_ne!(file.digest(), four.digest());
    assert_ne!(four.digest(), five.digest());
}

#[test]
fn a_name_with_a_line_break_is_refused() {
    let dir = directory(&[("a", "1"), ("b\nc", "2")]);
    let error = Manifest::of(dir.path(), Options::default()).unwrap_err().to_string();
    assert!(error.contains("a path with a line break"), "{error}");
}

fn known(file: &str, content: &str) -> KnownFile {
    KnownFile { file: file.to_owned(), bytes: content.len() as u64, digest: Digest::of(content.as_bytes()) }
}

#[test]
fn known_files_are_not_read_and_everything_else_is() {
    let dir = directory(&[("a", "1"), ("b", "22"), ("c/d", "333")]);
    let elsewhere = KnownFile { digest: Digest::of(b"not what is there"), ..known("b", "22") };
    let manifest = {
        let options = Options { ignore: texts(&["model.sig"]), ..Options::default() };
        Manifest::of_known(dir.path(), options, std::slice::from_ref(&elsewhere)).unwrap()
    };
    let all = Manifest::of(dir.path(), Options::default()).unwrap();
    assert_eq!(names(&manifest), names(&all));
    assert_eq!(manifest.resources[1].digest, elsewhere.digest, "taken from the caller");
    assert_eq!((manifest.resources[0].digest, manifest.resources[2].digest), (all.resources[0].digest, all.resources[2].digest));

    let wrong = [known("b", "2"), known("gone", "")];
    let found = Manifest::of_known(dir.path(), Options::default(), &wrong);
    let Err(Error::NotAsRecorded { differences, .. }) = found else { panic!() };
    assert_eq!((differences.changed, differences.missing), (texts(&["b"]), texts(&["gone"])));
}

#[test]
fn known_files_are_compared_by_what_is_known() {
    let dir = directory(&[("a", "1"), ("b", "22"), ("c", "333")]);
    let manifest = Manifest::of(dir.path(), Options::default()).unwrap();
    let differences = |known: &[KnownFile]| manifest.compare(dir.path(), &[], known).unwrap().0;
    assert!(differences(&[known("a", "1"), known("b", "22")]).is_empty());
    // Bytes that nobody reads here: the caller does.
    fs::write(dir.path().join("b"), "xx").unwrap();
    assert!(differences(&[known("b", "22")]).is_empty());
    assert_eq!(differences(&[]).changed, ["b"]);
    assert_eq!(differences(&[known("b", "xx"), known("a", "2")]).changed, ["a", "b"]);
    fs::write(dir.path().join("b"), "222").unwrap();
    assert_eq!(differences(&[known("b", "22")]).changed, ["b"], "the size is compared");
    assert_eq!(differences(&[known("b", "22"), known("z", "")]).extra, ["z"], "what nobody signed cannot be relied on");
}

#[test]
fn every_kind_of_difference_is_named_for_files_and_shards() {
    for options in [Options::default(), shards(3)] {
        let dir = directory(&[("a", "aaaa"), ("b", "bbbb"), ("c", "cccccc"), ("d/e", "eeee"), ("f", "ffff")]);
        let manifest = Manifest::of(dir.path(), options).unwrap();
        assert!(differences(&manifest, &dir).is_empty());
        fs::write(dir.path().join("a"), "aaab").unwrap();
        fs::write(dir.path().join("c"), "ccc").unwrap();
        fs::write(dir.path().join("f"), "ffffffff").unwrap();
        fs::remove_file(dir.path().join("b")).unwrap();
        fs::rename(dir.path().join("d/e"), dir.path().join("d/g")).unwrap();
        let found = differences(&manifest, &dir);
        assert_eq!(found.changed, ["a", "c", "f"]);
        assert_eq!(found.missing, ["b", "d/e"]);
        assert_eq!(found.extra, ["d/g"]);
    }
}

#[test]
fn tiny_shards_of_a_long_file_cost_no_memory() {
    let dir = directory(&[("a", "x")]);
    let manifest = Manifest::of(dir.path(), shards(1)).unwrap();
    let sparse = fs::OpenOptions::new().write(true).open(dir.path().join("a")).unwrap();
    sparse.set_len(1 << 33).unwrap();
    assert_eq!(differences(&manifest, &dir).changed, ["a"]);
}
