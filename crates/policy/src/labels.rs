//! Labels of artefacts and how they are inherited: of several, the strictest holds, label by label.
//!
//! A label that is not known is stricter than every value that is: what is made from something unlabelled is unlabelled, too.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize, Serializer};

use crate::country::Country;
use crate::day::Day;
use crate::written::{label, licences};

/// Where something may be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Residency {
    /// In these countries and nowhere else.
    In(BTreeSet<Country>),
    /// Anywhere.
    #[serde(serialize_with = "anywhere")]
    Anywhere,
}

/// What something may be used for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Purposes {
    /// For these and nothing else; the names are those of `[purpose.NAME]` in the facts.
    Only(BTreeSet<String>),
    /// For anything.
    #[serde(serialize_with = "any")]
    Any,
}

/// How much a leak would hurt. Five steps in this order; a ministry maps its own words onto them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the five words are the values")]
pub enum Classification {
    Public,
    Internal,
    Restricted,
    Confidential,
    Secret,
}

/// Whether people can be recognised in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PersonalData {
    /// Nobody.
    None,
    /// Only with further information that is kept apart.
    Pseudonymised,
    /// Yes.
    Present,
}

/// The last day on which something may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(untagged)]
pub enum Expiry {
    /// That day is the last one.
    On(Day),
    /// It does not expire.
    #[serde(serialize_with = "never")]
    Never,
}

/// Every licence that something is under.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Licences {
    /// SPDX identifiers, or names that begin with `LicenseRef-`.
    pub names: BTreeSet<String>,
    /// False if a part's licence is not known: then `names` are only those that are.
    pub all_known: bool,
}

/// What is known about an artefact. `None` is "not known".
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Labels {
    /// Where it may be.
    #[serde(deserialize_with = "label", skip_serializing_if = "Option::is_none")]
    pub residency: Option<Residency>,
    /// How much a leak would hurt.
    #[serde(deserialize_with = "label", skip_serializing_if = "Option::is_none")]
    pub classification: Option<Classification>,
    /// Every licence that it is under.
    #[serde(rename = "licence", deserialize_with = "licences", skip_serializing_if = "Licences::is_unknown")]
    pub licences: Licences,
    /// Whether all its licences allow commercial use.
    #[serde(deserialize_with = "label", skip_serializing_if = "Option::is_none")]
    pub commercial_use: Option<bool>,
    /// Whether people can be recognised in it.
    #[serde(deserialize_with = "label", skip_serializing_if = "Option::is_none")]
    pub personal_data: Option<PersonalData>,
    /// What it may be used for.
    #[serde(deserialize_with = "label", skip_serializing_if = "Option::is_none")]
    pub purposes: Option<Purposes>,
    /// The last day on which it may be used.
    #[serde(deserialize_with = "label", skip_serializing_if = "Option::is_none")]
    pub expires: Option<Expiry>,
}

impl Labels {
    /// The strictest of both, label by label. Commutative, associative and idempotent; never weaker than either.
    pub fn join(&self, other: &Labels) -> Labels {
        Labels {
            residency: both(&self.residency, &other.residency, Residency::join),
            classification: both(&self.classification, &other.classification, |a, b| *a.max(b)),
            licences: self.licences.join(&other.licences),
            commercial_use: both(&self.commercial_use, &other.commercial_use, |a, b| *a && *b),
            personal_data: both(&self.personal_data, &other.personal_data, |a, b| *a.max(b)),
            purposes: both(&self.purposes, &other.purposes, Purposes::join),
            expires: both(&self.expires, &other.expires, |a, b| *a.min(b)),
        }
    }

    /// The strictest of all; nothing known if there are none.
    pub fn strictest<'a>(labels: impl IntoIterator<Item = &'a Labels>) -> Labels {
        labels.into_iter().cloned().reduce(|all, next| all.join(&next)).unwrap_or_default()
    }

    /// The names of those that keep something from somewhere, somebody or some use. What is not known limits nothing by itself.
    pub fn limiting(&self) -> BTreeSet<&'static str> {
        let limits = [
            ("residency", matches!(self.residency, Some(Residency::In(_)))),
            ("classification", self.classification.is_some_and(|class| class > Classification::Public)),
            ("commercial_use", self.commercial_use == Some(false)),
            ("personal_data", self.personal_data.is_some_and(|data| data > PersonalData::None)),
            ("purposes", matches!(self.purposes, Some(Purposes::Only(_)))),
            ("expires", matches!(self.expires, Some(Expiry::On(_)))),
        ];
        limits.into_iter().filter_map(|(name, does)| does.then_some(name)).collect()
    }

    /// Is each of these labels at least as strict as `other`'s?
    pub fn at_least(&self, other: &Labels) -> bool {
        fn covers<T>(strict: &Option<T>, weak: &Option<T>, holds: impl Fn(&T, &T) -> bool) -> bool {
            match (strict, weak) {
                (None, _) => true,
                (Some(_), None) => false,
                (Some(strict), Some(weak)) => holds(strict, weak),
            }
        }
        covers(&self.residency, &other.residency, Residency::within)
            && covers(&self.classification, &other.classification, |a, b| a >= b)
            && self.licences.names.is_superset(&other.licences.names)
            && (!self.licences.all_known || other.licences.all_known)
            && covers(&self.commercial_use, &other.commercial_use, |a, b| a <= b)
            && covers(&self.personal_data, &other.personal_data, |a, b| a >= b)
            && covers(&self.purposes, &other.purposes, Purposes::within)
            && covers(&self.expires, &other.expires, |a, b| a <= b)
    }
}

/// What is not known on one side is not known on both together.
fn both<T>(a: &Option<T>, b: &Option<T>, join: impl Fn(&T, &T) -> T) -> Option<T> {
    a.as_ref().zip(b.as_ref()).map(|(a, b)| join(a, b))
}

impl Residency {
    fn join(&self, other: &Residency) -> Residency {
        match (self, other) {
            (Residency::Anywhere, one) | (one, Residency::Anywhere) => one.clone(),
            (Residency::In(a), Residency::In(b)) => Residency::In(a.intersection(b).copied().collect()),
        }
    }

    fn within(&self, other: &Residency) -> bool {
        match (self, other) {
            (_, Residency::Anywhere) => true,
            (Residency::Anywhere, Residency::In(_)) => false,
            (Residency::In(a), Residency::In(b)) => a.is_subset(b),
        }
    }

    /// May it be in this country?
    pub fn allows(&self, country: Country) -> bool {
        match self {
            Residency::Anywhere => true,
            Residency::In(countries) => countries.contains(&country),
        }
    }
}

impl Purposes {
    fn join(&self, other: &Purposes) -> Purposes {
        match (self, other) {
            (Purposes::Any, one) | (one, Purposes::Any) => one.clone(),
            (Purposes::Only(a), Purposes::Only(b)) => Purposes::Only(a.intersection(b).cloned().collect()),
        }
    }

    fn within(&self, other: &Purposes) -> bool {
        match (self, other) {
            (_, Purposes::Any) => true,
            (Purposes::Any, Purposes::Only(_)) => false,
            (Purposes::Only(a), Purposes::Only(b)) => a.is_subset(b),
        }
    }
}

impl Licences {
    /// These licences, all of them known; without any, they are not known. The word `unknown` stands for one that is not.
    pub fn new(names: impl IntoIterator<Item = String>) -> Licences {
        let mut names: BTreeSet<_> = names.into_iter().collect();
        let all_known = !names.remove("unknown") && !names.is_empty();
        Licences { names, all_known }
    }

    fn join(&self, other: &Licences) -> Licences {
        Licences { names: self.names.union(&other.names).cloned().collect(), all_known: self.all_known && other.all_known }
    }

    fn is_unknown(&self) -> bool {
        self.names.is_empty()
    }
}

impl Classification {
    /// Every step, from the lowest.
    pub const ALL: [Classification; 5] = [
        Classification::Public,
        Classification::Internal,
        Classification::Restricted,
        Classification::Confidential,
        Classification::Secret,
    ];

    /// 0 for `public` to 4 for `secret`.
    pub fn level(self) -> u8 {
        match self {
            Classification::Public => 0,
            Classification::Internal => 1,
            Classification::Restricted => 2,
            Classification::Confidential => 3,
            Classification::Secret => 4,
        }
    }

    /// As facts and rules write it.
    pub fn word(self) -> &'static str {
        match self {
            Classification::Public => "public",
            Classification::Internal => "internal",
            Classification::Restricted => "restricted",
            Classification::Confidential => "confidential",
            Classification::Secret => "secret",
        }
    }
}

impl PersonalData {
    /// Every value, from the best.
    pub const ALL: [PersonalData; 3] = [PersonalData::None, PersonalData::Pseudonymised, PersonalData::Present];

    /// As facts and rules write it.
    pub fn word(self) -> &'static str {
        match self {
            PersonalData::None => "none",
            PersonalData::Pseudonymised => "pseudonymised",
            PersonalData::Present => "present",
        }
    }
}

fn list<T: fmt::Display>(of: &BTreeSet<T>) -> String {
    if of.is_empty() {
        return "nothing".to_owned();
    }
    of.iter().map(T::to_string).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for Residency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Residency::Anywhere => f.write_str("anywhere"),
            Residency::In(countries) if countries.is_empty() => f.write_str("nowhere"),
            Residency::In(countries) => f.write_str(&list(countries)),
        }
    }
}

impl fmt::Display for Purposes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Purposes::Any => f.write_str("any"),
            Purposes::Only(names) => f.write_str(&list(names)),
        }
    }
}

impl fmt::Display for Expiry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expiry::On(day) => day.fmt(f),
            Expiry::Never => f.write_str("never"),
        }
    }
}

impl Serialize for Licences {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let unknown = (!self.all_known).then_some("unknown");
        serializer.collect_seq(self.names.iter().map(String::as_str).chain(unknown))
    }
}

impl fmt::Display for Licences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&list(&self.names))
    }
}

fn anywhere<S: Serializer>(serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str("anywhere")
}

fn any<S: Serializer>(serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str("any")
}

fn never<S: Serializer>(serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str("never")
}
