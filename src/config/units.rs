//! Durations and sizes as people write them: `"5s"`, `"64KiB"`.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::str::FromStr;

/// A length of time, written as a whole number and a unit: `250ms`, `5s`, `10m`, `24h`, `7d`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Duration(std::time::Duration);

const TIMES: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

impl Duration {
    /// So many seconds.
    #[must_use]
    pub const fn seconds(seconds: u64) -> Self {
        Self(std::time::Duration::from_secs(seconds))
    }

    /// As the standard library's type.
    #[must_use]
    pub const fn std(self) -> std::time::Duration {
        self.0
    }

    /// True for no time at all, which stands for "no bound".
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.0.is_zero()
    }
}

impl From<std::time::Duration> for Duration {
    fn from(duration: std::time::Duration) -> Self {
        Self(duration)
    }
}

impl From<Duration> for std::time::Duration {
    fn from(duration: Duration) -> Self {
        duration.0
    }
}

impl FromStr for Duration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        amount(text, &TIMES)
            .map(|millis| Self(std::time::Duration::from_millis(millis)))
            .ok_or_else(|| "a duration is a whole number with ms, s, m, h or d, as in 30s".to_owned())
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        if millis == 0 {
            return f.write_str("0s");
        }
        write_amount(f, millis, &TIMES)
    }
}

/// A number of bytes, written as a whole number and a unit (`64KiB`, `1MiB`, `10GiB`) or alone.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Bytes(pub u64);

const SIZES: [(&str, u64); 5] =
    [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

impl Bytes {
    /// So many times 1024 bytes.
    #[must_use]
    pub const fn kib(count: u64) -> Self {
        Self(count << 10)
    }

    /// So many times 1024² bytes.
    #[must_use]
    pub const fn mib(count: u64) -> Self {
        Self(count << 20)
    }

    /// As a size in memory.
    #[must_use]
    pub fn size(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl From<usize> for Bytes {
    fn from(size: usize) -> Self {
        Self(size as u64)
    }
}

impl From<Bytes> for usize {
    fn from(bytes: Bytes) -> Self {
        bytes.size()
    }
}

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse()
            .ok()
            .or_else(|| amount(text, &SIZES))
            .map(Self)
            .ok_or_else(|| "a size is a whole number with B, KiB, MiB, GiB or TiB, as in 64KiB".to_owned())
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0");
        }
        write_amount(f, self.0, &SIZES)
    }
}

/// Reads `12unit`; `None` when it is not of that form or does not fit into 64 bits.
fn amount(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// Writes in the largest unit that needs no fraction.
fn write_amount(f: &mut fmt::Formatter<'_>, value: u64, units: &[(&str, u64)]) -> fmt::Result {
    match units.iter().find(|(_, factor)| value.is_multiple_of(*factor)) {
        Some((name, factor)) => write!(f, "{}{name}", value / factor),
        None => write!(f, "{value}"),
    }
}

macro_rules! as_text {
    ($name:ident, $what:literal, $integer:expr) => {
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                struct Visitor;
                impl de::Visitor<'_> for Visitor {
                    type Value = $name;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($what)
                    }

                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$name, E> {
                        text.parse().map_err(E::custom)
                    }

                    fn visit_i64<E: de::Error>(self, value: i64) -> Result<$name, E> {
                        let convert: fn(i64) -> Option<$name> = $integer;
                        convert(value).ok_or_else(|| E::invalid_value(de::Unexpected::Signed(value), &self))
                    }
                }
                d.deserialize_any(Visitor)
            }
        }
    };
}

as_text!(Duration, "a duration with its unit, such as \"30s\"", |_| None);
as_text!(Bytes, "a size such as \"64KiB\", or a number of bytes", |value| u64::try_from(value)
    .ok()
    .map(Bytes));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_back_what_they_write() {
        for text in ["0s", "1ms", "1500ms", "5s", "90s", "10m", "24h", "7d"] {
            let duration: Duration = text.parse().expect(text);
            assert_eq!(duration.to_string().parse(), Ok(duration));
        }
        assert_eq!("2m".parse(), Ok(Duration::seconds(120)));
        assert_eq!("120s".parse::<Duration>().expect("120s").to_string(), "2m");
        assert_eq!("36h".parse::<Duration>().expect("36h").to_string(), "36h");
    }

    #[test]
    fn durations_need_a_whole_number_and_a_known_unit() {
        for text in [
            "",
            "5",
            "s",
            "-1s",
            "1.5s",
            "5 seconds",
            "1h30m",
            "99999999999999999999s",
            "999999999999999999d",
        ] {
            let error = text.parse::<Duration>().expect_err(text);
            assert!(error.contains("30s"), "{error}");
        }
    }

    #[test]
    fn sizes_read_back_what_they_write() {
        for text in ["0", "1B", "1000", "1000B", "64KiB", "1536KiB", "1MiB", "10GiB", "3TiB"] {
            let size: Bytes = text.parse().expect(text);
            assert_eq!(size.to_string().parse(), Ok(size));
        }
        assert_eq!("64 KiB".parse(), Ok(Bytes::kib(64)));
        assert_eq!(Bytes::kib(1024).to_string(), "1MiB");
    }

    #[test]
    fn sizes_need_a_whole_number_and_a_known_unit() {
        for text in ["", "KiB", "-1", "1.5MiB", "64KB", "64k", "99999999999TiB"] {
            let error = text.parse::<Bytes>().expect_err(text);
            assert!(error.contains("64KiB"), "{error}");
        }
    }
}
