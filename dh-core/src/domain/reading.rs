//! What a sensor saw.

use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Whether somebody or something uses the engine, as far as one sensor can see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activity {
    /// In use.
    Active,
    /// Not in use.
    Idle,
    /// The sensor could not tell: an error, a missing tool, a deadline. Never to be read as idle.
    Unknown,
}

/// How far a reading can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Confidence {
    /// A failed or half-seen reading.
    Low,
    /// A heuristic.
    Medium,
    /// Definitive.
    High,
}

impl fmt::Display for Confidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Low => "LOW",
            Self::Medium => "MEDIUM",
            Self::High => "HIGH",
        })
    }
}

/// What a sensor looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Axis {
    /// Somebody is connected.
    Presence,
    /// Something is running.
    Work,
    /// Somebody asked to keep the engine.
    Hold,
}

/// One sensor's answer at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// The sensor's name: `ssh`, `ide`, `docker`, `coffee`.
    pub sensor: String,
    /// In use, not in use, or not known.
    pub activity: Activity,
    /// How far to trust it.
    pub confidence: Confidence,
    /// What it looks at.
    pub axis: Axis,
    /// One line for people: `2 SSH session(s)`.
    pub reason: String,
    /// The evidence, in display order.
    #[serde(default, skip_serializing_if = "Details::is_empty")]
    pub details: Details,
}

impl Reading {
    /// Makes a reading without details.
    pub fn new(
        sensor: &str,
        activity: Activity,
        confidence: Confidence,
        axis: Axis,
        reason: impl Into<String>,
    ) -> Self {
        Self {
            sensor: sensor.to_owned(),
            activity,
            confidence,
            axis,
            reason: reason.into(),
            details: Details::default(),
        }
    }

    /// Makes the reading of a sensor that could not tell, and why.
    pub fn unknown(sensor: &str, axis: Axis, reason: impl Into<String>) -> Self {
        Self::new(sensor, Activity::Unknown, Confidence::Low, axis, reason)
    }

    /// Adds a piece of evidence after those already there.
    pub fn with_detail(mut self, key: &str, value: impl Into<DetailValue>) -> Self {
        self.details.0.push((key.to_owned(), value.into()));
        self
    }

    /// Returns whether the reading says in use.
    pub fn is_active(&self) -> bool {
        self.activity == Activity::Active
    }
}

/// Evidence in display order; a JSON object when serialized.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Details(Vec<(String, DetailValue)>);

impl Details {
    /// Returns whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the pieces in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &DetailValue)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// Returns one piece by name.
    pub fn get(&self, key: &str) -> Option<&DetailValue> {
        self.iter().find_map(|(name, value)| (name == key).then_some(value))
    }
}

/// One piece of evidence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum DetailValue {
    /// A count or measure.
    Number(f64),
    /// A line.
    Text(String),
    /// Lines, such as one a session.
    List(Vec<String>),
}

impl From<&str> for DetailValue {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for DetailValue {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Vec<String>> for DetailValue {
    fn from(list: Vec<String>) -> Self {
        Self::List(list)
    }
}

impl From<f64> for DetailValue {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

impl Serialize for Details {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, value) in &self.0 {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Details {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Details;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of details")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Details, A::Error> {
                let mut details = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    details.push(entry);
                }
                Ok(Details(details))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_keep_their_order_through_json() {
        let reading = Reading::new("ssh", Activity::Active, Confidence::High, Axis::Presence, "1 SSH session(s)")
            .with_detail("zebra", "last in the alphabet")
            .with_detail("apple", vec!["a".to_owned()]);
        let json = serde_json::to_string(&reading).unwrap();
        let back: Reading = serde_json::from_str(&json).unwrap();
        assert_eq!(back, reading);
        assert_eq!(back.details.iter().next().unwrap().0, "zebra");
    }

    #[test]
    fn confidence_is_written_as_old_clients_read_it() {
        assert_eq!(serde_json::to_value(Confidence::High).unwrap(), "HIGH");
    }
}
