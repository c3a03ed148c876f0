//! Alerts: what is wrong, from when to when, told once however many nodes see it.

use crate::{After, By, Page, Reply};
use serde::Serialize;
use std::time::Duration;
use weir_core::{AlertId, NodeId, Severity, TenantId, Timestamp, WebhookId};

/// Something that a node sees to be wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// What kind of thing is wrong.
    pub condition: String,
    /// With what: the id of a tenant, project or node, or a word.
    pub subject: String,
    /// Whose it is; `None` is the installation's.
    pub tenant: Option<TenantId>,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, in a sentence.
    pub message: String,
    /// What was measured.
    pub value: String,
    /// What it should not exceed, or fall short of.
    pub limit: String,
    /// How often it happened since it was reported last; 0 when it only goes on.
    pub times: u64,
    /// It is over when nobody has seen it for so long.
    pub hold: Duration,
}

/// Something that is wrong, or was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Alert {
    /// Its id.
    pub id: AlertId,
    /// Whose it is; `None` is the installation's.
    pub tenant_id: Option<TenantId>,
    /// What kind of thing is wrong.
    pub condition: String,
    /// With what.
    pub subject: String,
    /// How bad it was at its worst.
    pub severity: Severity,
    /// What is wrong, in a sentence, as it was seen last at that severity.
    pub message: String,
    /// What was measured then.
    pub value: String,
    /// What it should not exceed, or fall short of.
    pub limit: String,
    /// Since when, by the database's clock.
    pub first_seen_at: Timestamp,
    /// When it was seen last.
    pub last_seen_at: Timestamp,
    /// How often it happened, or began again.
    pub occurrences: u64,
    /// When somebody took it on.
    pub acknowledged_at: Option<Timestamp>,
    /// Who, as the audit trail names them.
    pub acknowledged_by: Option<String>,
    /// When it was over.
    pub resolved_at: Option<Timestamp>,
}

/// How far an alert has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertState {
    /// It is open, and nobody said to look after it.
    Raised,
    /// It is open, and somebody looks after it.
    Acknowledged,
    /// It is over.
    Resolved,
}

impl AlertState {
    /// The public name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Raised => "raised",
            Self::Acknowledged => "acknowledged",
            Self::Resolved => "resolved",
        }
    }
}

impl Alert {
    /// How far it has come.
    #[must_use]
    pub const fn state(&self) -> AlertState {
        match (self.resolved_at, self.acknowledged_at) {
            (Some(_), _) => AlertState::Resolved,
            (None, Some(_)) => AlertState::Acknowledged,
            (None, None) => AlertState::Raised,
        }
    }
}

/// Which states are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlertStates {
    /// Those that are not over.
    Open,
    /// One.
    Only(AlertState),
}

impl std::str::FromStr for AlertStates {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "open" => Self::Open,
            "raised" => Self::Only(AlertState::Raised),
            "acknowledged" => Self::Only(AlertState::Acknowledged),
            "resolved" => Self::Only(AlertState::Resolved),
            _ => return Err("use open, raised, acknowledged or resolved"),
        })
    }
}

/// Which alerts are wanted.
#[derive(Clone, Copy, Debug, Default)]
pub struct AlertFilter {
    /// Only of this tenant.
    pub tenant: Option<TenantId>,
    /// Only these states.
    pub states: Option<AlertStates>,
    /// Only of this severity.
    pub severity: Option<Severity>,
}

/// A tenant whose use has reached a share of its limit in the period of now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuotaReached {
    /// Whose.
    pub tenant: TenantId,
    /// The greatest share that was reached, in percent.
    pub threshold: u32,
    /// Of how many events.
    pub limit: u64,
}

/// What a tenant keeps in the event logs, and how much it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keeping {
    /// Who.
    pub tenant: TenantId,
    /// Bytes of its events, in all projects together.
    pub bytes: u64,
    /// How many it may keep; 0 is as much as there is room.
    pub limit: u64,
}

/// A tenant that does not stand well with its payments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unpaid {
    /// Who.
    pub tenant: TenantId,
    /// Whether it was suspended for it.
    pub suspended: bool,
    /// Since when.
    pub since: Option<Timestamp>,
}

/// An endpoint of a tenant that takes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailingWebhook {
    /// Which.
    pub webhook: WebhookId,
    /// Whose.
    pub tenant: TenantId,
    /// Since when every attempt has failed, or it has been disabled.
    pub since: Timestamp,
    /// Whether it is disabled because of that; then nothing is sent to it any more.
    pub disabled: bool,
}

/// Alerts, by the database's clock.
pub trait Alerts: Send + Sync {
    /// Reports what is seen to be wrong: opens an alert for what is new, and keeps open what is known. Returns those that
    /// it opened.
    fn sight(&self, seen: Vec<Sighting>) -> Reply<'_, Vec<Alert>>;

    /// Ends up to `limit` alerts that nobody has seen for their hold time, and returns them.
    fn clear(&self, limit: u32) -> Reply<'_, Vec<Alert>>;

    /// Alerts, newest first: of one tenant, or of all and of the installation.
    fn alerts(
        &self,
        of: Option<TenantId>,
        filter: AlertFilter,
        page: After<AlertId>,
    ) -> Reply<'_, Page<Alert>>;

    /// Notes that somebody looks after an open alert. `Conflict` when it is over; who was first stays.
    fn acknowledge(&self, of: Option<TenantId>, id: AlertId, by: By) -> Reply<'_, Alert>;

    /// Up to `limit` alerts that are open or ended after the last `since`, the worst and newest first.
    fn standing(&self, since: Duration, limit: u32) -> Reply<'_, Vec<Alert>>;

    /// Alerts of which the operator's webhook is still to be told, with how often that was tried. Of each first that it was
    /// raised, then that it is resolved: `told` of the answer is what to tell now.
    fn untold(&self, limit: u32) -> Reply<'_, Vec<Untold>>;

    /// Notes what came of telling it.
    fn settle_telling(&self, id: AlertId, telling: Telling, outcome: Told) -> Reply<'_, ()>;

    /// Forgets alerts that were over `age` ago.
    fn forget_alerts(&self, age: Duration) -> Reply<'_, u64>;

    /// Takes or renews the turn to look after what concerns the installation. False when another node that runs has it.
    fn take_alert_turn(&self, node: NodeId, lease: Duration) -> Reply<'_, bool>;

    /// Tenants in whose period of now a share of the limit was reached, in the order of their ids.
    fn quotas_reached(&self, after: Option<TenantId>, limit: u32) -> Reply<'_, Vec<QuotaReached>>;

    /// What tenants keep that keep anything, in the order of their ids.
    fn keeping(&self, after: Option<TenantId>, limit: u32) -> Reply<'_, Vec<Keeping>>;

    /// Tenants that do not stand well with their payments, in the order of their ids.
    fn unpaid(&self, after: Option<TenantId>, limit: u32) -> Reply<'_, Vec<Unpaid>>;

    /// Endpoints that have taken nothing for `patience`, or are disabled for it, in the order of their ids.
    fn failing_webhooks(
        &self,
        after: Option<WebhookId>,
        patience: Duration,
        limit: u32,
    ) -> Reply<'_, Vec<FailingWebhook>>;

    /// Notes which program a node runs.
    fn note_version(&self, node: NodeId, version: String) -> Reply<'_, ()>;

    /// Which programs the nodes run that run now; empty where it is not known.
    fn node_versions(&self) -> Reply<'_, Vec<(NodeId, String)>>;

    /// The time by the database's clock.
    fn database_time(&self) -> Reply<'_, Timestamp>;
}

/// What is to be told of an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Telling {
    /// That it was raised.
    Raised,
    /// That it is resolved.
    Resolved,
}

/// An alert of which somebody is still to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Untold {
    /// The alert.
    pub alert: Alert,
    /// What is to be told.
    pub telling: Telling,
    /// How often that was tried.
    pub attempts: u32,
}

/// What came of telling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// It was taken, or is given up.
    Done,
    /// It is to be tried again after so long.
    Again(Duration),
}
