//! Attributes of what rules speak of: values as Cedar takes them, beside words for people.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Display;

use cedar_policy::{EntityId, EntityTypeName, EntityUid, ExpressionConstructionError, RestrictedExpression};

use crate::decision::{Fact, Missing};
use crate::labels::{Classification, Expiry, Labels, Purposes, Residency};

/// A value for rules, and the same in words.
pub(crate) struct Known {
    pub(crate) value: RestrictedExpression,
    pub(crate) words: String,
}

impl Known {
    pub(crate) fn new(value: RestrictedExpression, words: impl Display) -> Known {
        Known { value, words: words.to_string() }
    }
}

/// A word.
pub(crate) fn text(value: impl Display) -> Known {
    Known::new(RestrictedExpression::new_string(value.to_string()), value)
}

/// A set of words.
pub(crate) fn texts(values: BTreeSet<String>) -> Known {
    let words = if values.is_empty() { "none".to_owned() } else { values.iter().cloned().collect::<Vec<_>>().join(", ") };
    Known::new(strings(values), words)
}

/// A step of the classification, as a record of name and number.
pub(crate) fn level(level: Classification) -> Known {
    let number = RestrictedExpression::new_long(i64::from(level.level()));
    let fields = enumerated("Classification", level.word()).map(|name| ("name".to_owned(), name)).into_iter();
    let record = record(fields.chain([("level".to_owned(), number)]));
    Known::new(record, level.word())
}

fn strings<T: ToString>(values: impl IntoIterator<Item = T>) -> RestrictedExpression {
    RestrictedExpression::new_set(values.into_iter().map(|value| RestrictedExpression::new_string(value.to_string())))
}

/// A value of one of the schema's enumerations.
fn enumerated(of_type: &str, word: &str) -> Option<RestrictedExpression> {
    let of_type: EntityTypeName = of_type.parse().ok()?;
    Some(RestrictedExpression::new_entity_uid(EntityUid::from_type_name_and_id(of_type, EntityId::new(word))))
}

/// A record; its field names are fixed in this crate and differ, which is all that could go wrong.
fn record(fields: impl IntoIterator<Item = (String, RestrictedExpression)>) -> RestrictedExpression {
    RestrictedExpression::new_record(fields).unwrap_or_else(|_| RestrictedExpression::new_bool(false))
}

/// A label of an artefact.
pub(crate) struct Label {
    /// As rules write it.
    pub(crate) attribute: &'static str,
    /// As messages write it.
    pub(crate) words: &'static str,
    /// Its value.
    pub(crate) known: Option<Known>,
}

/// The labels, always in the same order.
pub(crate) fn of_labels(labels: &Labels) -> [Label; 7] {
    let label = |attribute, words, known| Label { attribute, words, known };
    let residency = labels.residency.as_ref().map(|known| Known::new(residency(known), known));
    let licences = labels.licences.all_known.then(|| Known::new(strings(&labels.licences.names), &labels.licences));
    let commercial = labels.commercial_use.map(|known| Known::new(RestrictedExpression::new_bool(known), known));
    let personal =
        labels.personal_data.and_then(|known| Some(Known::new(enumerated("PersonalData", known.word())?, known.word())));
    let purposes = labels.purposes.as_ref().map(|known| Known::new(purposes(known), known));
    let expires = labels.expires.map(|known| Known::new(expiry(known), known));
    [
        label("residency", "residency", residency),
        label("classification", "classification", labels.classification.map(level)),
        label("licences", "licence", licences),
        label("commercialUse", "commercial use", commercial),
        label("personalData", "personal data", personal),
        label("purposes", "allowed purposes", purposes),
        label("expires", "expiry", expires),
    ]
}

fn residency(residency: &Residency) -> RestrictedExpression {
    let (anywhere, countries) = match residency {
        Residency::Anywhere => (true, strings(Vec::<String>::new())),
        Residency::In(countries) => (false, strings(countries)),
    };
    record([("anywhere".to_owned(), RestrictedExpression::new_bool(anywhere)), ("countries".to_owned(), countries)])
}

fn purposes(purposes: &Purposes) -> RestrictedExpression {
    let (any, names) = match purposes {
        Purposes::Any => (true, strings(Vec::<String>::new())),
        Purposes::Only(names) => (false, strings(names)),
    };
    record([("any".to_owned(), RestrictedExpression::new_bool(any)), ("names".to_owned(), names)])
}

fn expiry(expiry: Expiry) -> RestrictedExpression {
    let day = match expiry {
        Expiry::On(day) => day.to_string(),
        Expiry::Never => "9999-12-31".to_owned(),
    };
    RestrictedExpression::new_datetime(day)
}

/// The attributes of one thing, what is known about them and what is not.
pub(crate) struct Sheet {
    prefix: &'static str,
    pub(crate) values: HashMap<String, RestrictedExpression>,
    pub(crate) facts: Vec<Fact>,
    pub(crate) missing: Vec<Missing>,
}

impl Sheet {
    /// An empty sheet for what rules call `prefix`.
    pub(crate) fn new(prefix: &'static str) -> Sheet {
        Sheet { prefix, values: HashMap::new(), facts: Vec::new(), missing: Vec::new() }
    }

    /// An attribute: its value, or why it is not known.
    pub(crate) fn set(&mut self, attribute: &str, about: &str, name: &str, known: Result<Known, &str>) {
        match known {
            Ok(known) => {
                self.tell(attribute, about, name, Ok(known.words));
                self.values.insert(attribute.to_owned(), known.value);
            }
            Err(why) => self.tell(attribute, about, name, Err(why)),
        }
    }

    /// What there is to say about an attribute, without its value.
    pub(crate) fn tell(&mut self, attribute: &str, about: &str, name: &str, known: Result<String, &str>) {
        let (path, about, name) = (format!("{}.{attribute}", self.prefix), about.to_owned(), name.to_owned());
        match known {
            Ok(value) => self.facts.push(Fact { path, about, name, value }),
            Err(why) => self.missing.push(Missing { path, about, name, why: why.to_owned() }),
        }
    }

    /// Takes another sheet in as a record of this one.
    pub(crate) fn adopt(&mut self, attribute: &str, record: Sheet) -> Result<(), ExpressionConstructionError> {
        self.values.insert(attribute.to_owned(), RestrictedExpression::new_record(record.values)?);
        self.facts.extend(record.facts);
        self.missing.extend(record.missing);
        Ok(())
    }
}
