//! What tenants' endpoints do not take.

use super::Condition;
use super::found::Found;
use super::installation::{PAGE, TENANTS};
use super::levels::Limits;
use super::node::words;
use super::watch::Watch;
use crate::engine::Engine;
use std::sync::atomic::Ordering::Relaxed;
use weir_core::Severity::Warning;
use weir_store::StoreError;
use weir_store::dead_letters::MAX_LETTERS;

impl Engine {
    pub(super) async fn look_at_endpoints(&self, found: &mut Vec<Found>) -> Result<(), StoreError> {
        let settings = &self.alerts.settings;
        let (mut after, begin) = (None, found.len());
        while found.len() - begin < TENANTS {
            let page = self.store.alerts.failing_webhooks(after, settings.webhook_failing, PAGE).await?;
            for one in &page {
                let message = if one.disabled {
                    format!("The endpoint was disabled at {}, as it took nothing for too long.", one.since)
                } else {
                    format!(
                        "Every attempt at the endpoint has failed since {} (the limit is {}).",
                        one.since,
                        words(settings.webhook_failing)
                    )
                };
                found.push(
                    Found::new(Condition::WebhookFailing, Warning, message, settings.hold_of_installation())
                        .about(one.webhook)
                        .of(one.tenant)
                        .measured(
                            if one.disabled { "disabled" } else { "failing" },
                            words(settings.webhook_failing),
                        ),
                );
            }
            after = page.last().map(|one| one.webhook);
            if page.len() < PAGE as usize {
                break;
            }
        }
        Ok(())
    }

    pub(super) async fn look_at_dead_letters(
        &self,
        watch: &mut Watch,
        found: &mut Vec<Found>,
    ) -> Result<(), StoreError> {
        let settings = &self.alerts.settings;
        let totals = self.store.dead_letters.all_totals(u32::try_from(TENANTS).unwrap_or(u32::MAX)).await?;
        self.alerts.dead_letters.store(totals.iter().map(|(_, of)| of.letters).sum(), Relaxed);
        let limit = f64::from(settings.dead_letters);
        // Near the bound at which the oldest go.
        let critical = limit.max(f64::from(u32::try_from(MAX_LETTERS).unwrap_or(u32::MAX)) * 0.8);
        let limits = Limits { warning: limit, critical, clear: limit * 0.8 };
        for (tenant, of) in totals {
            let letters = f64::from(u32::try_from(of.letters).unwrap_or(u32::MAX));
            let subject = tenant.to_string();
            let judged = watch.levels.judge(Condition::DeadLetters, &subject, letters, &limits);
            let Some((severity, begins)) = judged else { continue };
            let message = format!(
                "The tenant has {} dead letters (the limit is {limit}); {} were dropped to make room so far.",
                of.letters, of.dropped
            );
            found.push(
                Found::new(Condition::DeadLetters, severity, message, settings.hold_of_installation())
                    .about(subject)
                    .of(tenant)
                    .measured(of.letters, limit)
                    .times(begins.into()),
            );
        }
        Ok(())
    }
}
