//! The scalars: `Long`, `JSON` and `DateTime`.

use async_graphql::{InputValueError, InputValueResult, Scalar, ScalarType, Value};
use async_graphql::{Number, to_value};
use bytes::Bytes;
use serde_json::value::RawValue;
use std::time::Duration;
use weir_core::Payload;
use weir_engine::Error;

/// A `Long`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Long(pub u64);

/// A whole number of up to 64 bits, written as a JSON number. Also read from a string, for languages whose numbers end
/// at 2^53.
#[Scalar(name = "Long")]
impl ScalarType for Long {
    fn parse(value: Value) -> InputValueResult<Self> {
        let number = match &value {
            Value::Number(number) => number.as_u64(),
            Value::String(text) => text.parse().ok(),
            _ => None,
        };
        number.map(Self).ok_or_else(|| InputValueError::custom("a Long is a whole number from 0 to 2^64 - 1"))
    }

    fn to_value(&self) -> Value {
        Value::Number(Number::from(self.0))
    }
}

/// JSON text.
#[derive(Clone, Debug)]
pub(super) struct Json(Bytes);

impl Json {
    /// A payload as it is stored.
    pub(super) fn stored(payload: &Payload) -> Self {
        Self(payload.bytes())
    }

    /// What serializes to JSON.
    pub(super) fn of(value: &impl serde::Serialize) -> Self {
        Self(serde_json::to_vec(value).unwrap_or_else(|_| b"null".to_vec()).into())
    }

    /// Text that was JSON when it was written; what is none any more is shown as the string that it is.
    pub(super) fn text(text: String) -> Self {
        match serde_json::from_str::<&RawValue>(&text) {
            Ok(_) => Self(text.into()),
            Err(_) => Self::of(&text),
        }
    }

    /// As text.
    pub(super) fn as_text(&self) -> String {
        String::from_utf8_lossy(&self.0).into_owned()
    }

    /// As the payload of an event.
    pub(super) fn payload(&self) -> Result<Payload, Error> {
        Ok(Payload::parse(&self.0)?)
    }

    /// As a structure of a known shape.
    pub(super) fn read<T: serde::de::DeserializeOwned>(&self, field: &str, shape: &str) -> Result<T, Error> {
        serde_json::from_slice(&self.0).map_err(|_| crate::rest::invalid(field, &format!("must be {shape}")))
    }
}

/// Any JSON value. Going out it is the text that was stored, character by character.
#[Scalar(name = "JSON")]
impl ScalarType for Json {
    fn parse(value: Value) -> InputValueResult<Self> {
        let text = serde_json::to_vec(&value);
        text.map(|text| Self(text.into())).map_err(|error| InputValueError::custom(error.to_string()))
    }

    fn to_value(&self) -> Value {
        // Marked as text that the serializer is to copy.
        let raw: Option<&RawValue> = serde_json::from_slice(&self.0).ok();
        raw.and_then(|raw| to_value(raw).ok()).unwrap_or_default()
    }
}

/// A `DateTime`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DateTime(pub weir_core::Timestamp);

/// A time, RFC 3339 in UTC with microseconds: `2026-01-31T12:00:00.123456Z`.
#[Scalar(name = "DateTime", specified_by_url = "https://scalars.graphql.org/andimarek/date-time")]
impl ScalarType for DateTime {
    fn parse(value: Value) -> InputValueResult<Self> {
        let time = match &value {
            Value::String(text) => text.parse().ok(),
            _ => None,
        };
        let form = "a DateTime is an RFC 3339 time such as 2026-01-31T12:00:00Z";
        time.map(Self).ok_or_else(|| InputValueError::custom(form))
    }

    fn to_value(&self) -> Value {
        Value::String(self.0.to_string())
    }
}

impl From<weir_core::Timestamp> for DateTime {
    fn from(time: weir_core::Timestamp) -> Self {
        Self(time)
    }
}

/// How long something takes, in milliseconds, for `extensions`.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
