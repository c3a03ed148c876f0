//! Money in integers: millionths of a currency's unit. A price of an event is far below a cent, and sums of it must be
//! exact, so nothing here is a fraction and nothing rounds.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// A currency by its ISO 4217 code.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Currency([u8; 3]);

/// A string is not a currency.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a currency: use a code of three capital letters, such as USD")]
pub struct InvalidCurrency(String);

impl Currency {
    /// US dollars.
    pub const USD: Self = Self(*b"USD");

    /// The code: `USD`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Only letters get in.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl FromStr for Currency {
    type Err = InvalidCurrency;

    fn from_str(text: &str) -> Result<Self, InvalidCurrency> {
        match text.as_bytes().try_into() {
            Ok(code) if text.bytes().all(|byte| byte.is_ascii_uppercase()) => Ok(Self(code)),
            _ => Err(InvalidCurrency(text.chars().take(80).collect())),
        }
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Currency {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Currency {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// An amount, never negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Money {
    /// Millionths of the currency's unit.
    pub micros: u64,
    /// Of which currency.
    pub currency: Currency,
}

impl Money {
    /// The price of `quantity` things at `each` millionths; `None` beyond what can be counted.
    #[must_use]
    pub fn of(quantity: u64, each: u64, currency: Currency) -> Option<Self> {
        Some(Self { micros: quantity.checked_mul(each)?, currency })
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNIT: u64 = 1_000_000;
        write!(f, "{}.{:06} {}", self.micros / UNIT, self.micros % UNIT, self.currency)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn currencies_are_three_letters() {
        assert_eq!("USD".parse(), Ok(Currency::USD));
        assert_eq!(serde_json::from_str::<Currency>("\"EUR\"").expect("a currency").to_string(), "EUR");
        for wrong in ["", "usd", "US", "USDT", "U$D", "ÜS"] {
            assert!(wrong.parse::<Currency>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn sums_are_exact_or_refused() {
        let price = Money::of(1_234_567, 3, Currency::USD).expect("fits");
        assert_eq!(price.to_string(), "3.703701 USD");
        assert_eq!(Money::of(u64::MAX, 2, Currency::USD), None);
    }
}
