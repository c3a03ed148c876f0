//! How this crate's types stand in parameters and columns, the same in both databases.

use crate::InquiryId;
use crate::audit::Hash;
use crate::dead_letters::DeadSource;
use crate::webhooks::{AttemptOutcome, DeathReason, DisabledFor};
use crate::{
    AccessChangeKind, Email, Metric, Overrides, ReportState, SigningAlgorithm, Standing, StoreError,
    TenantStatus, TopicTemplates,
};
use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, ValueRef};
use uuid::Uuid;
use weir_core::{
    AlertId, Currency, DeadLetterId, InvitationId, KeyId, NodeId, Pattern, PlanName, ProjectId,
    ProjectLimits, Role, Scopes, Severity, SigningKeyId, SystemTopic, TenantId, Timestamp, UserId, WebhookId,
};

/// A parameter. Absent values keep their type, which PostgreSQL asks for.
#[derive(Debug)]
pub enum Value {
    Int(Option<i64>),
    Text(Option<String>),
    Bytes(Option<Vec<u8>>),
    Id(Option<Uuid>),
}

/// The parameters of a statement, in the order of their numbers.
macro_rules! args {
    ($($value:expr),* $(,)?) => { vec![$($crate::sql::value::Value::from($value)),*] };
}
pub(crate) use args;

/// A row of either database.
pub enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

/// A type that a column can be read as.
pub trait Column: Sized {
    fn read(row: &Row, column: &'static str) -> Result<Self, StoreError>;
}

impl Row {
    pub fn get<T: Column>(&self, column: &'static str) -> Result<T, StoreError> {
        T::read(self, column)
    }

    fn is_null(&self, column: &'static str) -> Result<bool, StoreError> {
        Ok(match self {
            Self::Sqlite(row) => row.try_get_raw(column)?.is_null(),
            Self::Postgres(row) => row.try_get_raw(column)?.is_null(),
        })
    }
}

impl<T: Column> Column for Option<T> {
    fn read(row: &Row, column: &'static str) -> Result<Self, StoreError> {
        if row.is_null(column)? { Ok(None) } else { T::read(row, column).map(Some) }
    }
}

/// A count; as a parameter it has to be made to fit first.
impl Column for u64 {
    fn read(row: &Row, column: &'static str) -> Result<Self, StoreError> {
        row.get::<i64>(column)?.try_into().map_err(|_| unreadable(column, "u64"))
    }
}

/// What the databases themselves know.
macro_rules! native {
    ($($type:ty => $variant:ident),* $(,)?) => {$(
        impl From<$type> for Value {
            fn from(value: $type) -> Self { Self::$variant(Some(value)) }
        }
        impl From<Option<$type>> for Value {
            fn from(value: Option<$type>) -> Self { Self::$variant(value) }
        }
        impl Column for $type {
            fn read(row: &Row, column: &'static str) -> Result<Self, StoreError> {
                Ok(match row {
                    Row::Sqlite(row) => row.try_get(column)?,
                    Row::Postgres(row) => row.try_get(column)?,
                })
            }
        }
    )*};
}
native!(i64 => Int, String => Text, Vec<u8> => Bytes, Uuid => Id);

/// What stands in a native type: how it gets in, how it comes out.
macro_rules! mapped {
    ($($type:ty as $native:ty: $into:expr, $from:expr;)*) => {$(
        impl From<$type> for Value {
            fn from(value: $type) -> Self { let into: fn($type) -> $native = $into; Self::from(into(value)) }
        }
        impl From<Option<$type>> for Value {
            fn from(value: Option<$type>) -> Self { let into: fn($type) -> $native = $into; Self::from(value.map(into)) }
        }
        impl Column for $type {
            fn read(row: &Row, column: &'static str) -> Result<Self, StoreError> {
                let from: fn($native) -> Option<$type> = $from;
                from(row.get::<$native>(column)?).ok_or_else(|| unreadable(column, stringify!($type)))
            }
        }
    )*};
}
mapped! {
    Timestamp as i64: Timestamp::micros, |micros| Some(Timestamp::from_micros(micros));
    bool as i64: i64::from, |value| match value { 0 => Some(false), 1 => Some(true), _ => None };
    u32 as i64: i64::from, |value| value.try_into().ok();
    TenantId as Uuid: TenantId::uuid, |uuid| Some(TenantId::from_uuid(uuid));
    ProjectId as Uuid: ProjectId::uuid, |uuid| Some(ProjectId::from_uuid(uuid));
    KeyId as Uuid: KeyId::uuid, |uuid| Some(KeyId::from_uuid(uuid));
    SigningKeyId as Uuid: SigningKeyId::uuid, |uuid| Some(SigningKeyId::from_uuid(uuid));
    InquiryId as Uuid: InquiryId::uuid, |uuid| Some(InquiryId::from_uuid(uuid));
    UserId as Uuid: UserId::uuid, |uuid| Some(UserId::from_uuid(uuid));
    InvitationId as Uuid: InvitationId::uuid, |uuid| Some(InvitationId::from_uuid(uuid));
    AlertId as Uuid: AlertId::uuid, |uuid| Some(AlertId::from_uuid(uuid));
    Severity as i64: Severity::rank, Severity::of_rank;
    NodeId as Uuid: NodeId::uuid, |uuid| Some(NodeId::from_uuid(uuid));
    Pattern as String: |pattern| pattern.as_str().into(), |text| text.parse().ok();
    Email as String: |email| email.as_str().into(), |text| text.parse().ok();
    Role as String: |role| role.as_str().into(), |text| text.parse().ok();
    PlanName as String: |plan| plan.as_str().into(), |text| text.parse().ok();
    Scopes as String: |scopes| scopes.to_string(), |text| text.parse().ok();
    TenantStatus as String: |status| status.as_str().into(), |text| TenantStatus::parse(&text);
    AccessChangeKind as String: |kind| kind.as_str().into(), |text| Some(AccessChangeKind::parse(&text));
    SigningAlgorithm as String: |algorithm| algorithm.as_str().into(), |text| SigningAlgorithm::parse(&text);
    ProjectLimits as String: |limits| serde_json::json!(limits).to_string(), |text| serde_json::from_str(&text).ok();
    TopicTemplates as String: |templates| serde_json::json!(templates).to_string(), |text| serde_json::from_str(&text).ok();
    Currency as String: |currency| currency.as_str().into(), |text| text.parse().ok();
    Standing as String: |standing| standing.as_str().into(), |text| Standing::parse(&text);
    ReportState as String: |state| state.as_str().into(), |text| ReportState::parse(&text);
    SystemTopic as String: |topic| topic.as_str().into(), |text| SystemTopic::parse(&text);
    WebhookId as Uuid: WebhookId::uuid, |uuid| Some(WebhookId::from_uuid(uuid));
    DeadLetterId as Uuid: DeadLetterId::uuid, |uuid| Some(DeadLetterId::from_uuid(uuid));
    DisabledFor as String: |reason| reason.as_str().into(), |text| DisabledFor::parse(&text);
    AttemptOutcome as String: |outcome| outcome.as_str().into(), |text| AttemptOutcome::parse(&text);
    DeathReason as String: |reason| reason.as_str().into(), |text| DeathReason::parse(&text);
    DeadSource as String: |source| source.as_str().into(), |text| DeadSource::parse(&text);
    Metric as String: |metric| metric.as_str().into(), |text| Metric::parse(&text);
    Hash as Vec<u8>: |hash| hash.to_vec(), |bytes| bytes.try_into().ok();
    Overrides as String: |overrides| serde_json::Value::from(overrides.fields().clone()).to_string(),
        |text| Overrides::new(serde_json::from_str(&text).ok()?).ok();
}

fn unreadable(column: &str, wanted: &str) -> StoreError {
    StoreError::Corrupt(format!("column `{column}` does not hold a {wanted}"))
}
