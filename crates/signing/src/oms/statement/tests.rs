//! Statements as the specification shows them, and those that contradict it.

use super::*;

fn at() -> &'static Path {
    Path::new("model.sig")
}

fn resource(file: &str, range: Option<(u64, u64)>) -> Resource {
    Resource { file: file.to_owned(), range, digest: Digest::of(file.as_bytes()) }
}

fn files() -> Manifest {
    Manifest::new("my-model".to_owned(), Options::default(), vec![resource("b", None), resource("a/b", None)]).unwrap()
}

fn shards() -> Manifest {
    let options = Options { method: Method::Shards { size: NonZeroU64::new(10).unwrap() }, ..Options::default() };
    let resources = vec![resource("w:1", Some((0, 10))), resource("w:1", Some((10, 12)))];
    Manifest::new("my-model".to_owned(), options, resources).unwrap()
}

fn text(manifest: &Manifest) -> String {
    String::from_utf8(write(at(), manifest).unwrap()).unwrap()
}

#[test]
fn a_statement_has_the_fields_of_the_specification() {
    let manifest = files();
    let (root, one, two) = (manifest.oms_root_digest(), Digest::of(b"a/b"), Digest::of(b"b"));
    let expected = format!(
        concat!(
            r#"{{"_type":"https://in-toto.io/Statement/v1","subject":[{{"name":"my-model","digest":{{"sha256":"{root}"}}}}],"#,
            r#""predicateType":"https://model_signing/signature/v1.0","predicate":{{"resources":["#,
            r#"{{"name":"a/b","digest":"{one}","algorithm":"sha256"}},{{"name":"b","digest":"{two}","algorithm":"sha256"}}],"#,
            r#""serialization":{{"method":"files","hash_type":"sha256","allow_symlinks":false,"#,
            r#""ignore_paths":[".git",".gitattributes",".github",".gitignore","model.sig"]}}}}}}"#
        ),
        root = root,
        one = one,
        two = two
    );
    assert_eq!(text(&manifest), expected);
}

#[test]
fn what_is_written_is_read_back() {
    for manifest in [files(), shards()] {
        let read = read(at(), text(&manifest).as_bytes()).unwrap();
        assert_eq!((read.resources, read.options.method), (manifest.resources, manifest.options.method));
        assert_eq!(read.model, "my-model");
    }
}

#[test]
fn the_references_ways_of_writing_shards_are_read() {
    let theirs =
        text(&shards()).replace("\"sha256\"}", "\"sha256-sharded-10\"}").replace("\"shard_size\":10,", "\"shard_size\":10.0,");
    assert!(theirs.contains("sha256-sharded-10") && theirs.contains("10.0"));
    assert_eq!(read(at(), theirs.as_bytes()).unwrap().resources, shards().resources);
}

#[test]
fn fields_of_resources_that_nobody_knows_are_passed_over() {
    let more = text(&files()).replace("\"algorithm\":", "\"mediaType\":\"x\",\"algorithm\":");
    read(at(), more.as_bytes()).unwrap();
    let old = text(&files()).replace(r#","ignore_paths":[".git",".gitattributes",".github",".gitignore","model.sig"]"#, "");
    assert_eq!(read(at(), old.as_bytes()).unwrap().options.ignore, Vec::<String>::new());
    let slash = text(&files()).replace("\".git\"", "\".git/\"");
    assert!(read(at(), slash.as_bytes()).unwrap().options.ignore.contains(&".git".to_owned()));
}

#[test]
fn what_contradicts_the_specification_is_refused_with_the_field() {
    let (files, shards) = (text(&files()), text(&shards()));
    let changes = [
        (&files, "Statement/v1", "Statement/v0.1", "_type: found \"https://in-toto.io/Statement/v0.1\""),
        (&files, "signature/v1.0", "Digests/v0.1", "predicateType: found"),
        (&files, "\"sha256\"}", "\"blake3\"}", "resources.algorithm: found \"blake3\", which is not supported"),
        (&files, "\"sha256\"}", "\"sha256-sharded-10\"}", "resources.algorithm"),
        (&shards, "\"sha256\"}", "\"sha256-sharded-11\"}", "resources.algorithm"),
        (&files, "\"hash_type\":\"sha256\"", "\"hash_type\":\"blake2b\"", "serialization.hash_type"),
        (&files, "\"method\":\"files\"", "\"method\":\"tensors\"", "serialization.method"),
        (&files, "\"method\":\"files\"", "\"method\":\"shards\"", "no shard_size"),
        (&shards, "\"method\":\"shards\"", "\"method\":\"files\"", "a shard_size"),
        (&shards, "\"shard_size\":10", "\"shard_size\":0", "no positive whole number"),
        (&shards, "\"shard_size\":10", "\"shard_size\":10.5", "no positive whole number"),
        (&shards, "\"shard_size\":10", "\"shard_size\":-10", "no positive whole number"),
        (&shards, "\"shard_size\":10", "\"shard_size\":20", "no shard"),
        (&shards, "w:1:10:12", "w:1:10:21", "no shard"),
        (&shards, "w:1:10:12", "w:1:10:10", "no shard"),
        (&shards, "w:1:10:12", "w:1:12:10", "no shard"),
        (&shards, "w:1:10:12", "w:1:0:10", "the same name twice"),
        (&files, "\"name\":\"b\"", "\"name\":\"a/b\"", "the same name twice"),
        (&files, "\"name\":\"b\"", "\"name\":\"../b\"", "a path with .. in it"),
        (&files, "\"name\":\"b\"", "\"name\":\"/b\"", "a path that begins"),
        (&files, "\"name\":\"b\"", "\"name\":\"\"", "an empty path"),
        (&files, "\"model.sig\"", "\"*.sig\"", "a pattern"),
        (&files, "\"model.sig\"", "\"../model.sig\"", "a path with .. in it"),
        (&files, "\"allow_symlinks\":false", "\"allow_symlinks\":\"false\"", "the statement"),
        (&files, "\"allow_symlinks\":false", "\"allow_symlinks\":false,\"more\":1", "unknown field `more`"),
        (&files, "\"predicate\":{", "\"predicate\":{\"more\":1,", "unknown field `more`"),
        (&files, "\"digest\":{\"sha256\":\"", "\"digest\":{\"sha512\":\"", "subject.digest: found \"\""),
        (&files, "\"digest\":{\"sha256\":\"", "\"digest\":{\"sha256\":\"\",\"sha256\":\"", "the name \"sha256\" twice"),
        (&files, "\"subject\":[", "\"subject\":[{\"name\":\"x\",\"digest\":{}},", "subject: found none or several"),
    ];
    for (text, from, to, words) in changes {
        let changed = text.replacen(from, to, 1);
        assert_ne!(&changed, text, "{from}");
        let error = read(at(), changed.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(words) && error.starts_with("model.sig: "), "{to}: {error}");
    }
}

#[test]
fn a_root_digest_that_is_not_of_the_resources_is_refused() {
    let manifest = files();
    let changed = text(&manifest).replace(&manifest.oms_root_digest().to_string(), &Digest::of(b"").to_string());
    assert!(read(at(), changed.as_bytes()).unwrap_err().to_string().contains("the digest of all resources"));
    let none = r#"{"_type":"https://in-toto.io/Statement/v1","subject":[],"predicateType":"https://model_signing/signature/v1.0",
        "predicate":{"resources":[],"serialization":{"method":"files","hash_type":"sha256","allow_symlinks":false}}}"#;
    assert!(read(at(), none.as_bytes()).unwrap_err().to_string().contains("resources: found none"));
}
