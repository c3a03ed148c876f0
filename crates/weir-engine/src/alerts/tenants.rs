//! What tenants use, keep and owe.

use super::Condition;
use super::found::Found;
use super::installation::{PAGE, TENANTS};
use crate::engine::Engine;
use std::sync::atomic::Ordering::Relaxed;
use weir_core::Severity;
use weir_core::Severity::{Critical, Info, Warning};
use weir_store::StoreError;
use weir_store::alerts::{Keeping, QuotaReached};

/// From here on the limit is what makes events go: what is kept is cut to whole events, so it stays just below.
const FULL_PERCENT: u64 = 99;

impl Engine {
    pub(super) async fn look_at_quotas(&self, found: &mut Vec<Found>) -> Result<(), StoreError> {
        // They may be many and last for weeks, so they are written rarely.
        let hold = self.alerts.settings.hold_of_events();
        let (mut after, begin) = (None, found.len());
        while found.len() - begin < TENANTS {
            let page = self.store.alerts.quotas_reached(after, PAGE).await?;
            for QuotaReached { tenant, threshold, limit } in &page {
                let severity = quota_severity(*threshold);
                let message = format!(
                    "The tenant has used {threshold} % or more of its {limit} events of this period{}.",
                    if *threshold >= 100 { ": further ones are refused" } else { "" }
                );
                found.push(
                    Found::new(Condition::QuotaThreshold, severity, message, hold)
                        .about(tenant)
                        .of(*tenant)
                        .measured(format!("{threshold} %"), limit),
                );
            }
            after = page.last().map(|one| one.tenant);
            if page.len() < PAGE as usize {
                break;
            }
        }
        Ok(())
    }

    pub(super) async fn look_at_retention(&self, found: &mut Vec<Found>) -> Result<(), StoreError> {
        let settings = &self.alerts.settings;
        let (mut after, mut full) = (None, 0);
        loop {
            let page = self.store.alerts.keeping(after, PAGE).await?;
            for Keeping { tenant, bytes, limit } in &page {
                let Some(severity) = retention_severity(*bytes, *limit, settings.retention_percent) else {
                    continue;
                };
                full += 1;
                if full > TENANTS {
                    continue;
                }
                let then = if severity == Warning {
                    "the oldest go before their age"
                } else {
                    "when it is full the oldest go before their age"
                };
                let message =
                    format!("The tenant keeps {bytes} bytes of events and may keep {limit}: {then}.");
                // They may be many and last, so they are written rarely.
                found.push(
                    Found::new(Condition::RetentionFull, severity, message, settings.hold_of_events())
                        .about(tenant)
                        .of(*tenant)
                        .measured(bytes, limit),
                );
            }
            after = page.last().map(|one| one.tenant);
            if page.len() < PAGE as usize {
                break;
            }
        }
        self.alerts.full_tenants.store(full as u64, Relaxed);
        Ok(())
    }

    pub(super) async fn look_at_arrears(&self, found: &mut Vec<Found>) -> Result<(), StoreError> {
        let hold = self.alerts.settings.hold_of_installation();
        let (mut after, begin) = (None, found.len());
        while found.len() - begin < TENANTS {
            let page = self.store.alerts.unpaid(after, PAGE).await?;
            for one in &page {
                let since = one.since.map_or_else(String::new, |since| format!(" since {since}"));
                let (severity, message) = if one.suspended {
                    (Critical, format!("A payment is missing{since}, and the tenant is suspended."))
                } else {
                    (
                        Warning,
                        format!(
                            "A payment is missing{since}; the tenant is suspended when it is not made up for."
                        ),
                    )
                };
                found.push(
                    Found::new(Condition::PaymentFailed, severity, message, hold)
                        .about(one.tenant)
                        .of(one.tenant)
                        .measured(if one.suspended { "suspended" } else { "past due" }, "paid"),
                );
            }
            after = page.last().map(|one| one.tenant);
            if page.len() < PAGE as usize {
                break;
            }
        }
        Ok(())
    }
}

const fn quota_severity(threshold: u32) -> Severity {
    match threshold {
        100.. => Critical,
        80.. => Warning,
        _ => Info,
    }
}

/// How bad it is to keep so many bytes where `limit` are allowed; a limit of 0 is none.
fn retention_severity(bytes: u64, limit: u64, percent: u32) -> Option<Severity> {
    let reached = |percent: u64| u128::from(bytes) * 100 >= u128::from(limit) * u128::from(percent);
    match () {
        () if limit == 0 || !reached(percent.into()) => None,
        () if reached(FULL_PERCENT) => Some(Warning),
        () => Some(Info),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_held_against_its_limit() {
        assert_eq!(retention_severity(u64::MAX, 0, 80), None, "no limit");
        assert_eq!(retention_severity(0, 1, 80), None);
        assert_eq!(retention_severity(799, 1000, 80), None);
        assert_eq!(retention_severity(800, 1000, 80), Some(Info));
        assert_eq!(retention_severity(990, 1000, 80), Some(Warning));
        assert_eq!(retention_severity(u64::MAX, u64::MAX, 99), Some(Warning));
    }
}
