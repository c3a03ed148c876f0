//! How often somebody may try to sign in: for each e-mail address, against guessing one person's password, and for each
//! network address, against guessing everybody's.

use crate::Error;
use crate::limits::{Gcra, Rate};
use dashmap::DashMap;
use serde_json::json;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;
use weir_core::Code;
use weir_store::Email;

/// The time in which so many attempts are allowed.
const PERIOD: Duration = Duration::from_secs(60);
/// Addresses that are remembered at most; whoever comes when it is full shares one limiter with the others.
const REMEMBERED: usize = 100_000;

/// The limiters of attempts to sign in on this node.
pub(crate) struct Attempts {
    emails: Limiters<Email>,
    addresses: Limiters<IpAddr>,
}

impl Attempts {
    /// So many in a minute; 0 is unlimited.
    pub(crate) fn new(per_email: u32, per_address: u32) -> Self {
        Self { emails: Limiters::new(per_email), addresses: Limiters::new(per_address) }
    }

    /// Counts an attempt from an address.
    ///
    /// # Errors
    /// `RATE_LIMIT_EXCEEDED` with the time to wait.
    pub(crate) fn from(&self, address: Option<IpAddr>) -> Result<(), Error> {
        let address = network(address.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED)));
        self.addresses.take(address, "sign-ins per minute from one address")
    }

    /// Counts an attempt for an e-mail address, whether anybody has it or not.
    ///
    /// # Errors
    /// `RATE_LIMIT_EXCEEDED` with the time to wait.
    pub(crate) fn on(&self, email: &Email) -> Result<(), Error> {
        self.emails.take(email.clone(), "sign-ins per minute of one person")
    }

    /// Forgets whoever may use the whole allowance again.
    pub(crate) fn sweep(&self) {
        self.emails.sweep();
        self.addresses.sweep();
    }
}

/// Who has one IPv6 address has 2^64 of them: the network counts.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let bits = address.to_bits() & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from_bits(bits))
        }
        v4 => v4,
    }
}

struct Limiters<K> {
    rate: Rate,
    of: DashMap<K, Gcra>,
    others: Gcra,
}

impl<K: Hash + Eq> Limiters<K> {
    fn new(per_minute: u32) -> Self {
        let rate = Rate { per_second: per_minute };
        Self { rate, of: DashMap::new(), others: Gcra::over(rate, PERIOD) }
    }

    fn take(&self, key: K, what: &str) -> Result<(), Error> {
        let decision = if self.of.len() < REMEMBERED || self.of.contains_key(&key) {
            self.of.entry(key).or_insert_with(|| Gcra::over(self.rate, PERIOD)).take(1)
        } else {
            self.others.take(1)
        };
        match decision {
            Some(decision) if !decision.allowed => {
                Err(Error::new(Code::RateLimitExceeded, format!("More than {} {what}.", decision.limit))
                    .with(json!({ "limit": decision.limit, "what": what }))
                    .after(decision.retry_after))
            }
            _ => Ok(()),
        }
    }

    fn sweep(&self) {
        self.of.retain(|_, limiter| !limiter.is_full());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Option<IpAddr> {
        text.parse().ok()
    }

    #[test]
    fn each_person_and_each_network_has_its_allowance() {
        let attempts = Attempts::new(3, 2);
        let (ada, bob): (Email, Email) =
            ("ada@x.test".parse().expect("address"), "bob@x.test".parse().expect("address"));
        for _ in 0..3 {
            attempts.on(&ada).expect("allowed");
        }
        let refused = attempts.on(&ada).expect_err("too many");
        assert_eq!(refused.code, Code::RateLimitExceeded);
        let wait = refused.retry_after.expect("says when");
        assert!(wait > Duration::from_secs(15) && wait <= Duration::from_secs(20), "{wait:?}");
        attempts.on(&bob).expect("somebody else");

        attempts.from(address("2001:db8::1")).expect("allowed");
        attempts.from(address("2001:db8::2")).expect("allowed");
        attempts.from(address("2001:db8::3")).expect_err("the same network");
        attempts.from(address("2001:db8:0:1::1")).expect("another network");
        attempts.from(address("192.0.2.1")).expect("allowed");
        attempts.from(address("::ffff:192.0.2.1")).expect("allowed");
        attempts.from(address("192.0.2.1")).expect_err("one address in two spellings");
        attempts.from(address("192.0.2.2")).expect("another address");
        attempts.sweep();
        attempts.on(&ada).expect_err("sweeping forgets nobody who has used some");
    }

    #[test]
    fn zero_is_unlimited_and_the_map_is_bounded() {
        let attempts = Attempts::new(0, 1);
        let ada = "ada@x.test".parse().expect("address");
        for _ in 0..1_000 {
            attempts.on(&ada).expect("unlimited");
        }
        let limiters = Limiters::new(1);
        for n in 0..REMEMBERED {
            limiters.take(n, "x").expect("each has its own");
        }
        limiters.take(REMEMBERED, "x").expect("the first of those beyond");
        limiters.take(REMEMBERED + 1, "x").expect_err("they share one");
        assert_eq!(limiters.of.len(), REMEMBERED);
    }
}
