//! Signed notes, keys, cosignatures, policies and proof files against published vectors, and against bytes that are none.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::prelude::*;
use sirocco_ledger::LedgerError;
use sirocco_ledger::checkpoint::SignedCheckpoint;
use sirocco_ledger::cosignature;
use sirocco_ledger::hash::{Hash, leaf, root};
use sirocco_ledger::key::{KeyType, Seal, SignerKey, VerifierKey};
use sirocco_ledger::note::{Note, SIGNATURE_LIMIT};
use sirocco_ledger::proof::Head;
use sirocco_ledger::tlog_proof::TlogProof;
use sirocco_ledger::witness::TrustPolicy;

// golang.org/x/mod (BSD-3-Clause), sumdb/note/note_test.go, commit fe2ec04f7c3c3aa6fad97631aafcff6e49e2d1db.
const PETER: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
const PETER_PRIVATE: &str = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";
const ENOCH: &str = "EnochRoot+af0cfe78+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop";
const TEXT: &str = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n";
const PETER_LINE: &str =
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
const ENOCH_LINE: &str =
    "— EnochRoot rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33WWd1RvMc+QQ=\n";

const COSIGNED: &[u8] = include_bytes!("vectors/cosigned.checkpoint");
const COSIGNED_POLICY: &str = include_str!("vectors/cosigned.policy");

fn key(text: &str) -> VerifierKey {
    VerifierKey::parse(text).unwrap()
}

fn note(lines: &str) -> Note {
    Note::parse(format!("{TEXT}\n{lines}").as_bytes()).unwrap()
}

#[test]
fn go_keys_are_read_and_every_mangled_one_is_refused() {
    for (text, read) in [
        (PETER, (|text| VerifierKey::parse(text).map(|key| key.to_string())) as fn(&str) -> Result<String, LedgerError>),
        (PETER_PRIVATE, |text| SignerKey::parse(text).map(|key| key.secret_text().to_string())),
    ] {
        assert_eq!(read(text).unwrap(), text);
        for from in 0..text.len() {
            for to in from..=text.len() {
                assert!((from, to) == (0, text.len()) || read(&text[from..to]).is_err(), "{:?}", &text[from..to]);
            }
        }
        for at in 0..text.len() {
            let mut bytes = text.as_bytes().to_vec();
            bytes[at] += 1;
            assert!(read(std::str::from_utf8(&bytes).unwrap()).is_err(), "byte {at}");
        }
    }
    assert!(VerifierKey::parse("PeterNeumann+cc469956+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TWBADKEY==").is_err());
    assert!(VerifierKey::parse("PeterNeumann+173116ae+ZRpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW").is_err());
    assert_eq!(SignerKey::parse(PETER_PRIVATE).unwrap().verifier(), key(PETER));
}

/// transparency-dev/formats (Apache-2.0), note/note_cosigv1_test.go: both types, and a `+` in the base64.
#[test]
fn keys_of_both_types_are_read_and_ml_dsa_is_refused_by_name() {
    assert_eq!(key("TEST+7997405c+AQcC+FTVKf0jlTdHDY3rbevmnKxxPjigCXlVtGe6RIr6").kind(), KeyType::Ed25519);
    let witness = "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2";
    assert_eq!((key(witness).kind(), key(witness).to_string()), (KeyType::Cosignature, witness.to_owned()));
    let error = VerifierKey::parse("test+5893dc2c+BtMcFiao6ZOdU6LZ40tLKbsWpDOU8smRapXBIYI3lXyE").unwrap_err().to_string();
    assert!(error.contains("ML-DSA-44"), "{error}");
}

#[test]
fn a_note_is_signed_as_go_signs_it() {
    let mut signed = Note::new(TEXT).unwrap();
    signed.sign(&SignerKey::parse(PETER_PRIVATE).unwrap(), Seal::Plain).unwrap();
    assert_eq!(signed.to_text(), format!("{TEXT}\n{PETER_LINE}"));
    signed.sign(&SignerKey::parse(PETER_PRIVATE).unwrap(), Seal::Plain).unwrap();
    assert_eq!(signed.to_text(), format!("{TEXT}\n{PETER_LINE}"), "a second signature of a key replaces its first");
    assert!(Note::new("abc").is_err());
}

/// C2SP signed-note, "Example".
#[test]
fn the_example_of_the_specification_verifies() {
    let key = key("example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k");
    let text = "This is an example message.\n\n— example.com/foo \
                Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n";
    let note = Note::parse(text.as_bytes()).unwrap();
    assert_eq!(note.verify(&[&key]).unwrap().len(), 1);
    assert_eq!(note.to_text(), text);
}

#[test]
fn known_keys_must_verify_and_others_are_ignored() {
    let (peter, enoch) = (key(PETER), key(ENOCH));
    let both = note(&format!("{PETER_LINE}{ENOCH_LINE}"));
    let names = |found: Vec<sirocco_ledger::note::Signed<'_>>| found.iter().map(|s| s.key.name().to_owned()).collect::<Vec<_>>();
    assert_eq!(names(both.verify(&[&peter]).unwrap()), ["PeterNeumann"]);
    assert_eq!(names(both.verify(&[&peter, &enoch]).unwrap()), ["PeterNeumann", "EnochRoot"]);
    assert!(matches!(both.verify(&[]), Err(LedgerError::NotSigned { .. })));
    assert_eq!(names(note(&PETER_LINE.repeat(3)).verify(&[&peter]).unwrap()), ["PeterNeumann"]);
    assert!(Note::parse(format!("{TEXT}\n{}", PETER_LINE.repeat(SIGNATURE_LIMIT + 1)).as_bytes()).is_err());

    let wrong = note(&ENOCH_LINE.replace("5n2tiOHp", "5n2tiOHq"));
    assert!(matches!(wrong.verify(&[&enoch]), Err(LedgerError::BadSignature { .. })));
    assert!(matches!(wrong.verify(&[&peter]), Err(LedgerError::NotSigned { .. })));
    let one_bad = note(&format!("{PETER_LINE}{}", ENOCH_LINE.replace("5n2tiOHp", "5n2tiOHq")));
    assert!(one_bad.verify(&[&peter]).is_ok());
    assert!(matches!(one_bad.verify(&[&peter, &enoch]), Err(LedgerError::BadSignature { .. })));
    let renamed = note(&PETER_LINE.replace("PeterNeumann", "CarmenSandiego"));
    assert!(matches!(renamed.verify(&[&peter]), Err(LedgerError::NotSigned { .. })));
}

#[test]
fn go_refuses_these_notes_and_so_do_we() {
    let bad = [
        TEXT.to_owned(),
        format!("{TEXT}\n"),
        format!("{TEXT}\n{}", PETER_LINE.trim_end()),
        format!("\x01{TEXT}\n{PETER_LINE}"),
        format!(
            "{TEXT}\n— Bad Name x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
        ),
        format!("{TEXT}\n{PETER_LINE}Unexpected line.\n"),
        format!("{TEXT}\n{}", PETER_LINE.replace('=', "")),
        format!("{TEXT}\n— a+b x08go/ZJ\n"),
        format!("{TEXT}\n— name x08gow==\n"),
        format!("{TEXT}\r\n{PETER_LINE}"),
    ];
    for text in bad {
        assert!(Note::parse(text.as_bytes()).is_err(), "{text:?}");
    }
    assert!(Note::parse(&[b"\xff", TEXT.as_bytes(), b"\n", PETER_LINE.as_bytes()].concat()).is_err());
}

/// A checkpoint of a public log with the cosignatures of four public witnesses, as published in the tests of a Python implementation of
/// tlog-cosignature, with the witnesses' published keys.
#[test]
fn a_real_checkpoint_with_real_witnesses_satisfies_its_policy() {
    let signed = SignedCheckpoint::parse(COSIGNED).unwrap();
    assert_eq!(signed.note.to_text().as_bytes(), COSIGNED);
    let policy = TrustPolicy::parse(COSIGNED_POLICY.as_bytes()).unwrap();
    let accepted = policy.check(&signed).unwrap();
    let names: Vec<&str> = accepted.witnesses.iter().map(|by| by.witness.as_str()).collect();
    assert_eq!(names, ["garden", "remora", "smartit", "stagemole"]);
    assert!(accepted.witnesses.iter().all(|by| by.time == 0x6a12_2120));

    let stricter = COSIGNED_POLICY.replace("north 1", "north all");
    let error = TrustPolicy::parse(stricter.as_bytes()).unwrap().check(&signed).unwrap_err();
    assert!(matches!(&error, LedgerError::NoQuorum { quorum, .. } if quorum == "both"), "{error}");
    let none = COSIGNED_POLICY.replace("quorum both", "quorum none");
    assert!(TrustPolicy::parse(none.as_bytes()).unwrap().check(&signed).is_ok());
}

#[test]
fn a_changed_checkpoint_or_time_breaks_every_signature() {
    let text = String::from_utf8(COSIGNED.to_vec()).unwrap();
    let policy = TrustPolicy::parse(COSIGNED_POLICY.as_bytes()).unwrap();
    for (from, to) in [("1432088532", "1432088533"), ("U7WM", "U7WN"), ("BqEiEgPlfF", "BqEiEhPlfF"), ("ui8GwCF1", "ui8GwCF2")] {
        let changed = SignedCheckpoint::parse(text.replacen(from, to, 1).as_bytes()).unwrap();
        assert!(matches!(policy.check(&changed), Err(LedgerError::BadSignature { .. })), "{from} → {to}");
    }
    let renamed = SignedCheckpoint::parse(text.replacen("arche2025h1", "arche2025h2", 1).as_bytes()).unwrap();
    assert!(matches!(policy.check(&renamed), Err(LedgerError::NotSigned { .. })));
}

#[test]
fn wrong_policies_say_which_line() {
    let witness = "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2";
    let other = "witness.stagemole.eu+67f7aea0+BEqSG3yu9YrmcM3BHvQYTxwFj3uSWakQepafafpUqklv";
    let rows = [
        (format!("witness w {witness}\n"), "end"),
        ("quorum none".to_owned(), "end"),
        ("quorum unknown\n".to_owned(), "line 1"),
        ("quorum none\nquorum none\n".to_owned(), "line 2"),
        (format!("witness w {witness}\nwitness w {other}\nquorum w\n"), "line 2"),
        (format!("witness v {witness}\nwitness w {witness}\nquorum w\n"), "line 2"),
        (format!("witness w {witness}\ngroup g -1 w\nquorum g\n"), "line 2"),
        (format!("witness w {witness}\ngroup g 0 w\nquorum g\n"), "line 2"),
        (format!("witness w {witness}\ngroup g 2 w\nquorum g\n"), "line 2"),
        (format!("witness w {witness}\ngroup g any\nquorum g\n"), "line 2"),
        (format!("witness w {witness}\ngroup g any none\nquorum g\n"), "line 2"),
        (format!("witness w {witness}\ngroup g 2 w w\nquorum g\n"), "line 2"),
        (format!("witness w {witness}\ngroup g any w\ngroup h any w\nquorum h\n"), "line 3"),
        ("group g any g\nquorum g\n".to_owned(), "line 1"),
        (format!("witness none {witness}\nquorum none\n"), "line 1"),
        (format!("witness w {witness} https://a b\nquorum w\n"), "line 1"),
        (format!("log {PETER}\nlog {PETER}\nquorum none\n"), "line 2"),
        (format!("log {PETER}x\nquorum none\n"), "line 1"),
        ("quorum none\r\n".to_owned(), "line 1"),
        ("logs\nquorum none\n".to_owned(), "line 1"),
    ];
    for (text, place) in rows {
        let error = TrustPolicy::parse(text.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(&format!("{place}, ")) || error.contains(&format!("{place}:")), "{text}: {error}");
    }
    let log_as_witness = TrustPolicy::parse(format!("witness w {PETER}\nquorum w\n").as_bytes());
    assert!(matches!(log_as_witness, Err(LedgerError::WrongKeyType { .. })));
    let witness_as_log = TrustPolicy::parse(format!("log {witness}\nquorum none\n").as_bytes());
    assert!(matches!(witness_as_log, Err(LedgerError::WrongKeyType { .. })));
}

fn signer(name: &str, kind: KeyType, secret: u8) -> SignerKey {
    SignerKey::new(name, kind, &[secret; 32]).unwrap()
}

fn checkpoint(origin: &str, leaves: &[Hash]) -> SignedCheckpoint {
    let text = format!("{origin}\n{}\n{}\n", leaves.len(), root(leaves));
    let mut note = Note::new(text).unwrap();
    note.sign(&signer(origin, KeyType::Ed25519, 1), Seal::Plain).unwrap();
    SignedCheckpoint::parse(note.to_text().as_bytes()).unwrap()
}

#[test]
fn a_witness_cosigns_only_what_continues_what_it_saw() {
    let leaves: Vec<Hash> = (0_u8..3).map(|byte| leaf(&[byte])).collect();
    let witness = signer("ministry", KeyType::Cosignature, 2);
    let mut third = checkpoint("runs", &leaves);
    let second = Head { size: 2, root: root(&leaves[..2]) };
    let line = cosignature::cosign(&witness, 1_700_000_000, Some(&second), &third, &[leaves[2]]).unwrap();
    third.note.add(line);
    let key = witness.verifier();
    assert_eq!(third.note.verify(&[&key]).unwrap()[0].time, Some(1_700_000_000));

    let forked = Head { size: 2, root: leaves[0] };
    for (last, proof) in [(forked, vec![leaves[2]]), (Head { size: 4, root: leaves[0] }, vec![]), (second, vec![])] {
        let refused = cosignature::cosign(&witness, 1, Some(&last), &third, &proof).unwrap_err();
        assert!(matches!(refused, LedgerError::Fork { .. }), "{refused}");
    }
    let log_key = signer("runs", KeyType::Ed25519, 1);
    assert!(matches!(cosignature::cosign(&log_key, 1, None, &third, &[]), Err(LedgerError::WrongKeyType { .. })));
    assert!(witness.sign("a\n", Seal::Plain).is_err() && witness.sign("a\n", Seal::At(1 << 63)).is_err());
}

#[test]
fn two_witnesses_that_disagree_are_a_fork() {
    let leaves: Vec<Hash> = (0_u8..2).map(|byte| leaf(&[byte])).collect();
    let (a, b) = (checkpoint("runs", &leaves), checkpoint("runs", &[leaves[1], leaves[0]]));
    assert!(matches!(a.checkpoint.check_same_size(&b.checkpoint), Err(LedgerError::Fork { .. })));
    assert!(a.checkpoint.check_same_size(&a.checkpoint.clone()).is_ok());
}

#[test]
fn a_proof_file_is_written_as_the_specification_has_it() {
    let leaves: Vec<Hash> = (0_u8..3).map(|byte| leaf(&[byte])).collect();
    let checkpoint = checkpoint("runs", &leaves);
    let proof = TlogProof { extra: Some(b"\x01".to_vec()), index: 1, hashes: vec![leaves[0], leaves[2]], checkpoint };
    let body = proof.checkpoint.note.to_text();
    let expected = format!("c2sp.org/tlog-proof@v1\nextra AQ==\nindex 1\n{}\n{}\n\n{body}", leaves[0], leaves[2]);
    assert_eq!(proof.to_text(), expected);
    assert_eq!(TlogProof::parse(expected.as_bytes()).unwrap(), proof);
    let policy = TrustPolicy::of_logs([signer("runs", KeyType::Ed25519, 1).verifier()]).unwrap();
    assert_eq!(proof.verify(&[1], &policy).unwrap().log, "runs");
    assert!(matches!(proof.verify(&[2], &policy), Err(LedgerError::BadProof { .. })));
    let stranger = TrustPolicy::of_logs([signer("runs", KeyType::Ed25519, 9).verifier()]).unwrap();
    assert!(matches!(proof.verify(&[1], &stranger), Err(LedgerError::NotSigned { .. })));
}

/// The refused texts of transparency-dev/formats (Apache-2.0), proof/tlog_proof_test.go.
#[test]
fn wrong_proof_files_are_refused() {
    let body = checkpoint("runs", &[leaf(b"")]).note.to_text();
    let rows = [
        format!("wrong-header\nindex 0\n\n{body}"),
        format!("c2sp.org/tlog-proof@v1\nextra !!notbase64!!\nindex 0\n\n{body}"),
        format!("c2sp.org/tlog-proof@v1\n\n\n{body}"),
        format!("c2sp.org/tlog-proof@v1\nindex notanumber\n\n{body}"),
        format!("c2sp.org/tlog-proof@v1\nindex -5\n\n{body}"),
        format!("c2sp.org/tlog-proof@v1\nindex 00\n\n{body}"),
        format!("c2sp.org/tlog-proof@v1\nindex 0\n!!notbase64!!\n\n{body}"),
        format!("c2sp.org/tlog-proof@v1\nindex 0\n{}\n\n{body}", "A".repeat(86) + "=="),
        format!("c2sp.org/tlog-proof@v1\nindex 0\n{}\n{body}", format!("{}\n", leaf(b"")).repeat(65)),
        format!("c2sp.org/tlog-proof@v1\nindex 0\n{}\n", "a".repeat(65 * 1024)),
        "c2sp.org/tlog-proof@v1\nindex 0\n\ncheckpoint\n".to_owned(),
    ];
    assert!(TlogProof::parse(format!("c2sp.org/tlog-proof@v1\nindex 0\n\n{body}").as_bytes()).is_ok());
    for text in rows {
        assert!(TlogProof::parse(text.as_bytes()).is_err(), "{text}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_refused_or_written_back(bytes in prop::collection::vec(any::<u8>(), 0..300), at in 0_usize..2000, byte: u8) {
        let body = checkpoint("runs", &[leaf(b"")]).note.to_text();
        let proof = format!("c2sp.org/tlog-proof@v1\nextra AQ==\nindex 0\n\n{body}").into_bytes();
        for seed in [bytes, COSIGNED.to_vec(), COSIGNED_POLICY.as_bytes().to_vec(), PETER.as_bytes().to_vec(), proof] {
            let mut text = seed;
            if !text.is_empty() {
                let place = at % text.len();
                text[place] = byte;
            }
            if let Ok(note) = Note::parse(&text) {
                prop_assert_eq!(note.to_text().into_bytes(), text.clone());
            }
            if let Ok(proof) = TlogProof::parse(&text) {
                prop_assert_eq!(proof.to_text().into_bytes(), text.clone());
            }
            let _ = TrustPolicy::parse(&text);
            let text = String::from_utf8_lossy(&text);
            let _ = (VerifierKey::parse(&text), SignerKey::parse(&text), sirocco_ledger::note::Signature::parse(&text));
        }
    }
}
