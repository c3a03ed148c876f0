//! Plans as data, and the limits that come with them. Money is counted in integers.

use crate::money::{Currency, Money};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The three plans of the price list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlanName {
    /// A small monthly allowance, then refusal.
    Free,
    /// An allowance, then a price per event.
    Pro,
    /// No allowance to exceed: a self-hoster's own tenant.
    Enterprise,
}

impl PlanName {
    /// The public name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Pro => "pro",
            Self::Enterprise => "enterprise",
        }
    }
}

impl fmt::Display for PlanName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A string is not a plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a plan: use free, pro or enterprise")]
pub struct InvalidPlan(String);

impl FromStr for PlanName {
    type Err = InvalidPlan;

    fn from_str(text: &str) -> Result<Self, InvalidPlan> {
        [Self::Free, Self::Pro, Self::Enterprise]
            .into_iter()
            .find(|plan| plan.as_str() == text)
            .ok_or_else(|| InvalidPlan(text.chars().take(80).collect()))
    }
}

/// What a plan means, in one of its versions: a new price is a new version, and who bought the old one keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Which of the price list.
    pub name: PlanName,
    /// Counted from 1 for each name.
    pub version: u32,
    /// The currency of its price.
    pub currency: Currency,
    /// Events per billing period that are included; `None` is unlimited.
    pub monthly_events: Option<u64>,
    /// Price of an event beyond those, in millionths of the currency's unit; 0 where none can be bought.
    pub price_per_event_micros: u64,
}

impl Plan {
    /// The first version of the plan of this name, with which every installation begins.
    #[must_use]
    pub const fn of(name: PlanName) -> Self {
        let (monthly_events, price_per_event_micros) = match name {
            PlanName::Free => (Some(100_000), 0),
            PlanName::Pro => (Some(5_000_000), 3),
            PlanName::Enterprise => (None, 0),
        };
        Self { name, version: 1, currency: Currency::USD, monthly_events, price_per_event_micros }
    }

    /// How many events may be accepted in a period; `None` is any number. Where events beyond the included ones have a
    /// price it is what the tenant is willing to spend that limits them, where they have none it is the allowance.
    #[must_use]
    pub const fn event_limit(&self, spend_cap_micros: Option<u64>) -> Option<u64> {
        match (self.monthly_events, self.price_per_event_micros, spend_cap_micros) {
            (None, ..) => None,
            (Some(included), 0, _) => Some(included),
            (Some(_), _, None) => None,
            (Some(included), price, Some(cap)) => Some(included.saturating_add(cap / price)),
        }
    }

    /// What this many events of one period cost; `None` beyond what can be counted.
    #[must_use]
    pub fn price(&self, events: u64) -> Option<Money> {
        let beyond = events.saturating_sub(self.monthly_events.unwrap_or(u64::MAX));
        Money::of(beyond, self.price_per_event_micros, self.currency)
    }
}

/// The limits that hold for a tenant: the plan's, with the tenant's own overrides put on top.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Bytes of one event's payload.
    pub payload_bytes: u32,
    /// Live connections of the tenant, every transport and project together.
    pub connections: u32,
    /// Subscribed topics and patterns of one connection.
    pub topics_per_connection: u32,
    /// Requests and published events per second of the whole tenant, on each node; 0 is unlimited.
    pub requests_per_second: u32,
    /// Publishes per second of one connection; 0 is unlimited.
    pub publish_per_second: u32,
    /// Subscribe and unsubscribe frames per second of one connection; 0 is unlimited.
    pub subscribe_per_second: u32,
    /// Replays of the tenant that read the log at once on one node.
    pub concurrent_replays: u32,
    /// Seconds for which events are kept; 0 is as long as there is room.
    pub retention_seconds: u64,
    /// Bytes of events that are kept in all projects together; 0 is as much as there is room.
    pub retention_bytes: u64,
    /// Topics and patterns of one project that may have a schema.
    pub schemas: u32,
    /// Bytes of the schemas in force in one project, together.
    pub schema_bytes: u32,
    /// Events accepted in a billing period, whatever the plan says; none is as the plan says.
    pub monthly_events: Option<u64>,
}

impl Limits {
    /// The limits that come with a plan.
    #[must_use]
    pub const fn of(plan: PlanName) -> Self {
        let base = Self {
            payload_bytes: 64 * 1024,
            connections: 200,
            topics_per_connection: 128,
            requests_per_second: 0,
            publish_per_second: 50,
            subscribe_per_second: 50,
            concurrent_replays: 4,
            retention_seconds: 24 * 3600,
            retention_bytes: 1 << 30,
            schemas: 100,
            schema_bytes: 1 << 20,
            monthly_events: None,
        };
        match plan {
            PlanName::Free => base,
            PlanName::Pro => Self {
                connections: 10_000,
                payload_bytes: 256 * 1024,
                retention_seconds: 7 * 24 * 3600,
                retention_bytes: 20 << 30,
                ..base
            },
            PlanName::Enterprise => Self {
                connections: 50_000,
                payload_bytes: 256 * 1024,
                publish_per_second: 0,
                subscribe_per_second: 0,
                concurrent_replays: 64,
                retention_seconds: 0,
                retention_bytes: 0,
                ..base
            },
        }
    }
}

/// Limits of one project, narrower than its tenant's; what is not set is limited by the tenant's alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProjectLimits {
    /// Live connections of the project, every transport together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections: Option<u32>,
    /// Requests and published events per second of the project, on each node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_second: Option<u32>,
    /// Events about connections (`@weir.connection.…`) per second on each node; without it none are written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection_events_per_second: Option<u32>,
    /// Seconds for which events of the project are kept; 0 is as long as the tenant's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention_seconds: Option<u64>,
    /// Bytes of events of the project that are kept; 0 is as much as the tenant has room.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention_bytes: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self::of(PlanName::Free)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plan_names_round_trip() {
        for plan in [PlanName::Free, PlanName::Pro, PlanName::Enterprise] {
            assert_eq!(plan.to_string().parse(), Ok(plan));
            assert_eq!(Plan::of(plan).name, plan);
        }
        assert!("gold".parse::<PlanName>().is_err());
    }

    #[test]
    fn a_price_makes_the_cap_the_limit() {
        let [free, pro, enterprise] = [PlanName::Free, PlanName::Pro, PlanName::Enterprise].map(Plan::of);
        for cap in [None, Some(0), Some(1_000_000)] {
            assert_eq!(free.event_limit(cap), Some(100_000));
            assert_eq!(enterprise.event_limit(cap), None);
        }
        assert_eq!(pro.event_limit(None), None);
        assert_eq!(pro.event_limit(Some(0)), Some(5_000_000));
        assert_eq!(pro.event_limit(Some(1_000_000)), Some(5_333_333), "a third of an event is none");
        assert_eq!(pro.event_limit(Some(u64::MAX)), Some(u64::MAX / 3 + 5_000_000));
    }

    #[test]
    fn only_what_goes_beyond_is_paid() {
        let pro = Plan::of(PlanName::Pro);
        assert_eq!(pro.price(5_000_000).expect("a price").micros, 0);
        assert_eq!(pro.price(5_000_007).expect("a price").micros, 21);
        assert_eq!(pro.price(u64::MAX), None);
        assert_eq!(Plan::of(PlanName::Enterprise).price(u64::MAX).expect("a price").micros, 0);
    }
}
