//! Telling people: the operator's webhook from what is written of each alert, Alertmanager from what stands.

use super::alertmanager::{self, Post};
use super::message::message;
use crate::engine::Engine;
use futures::future::join_all;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};
use weir_outbound::{Request, webhook};
use weir_store::StoreError;
use weir_store::alerts::{Alert, Telling, Told, Untold};

/// How long after a failed attempt the next one is made; after the last the webhook is given up for this alert.
const RETRIES: [Duration; 7] = [
    Duration::from_secs(5),
    Duration::from_secs(5 * 60),
    Duration::from_secs(30 * 60),
    Duration::from_secs(2 * 3600),
    Duration::from_secs(5 * 3600),
    Duration::from_secs(10 * 3600),
    Duration::from_secs(10 * 3600),
];
/// Alerts told in one go.
const BATCH: u32 = 20;
/// An endpoint has so long to take a message.
const TIMEOUT: Duration = Duration::from_secs(15);
/// What is older than this when it could be told first is nobody's news: a webhook that was just set up is not told of
/// the past.
const OLD: Duration = Duration::from_secs(24 * 3600 * 2);
/// For how long Alertmanager is told that something is over, in case it did not hear.
const REPEAT_END: Duration = Duration::from_secs(15 * 60);
/// Alerts that it is told of at most, the worst first.
const STANDING: u32 = 2_000;
/// In one request.
const PART: usize = 100;
/// The answers hold nothing of interest.
const ANSWER_BYTES: usize = 64 << 10;

impl Engine {
    /// Tells the operator's webhook, for ever.
    pub(crate) async fn keep_telling(self: Arc<Self>) {
        let Some(url) = self.alerts.settings.webhook_url.clone() else { return };
        let mut tick = interval(self.alerts.settings.interval);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failing = false;
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = self.alerts.changed.notified() => {}
            }
            if !self.alerts.has_turn() {
                continue;
            }
            let outcome = self.tell_all(&url).await;
            if let Err(error) = &outcome
                && !failing
            {
                tracing::warn!(%error, "what is to be told of alerts cannot be read: {error}");
            }
            failing = outcome.is_err();
        }
    }

    async fn tell_all(&self, url: &str) -> Result<(), StoreError> {
        loop {
            let untold = self.store.alerts.untold(BATCH).await?;
            let full = untold.len() == BATCH as usize;
            // Different alerts do not wait for each other.
            let tellings = untold.into_iter().map(|one| self.tell(url, one));
            join_all(tellings).await.into_iter().collect::<Result<Vec<()>, _>>()?;
            if !full {
                return Ok(());
            }
        }
    }

    async fn tell(&self, url: &str, untold: Untold) -> Result<(), StoreError> {
        let Untold { alert, telling, attempts } = untold;
        let outcome = if attempts == 0 && self.clock.now().since(alert.last_seen_at) > OLD {
            Told::Done
        } else {
            match self.post(url, &alert, telling).await {
                Ok(()) => Told::Done,
                Err(cause) => self.failed(&alert, attempts, &cause),
            }
        };
        self.store.alerts.settle_telling(alert.id, telling, outcome).await
    }

    fn failed(&self, alert: &Alert, attempts: u32, cause: &str) -> Told {
        self.alerts.failed_telling();
        let id = alert.id;
        match RETRIES.get(attempts as usize) {
            Some(wait) => {
                tracing::warn!(%id, cause, "alerts.webhook_url was not told of alert {id}, again in {wait:?}: {cause}");
                Told::Again(*wait)
            }
            None => {
                tracing::error!(%id, cause, "alerts.webhook_url was not told of alert {id} and is not tried again: {cause}");
                Told::Done
            }
        }
    }

    async fn post(&self, url: &str, alert: &Alert, telling: Telling) -> Result<(), String> {
        let settings = &self.alerts.settings;
        let runbook = self.alerts.runbook(&alert.condition);
        let message = message(alert, telling, &runbook);
        let now = self.clock.now().seconds();
        let request = Request::post(url, message.body.clone())
            .header("content-type", "application/json")
            .header("webhook-id", &message.id)
            .header("webhook-timestamp", now.to_string());
        let request = match &settings.webhook_secret {
            Some(secret) => {
                let secret = std::slice::from_ref(secret);
                let signed = webhook::signature(&message.id, now, message.body.as_bytes(), secret);
                request.header("webhook-signature", signed)
            }
            None => request,
        };
        self.send(request).await
    }

    /// Tells the Alertmanagers, for ever.
    pub(crate) async fn keep_informing(self: Arc<Self>) {
        if self.alerts.settings.alertmanager_urls.is_empty() {
            return;
        }
        let mut tick = interval(self.alerts.settings.resend);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failing: HashMap<String, bool> = HashMap::new();
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = self.alerts.changed.notified() => {}
            }
            let posts = self.standing().await;
            if posts.is_empty() {
                continue;
            }
            let told = self.alerts.settings.alertmanager_urls.iter().map(|url| self.inform(url, &posts));
            for (url, outcome) in join_all(told).await {
                let failing = failing.entry(url.clone()).or_default();
                if let Err(cause) = &outcome {
                    self.alerts.failed_telling();
                    if !*failing {
                        tracing::warn!(url, cause, "Alertmanager {url} is not told of alerts: {cause}");
                    }
                } else if *failing {
                    tracing::info!(url, "Alertmanager {url} is told of alerts again");
                }
                *failing = outcome.is_err();
            }
        }
    }

    /// What is to be said now: by who has the turn all that stands, by who cannot write what it sees itself.
    async fn standing(&self) -> Vec<Post> {
        let alerts = &self.alerts;
        let (now, resend) = (self.clock.now(), alerts.settings.resend);
        if !alerts.has_turn() {
            let unstored = alerts.unstored();
            return unstored.iter().map(|one| alertmanager::unstored(one, now, resend, alerts)).collect();
        }
        match self.store.alerts.standing(REPEAT_END, STANDING).await {
            Ok(standing) => {
                standing.iter().map(|alert| alertmanager::stored(alert, now, resend, alerts)).collect()
            }
            // The look finds out, too.
            Err(_) => Vec::new(),
        }
    }

    async fn inform<'a>(&self, url: &'a String, posts: &[Post]) -> (&'a String, Result<(), String>) {
        let path = format!("{}/api/v2/alerts", url.trim_end_matches('/'));
        for part in posts.chunks(PART) {
            let body = serde_json::to_vec(part).unwrap_or_default();
            let request = Request::post(&path, body).header("content-type", "application/json");
            if let Err(cause) = self.send(request).await {
                return (url, Err(cause));
            }
        }
        (url, Ok(()))
    }

    async fn send(&self, request: Request) -> Result<(), String> {
        let request = request.timeout(TIMEOUT).at_most(ANSWER_BYTES);
        match self.alerts.outbound.send(request).await {
            Ok(answer) if answer.status.is_success() => Ok(()),
            Ok(answer) => Err(format!("it answered with status {}", answer.status.as_u16())),
            Err(error) => Err(error.to_string()),
        }
    }
}
