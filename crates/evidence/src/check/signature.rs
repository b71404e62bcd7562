//! Is every file of the bundle one that a trusted key signed, and is none missing?

use std::collections::BTreeMap;

use sirocco_files::BareDigest;
use sirocco_signing::manifest::Method;
use sirocco_signing::oms;
use sirocco_signing::trust::role;

use super::{Check, Finding, Seen};
use crate::layout::RECORD;

const NAME: &str = "signature";

pub(super) fn check(seen: &Seen<'_>) -> Check {
    let Some(bytes) = seen.files.get(oms::FILE) else {
        return failed(Finding::new(oms::FILE, "is missing: nothing here is signed"));
    };
    let trust = seen.demand.trusted.trust.with_role(role::RELEASE);
    let path = seen.files.path.join(oms::FILE);
    let signed = trust.and_then(|trust| {
        oms::expect_own_form(&path, bytes)?;
        oms::read_bytes(&path, bytes, &trust)
    });
    let signed = match signed {
        Ok(signed) => signed,
        Err(error) => return failed(Finding::new(oms::FILE, error.to_string())),
    };
    let options = &signed.manifest.options;
    if options.method != Method::Files || options.ignore.iter().any(|entry| entry != oms::FILE && !entry.starts_with(".git")) {
        return failed(Finding::new(oms::FILE, "leaves files out, or covers parts of them: expected all files, whole"));
    }
    // With the same key other directories are signed, too.
    if signed.manifest.resources.iter().all(|resource| resource.file != RECORD) {
        return failed(Finding::new(oms::FILE, format!("is the signature of something else: it does not cover {RECORD}")));
    }
    let mut unseen: BTreeMap<&str, BareDigest> =
        signed.manifest.resources.iter().map(|resource| (resource.file.as_str(), resource.digest)).collect();
    let mut findings = Vec::new();
    for (name, bytes) in seen.files.files.iter().filter(|(name, _)| *name != oms::FILE) {
        match unseen.remove(name.as_str()) {
            None => findings.push(Finding::new(name, "was added: it is not signed")),
            Some(digest) if digest != BareDigest::of(bytes) => {
                findings.push(Finding::new(name, "was changed: its bytes are not those that were signed"));
            }
            Some(_) => {}
        }
    }
    findings.extend(unseen.into_keys().map(|name| Finding::new(name, "is missing: it was signed")));
    findings
        .extend(seen.files.odd.iter().map(|odd| Finding::new(&odd.file, format!("is {}: expected regular files", odd.found))));
    let (count, signer) = (seen.files.files.len(), &signed.signer.name);
    let looked_at = if findings.is_empty() {
        format!("{count} files, signed by {signer}")
    } else {
        format!("{} of {count} files are not as {signer} signed them", findings.len())
    };
    Check::of(NAME, looked_at, findings)
}

fn failed(finding: Finding) -> Check {
    Check::of(NAME, "the signature over all files".to_owned(), vec![finding])
}
