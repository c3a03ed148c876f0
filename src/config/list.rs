//! Lists among the settings: one text with commas. For `#[serde(with = "list")]`.

use serde::{Deserialize, Deserializer, Serializer};

/// What stands between the commas, where something does.
pub fn entries(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|entry| !entry.is_empty())
}

/// Reads a list.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let text = String::deserialize(deserializer)?;
    Ok(entries(&text).map(str::to_owned).collect())
}

/// Writes it.
pub fn serialize<S: Serializer>(list: &[String], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&list.join(", "))
}
