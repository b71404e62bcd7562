//! Inclusion and consistency proofs against the published vectors, a log that Tessera wrote, and the recursive definitions of RFC 6962.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde::Deserialize;
use sirocco_ledger::LedgerError;
use sirocco_ledger::checkpoint::SignedCheckpoint;
use sirocco_ledger::hash::{Hash, empty_root, leaf, node, root, sha256};
use sirocco_ledger::key::VerifierKey;
use sirocco_ledger::proof::{Head, Nodes, check_consistency, check_inclusion, consistency, inclusion, tree_root};
use sirocco_ledger::source::Memory;
use sirocco_ledger::tlog_proof::prove;
use sirocco_ledger::verify::{Expected, Wrong, verify};
use sirocco_ledger::witness::TrustPolicy;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct InclusionCase {
    file: String,
    leaf_idx: u64,
    tree_size: u64,
    root: Option<String>,
    leaf_hash: Option<String>,
    proof: Option<Vec<String>>,
    want_err: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ConsistencyCase {
    file: String,
    size1: u64,
    size2: u64,
    root1: Option<String>,
    root2: Option<String>,
    proof: Option<Vec<String>>,
    want_err: bool,
}

#[derive(Deserialize)]
struct Cases {
    inclusion: Vec<InclusionCase>,
    consistency: Vec<ConsistencyCase>,
}

fn hash(text: Option<&String>) -> Option<Hash> {
    Hash::from_base64(text?)
}

/// Some vectors of equal sizes have other bytes than roots, because only their equality counts; those are hashed here.
fn root_or_words(text: Option<&String>) -> Option<Hash> {
    let words = text.filter(|text| !text.is_empty());
    hash(text).or_else(|| words.map(|words| sha256(words.as_bytes())))
}

fn proof(texts: Option<&Vec<String>>) -> Option<Vec<Hash>> {
    texts.map_or(Some(Vec::new()), |texts| texts.iter().map(|text| Hash::from_base64(text)).collect())
}

#[test]
fn published_proofs_are_judged_as_published() {
    let cases: Cases = serde_json::from_str(include_str!("vectors/merkle.json")).unwrap();
    let mut good = 0;
    for case in &cases.inclusion {
        let parts = (hash(case.leaf_hash.as_ref()), proof(case.proof.as_ref()), hash(case.root.as_ref()));
        let holds = match parts {
            (Some(leaf), Some(proof), Some(root)) => check_inclusion(&leaf, case.leaf_idx, case.tree_size, &proof, &root).is_ok(),
            // A proof with a hash that is not 32 bytes long cannot be said with our types.
            _ => false,
        };
        assert_eq!(holds, !case.want_err, "{}", case.file);
        good += u32::from(holds);
    }
    for case in &cases.consistency {
        let parts = (root_or_words(case.root1.as_ref()), proof(case.proof.as_ref()), root_or_words(case.root2.as_ref()));
        let holds = match parts {
            (Some(old), Some(proof), Some(new)) => {
                check_consistency(&Head { size: case.size1, root: old }, &Head { size: case.size2, root: new }, &proof).is_ok()
            }
            _ => false,
        };
        // Where C2SP tlog-witness says otherwise: an empty proof leads from no entries to any tree.
        let from_nothing = case.file.ends_with("/size1-is-zero-and-size2-is-not-zero.json");
        assert_eq!(holds, !case.want_err || from_nothing, "{}", case.file);
        good += u32::from(holds);
    }
    assert!(good >= 12 && cases.inclusion.len() >= 90 && cases.consistency.len() >= 90, "{good} good ones");
}

#[derive(Deserialize)]
struct Tessera {
    key: String,
    files: BTreeMap<String, String>,
}

fn tessera() -> (Memory, VerifierKey, Vec<SignedCheckpoint>) {
    let log: Tessera = serde_json::from_str(include_str!("vectors/tessera.json")).unwrap();
    let bytes = |text: &String| <base64ct::Base64 as base64ct::Encoding>::decode_vec(text).unwrap();
    let files: BTreeMap<String, Vec<u8>> = log.files.iter().map(|(path, text)| (path.clone(), bytes(text))).collect();
    let earlier = files.iter().filter(|(path, _)| path.starts_with("checkpoint."));
    let earlier = earlier.map(|(_, bytes)| SignedCheckpoint::parse(bytes).unwrap()).collect();
    (Memory(files), VerifierKey::parse(&log.key).unwrap(), earlier)
}

/// A log of 15 entries that another implementation wrote and signed, with a checkpoint after each entry.
#[test]
fn a_log_of_tessera_verifies_with_all_its_checkpoints() {
    let (log, key, earlier) = tessera();
    assert_eq!(earlier.len(), 16);
    assert!(earlier.iter().all(|signed| signed.note.verify(&[&key]).is_ok()));
    let mut expected = Expected::new(TrustPolicy::of_logs([key.clone()]).unwrap());
    expected.earlier = earlier.iter().map(|signed| signed.checkpoint.clone()).collect();
    expected.actions = false;
    let report = verify(&log, &expected).unwrap();
    assert!(report.is_sound() && report.size == 15, "{:?}", report.findings);
    for index in 0..15 {
        let proof = prove(&log, index).unwrap();
        let entry = proof.extra.clone().unwrap();
        assert!(proof.verify(&entry, &expected.policy).is_ok());
    }
    assert_eq!(prove(&log, 1).unwrap().extra.unwrap(), b"two");
    assert!(matches!(prove(&log, 15), Err(LedgerError::Outside { found: 15, size: 15, .. })));

    let mut changed = log.clone();
    changed.0.get_mut("tile/0/000.p/7").unwrap()[100] ^= 1;
    let findings = verify(&changed, &expected).unwrap().findings;
    assert_eq!(findings.iter().map(|f| (f.wrong, f.byte)).collect::<Vec<_>>(), [(Wrong::Partial, Some(100))]);
}

/// All nodes computed from the leaves when asked for.
struct Leaves(Vec<Hash>);

impl Nodes for Leaves {
    fn node(&self, level: u32, index: u64) -> Result<Hash, LedgerError> {
        let (from, to) = ((index << level) as usize, ((index + 1) << level) as usize);
        assert!(to <= self.0.len(), "only complete subtrees are asked for");
        Ok(root(&self.0[from..to]))
    }
}

fn leaves(count: u64) -> Leaves {
    Leaves((0..count).map(|index| leaf(&index.to_be_bytes())).collect())
}

/// MTH of RFC 6962 section 2.1, as it stands there.
fn mth(d: &[Hash]) -> Hash {
    match d.len() {
        0 => empty_root(),
        1 => d[0],
        n => {
            let k = n.next_power_of_two() / 2;
            node(&mth(&d[..k]), &mth(&d[k..]))
        }
    }
}

/// PATH of RFC 6962 section 2.1.1.
fn path(m: usize, d: &[Hash]) -> Vec<Hash> {
    if d.len() == 1 {
        return Vec::new();
    }
    let k = d.len().next_power_of_two() / 2;
    let (mut proof, sibling) = if m < k { (path(m, &d[..k]), mth(&d[k..])) } else { (path(m - k, &d[k..]), mth(&d[..k])) };
    proof.push(sibling);
    proof
}

/// SUBPROOF of RFC 6962 section 2.1.2.
fn subproof(m: usize, d: &[Hash], whole: bool) -> Vec<Hash> {
    if m == d.len() {
        return if whole { Vec::new() } else { vec![mth(d)] };
    }
    let k = d.len().next_power_of_two() / 2;
    let (mut proof, sibling) =
        if m <= k { (subproof(m, &d[..k], whole), mth(&d[k..])) } else { (subproof(m - k, &d[k..], false), mth(&d[..k])) };
    proof.push(sibling);
    proof
}

#[test]
fn all_small_trees_have_the_proofs_of_the_definitions() {
    let tree = leaves(40);
    for size in 1..=40_usize {
        let d = &tree.0[..size];
        let all = mth(d);
        assert_eq!(tree_root(&tree, size as u64).unwrap(), all);
        for index in 0..size {
            let proof = inclusion(&tree, index as u64, size as u64).unwrap();
            assert_eq!(proof, path(index, d), "entry {index} of {size}");
            check_inclusion(&d[index], index as u64, size as u64, &proof, &all).unwrap();
        }
        for old in 0..=size {
            let proof = consistency(&tree, old as u64, size as u64).unwrap();
            assert_eq!(proof, if old == 0 { Vec::new() } else { subproof(old, d, true) }, "{old} in {size}");
            let head = Head { size: old as u64, root: mth(&d[..old]) };
            check_consistency(&head, &Head { size: size as u64, root: all }, &proof).unwrap();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn proofs_of_any_size_are_those_of_the_definitions(size in 1_u64..3000, at: u64, old: u64, hurt: u64, bit in 0_u32..256) {
        let tree = leaves(size);
        let (index, old) = (at % size, 1 + old % size);
        let all = Head { size, root: mth(&tree.0) };
        let mut proof = inclusion(&tree, index, size).unwrap();
        prop_assert_eq!(&proof, &path(index as usize, &tree.0));
        let leaf = tree.0[index as usize];
        check_inclusion(&leaf, index, size, &proof, &all.root).unwrap();
        if index + 1 < size {
            prop_assert!(check_inclusion(&leaf, index + 1, size, &proof, &all.root).is_err());
        }
        prop_assert!(check_inclusion(&leaf, index, size, &[proof.clone(), vec![leaf]].concat(), &all.root).is_err());
        if !proof.is_empty() {
            let place = (hurt % proof.len() as u64) as usize;
            proof[place].0[(bit / 8) as usize] ^= 1 << (bit % 8);
            prop_assert!(check_inclusion(&leaf, index, size, &proof, &all.root).is_err());
            proof.pop();
            prop_assert!(check_inclusion(&leaf, index, size, &proof, &all.root).is_err());
        }
        let mut proof = consistency(&tree, old, size).unwrap();
        prop_assert_eq!(&proof, &subproof(old as usize, &tree.0, true));
        let before = Head { size: old, root: mth(&tree.0[..old as usize]) };
        check_consistency(&before, &all, &proof).unwrap();
        let forged = Head { root: leaf, ..before };
        prop_assert!(check_consistency(&forged, &all, &proof).is_err() || before.root == leaf);
        if !proof.is_empty() {
            let place = (hurt % proof.len() as u64) as usize;
            proof[place].0[(bit / 8) as usize] ^= 1 << (bit % 8);
            prop_assert!(check_consistency(&before, &all, &proof).is_err());
        }
    }

    #[test]
    fn any_numbers_and_hashes_are_judged_without_panic(a: u64, b: u64, count in 0_usize..80) {
        let hashes = vec![leaf(b"x"); count];
        let (old, new) = (Head { size: a, root: leaf(b"a") }, Head { size: b, root: leaf(b"b") });
        prop_assert!(check_inclusion(&leaf(b"y"), a, b, &hashes, &new.root).is_err());
        prop_assert!(check_consistency(&old, &new, &hashes).is_err());
    }
}
