//! A share of something, written in percent: `10%`, `0.5%`.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::str::FromStr;

/// From none to all of it, in steps of a ten-thousandth of a percent.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(u32);

/// All of it.
const WHOLE: u32 = 1_000_000;

impl Share {
    /// So many percent.
    #[must_use]
    pub const fn percent(percent: u32) -> Self {
        Self(percent * (WHOLE / 100))
    }

    /// From 0 to 1.
    #[must_use]
    pub fn ratio(self) -> f64 {
        f64::from(self.0) / f64::from(WHOLE)
    }
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let number = text.strip_suffix('%')?.trim_end();
            let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
            let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            if !digits(whole) || !digits(fraction) || whole.len() > 3 || fraction.len() > 4 {
                return None;
            }
            let share =
                whole.parse::<u32>().ok()? * 10_000 + format!("{fraction:0<4}").parse::<u32>().ok()?;
            (share <= WHOLE).then_some(Self(share))
        };
        parse().ok_or_else(|| "a share is from 0% to 100%, as in 10% or 0.5%".to_owned())
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fraction = format!("{:04}", self.0 % 10_000);
        let fraction = fraction.trim_end_matches('0');
        let point = if fraction.is_empty() { "" } else { "." };
        write!(f, "{}{point}{fraction}%", self.0 / 10_000)
    }
}

impl fmt::Debug for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Share {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_percent() {
        for (text, ratio) in
            [("0%", 0.0), ("10%", 0.1), ("0.5%", 0.005), ("12.3456%", 0.123_456), ("100%", 1.0)]
        {
            let share: Share = text.parse().expect("a share");
            assert!((share.ratio() - ratio).abs() < 1e-12, "{text}");
            assert_eq!(share.to_string(), text);
        }
        for bad in ["", "%", "10", "101%", "100.1%", "-1%", "1.%", ".5%", "1.23456%", "1e1%"] {
            assert!(bad.parse::<Share>().is_err(), "{bad}");
        }
    }
}
