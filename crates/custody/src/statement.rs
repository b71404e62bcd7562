//! What a run or a merge says of itself in the statement that travels with its result.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use sirocco_files::BareDigest;
use sirocco_ledger::time::Time;
use sirocco_policy::{Kind, Name};
use sirocco_signing::provenance::{Build, Facts, Input, Role};

use crate::custody::Custody;
use crate::error::CustodyError;
use crate::lineage::Lineage;

/// What is known where something is made.
#[derive(Clone, Debug)]
pub struct Statement<'a> {
    /// What was done.
    pub build: Build,
    /// A name that no other run of this site has.
    pub run: String,
    /// When it began and ended.
    pub when: (Time, Time),
    /// What a person asked for.
    pub parameters: Map<String, Value>,
    /// What the programs settled themselves.
    pub settled: Map<String, Value>,
    /// The digest of the complete run file.
    pub configuration: BareDigest,
    /// What was used, with digests.
    pub lineage: &'a Lineage,
    /// What was made.
    pub made: &'a Name,
}

impl Statement<'_> {
    /// The statement, with the program, the rules and everything that was used.
    ///
    /// # Errors
    /// A file of /proc that cannot be read.
    pub fn facts(self, custody: &Custody) -> Result<Facts, CustodyError> {
        let author = custody.author()?;
        let input =
            |role, name: &str, digest: BareDigest, directory| Input { role, name: name.to_owned(), uri: None, digest, directory };
        let mut inputs = vec![
            input(Role::Configuration, "run.toml", self.configuration, false),
            input(Role::Binary, "program", author.binary.into(), false),
            input(Role::Policy, &custody.set().path.display().to_string(), custody.set().set.digest(), true),
        ];
        for (name, digest) in &self.lineage.digests {
            let role = match name.kind {
                Kind::Data => Role::Data,
                Kind::Model | Kind::Merged => Role::BaseModel,
                Kind::Adapter => Role::Adapter,
                Kind::Checkpoint => Role::Checkpoint,
                Kind::Endpoint => continue,
            };
            if name != self.made {
                inputs.push(input(role, &name.name, *digest, name.kind != Kind::Data));
            }
        }
        Ok(Facts {
            build: self.build,
            run: self.run,
            builder: format!("urn:sirocco:site:{}", custody.site()),
            versions: BTreeMap::from([("sirocco".to_owned(), env!("CARGO_PKG_VERSION").to_owned())]),
            started: self.when.0.to_string(),
            finished: self.when.1.to_string(),
            parameters: self.parameters,
            settled: self.settled,
            inputs,
        })
    }
}
