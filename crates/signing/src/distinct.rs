//! JSON objects in which no name stands twice: of two, one reader takes the first and another the last.

use std::collections::BTreeMap;
use std::fmt::Formatter;
use std::marker::PhantomData;

use serde::de::{DeserializeOwned, Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// An object's names and values.
pub(crate) struct Distinct<V>(pub(crate) BTreeMap<String, V>);

impl<'de, V: DeserializeOwned> Deserialize<'de> for Distinct<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(DistinctVisitor(PhantomData))
    }
}

struct DistinctVisitor<V>(PhantomData<V>);

impl<'de, V: DeserializeOwned> Visitor<'de> for DistinctVisitor<V> {
    type Value = Distinct<V>;

    fn expecting(&self, to: &mut Formatter<'_>) -> std::fmt::Result {
        to.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut distinct = BTreeMap::new();
        while let Some((name, value)) = map.next_entry::<String, V>()? {
            if distinct.insert(name.clone(), value).is_some() {
                return Err(Error::custom(format!("the name {name:?} twice")));
            }
        }
        Ok(Distinct(distinct))
    }
}

/// The same for a field: `#[serde(deserialize_with = "distinct")]`.
pub(crate) fn distinct<'de, D: Deserializer<'de>, V: DeserializeOwned>(deserializer: D) -> Result<BTreeMap<String, V>, D::Error> {
    Distinct::deserialize(deserializer).map(|Distinct(map)| map)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stands_there_once() {
        let read = |text: &str| serde_json::from_str::<Distinct<u8>>(text).map(|Distinct(map)| map);
        assert_eq!(read(r#"{"a": 1, "b": 2}"#).unwrap(), BTreeMap::from([("a".to_owned(), 1), ("b".to_owned(), 2)]));
        let error = read(r#"{"a": 1, "b": 2, "\u0061": 1}"#).unwrap_err().to_string();
        assert!(error.contains("the name \"a\" twice"), "{error}");
        assert!(read("[]").is_err() && read("1").is_err());
    }
}
