//! The columns of each entity, under names that stay apart in a join. They are listed, never `*`: PostgreSQL refuses a
//! prepared `SELECT *` once a newer program's migration added a column ("cached plan must not change result type").

/// `columns!("k.", "k_", "id", "name")` is `k.id AS k_id, k.name AS k_name`.
macro_rules! columns {
    ($table:literal, $prefix:literal, $first:literal $(, $column:literal)* $(,)?) => {
        concat!($table, $first, " AS ", $prefix, $first $(, ", ", $table, $column, " AS ", $prefix, $column)*)
    };
}

macro_rules! tenant_columns {
    ($table:literal) => {
        columns!(
            $table,
            "t_",
            "id",
            "name",
            "plan",
            "overrides",
            "status",
            "status_reason",
            "stream",
            "stripe_customer_id",
            "created_at",
            "access_version"
        )
    };
}

macro_rules! project_columns {
    ($table:literal) => {
        columns!($table, "p_", "id", "tenant_id", "name", "limits", "created_at")
    };
}

macro_rules! key_columns {
    ($table:literal) => {
        columns!(
            $table,
            "k_",
            "id",
            "tenant_id",
            "project_id",
            "name",
            "key_hash",
            "scopes",
            "rate_limit_per_sec",
            "revoked_at",
            "expires_at",
            "replaced_by",
            "created_at"
        )
    };
}

macro_rules! signing_key_columns {
    ($table:literal) => {
        columns!(
            $table,
            "s_",
            "id",
            "tenant_id",
            "project_id",
            "name",
            "kind",
            "algorithm",
            "sealed",
            "material",
            "templates",
            "created_at",
            "revoked_at"
        )
    };
}

macro_rules! webhook_columns {
    ($table:literal) => {
        columns!(
            $table,
            "w_",
            "id",
            "tenant_id",
            "project_id",
            "name",
            "url",
            "topics",
            "ordered",
            "in_flight",
            "secret",
            "old_secret",
            "old_until",
            "enabled",
            "disabled_for",
            "disabled_at",
            "failing_since",
            "epoch",
            "sequence",
            "checksum",
            "rewound",
            "version",
            "created_at"
        )
    };
}

macro_rules! user_columns {
    ($table:literal) => {
        columns!(
            $table,
            "u_",
            "id",
            "email",
            "name",
            "password_hash",
            "oidc_issuer",
            "oidc_subject",
            "operator",
            "session_version",
            "created_at",
            "disabled_at"
        )
    };
}

macro_rules! invitation_columns {
    ($table:literal) => {
        columns!(
            $table,
            "i_",
            "id",
            "email",
            "name",
            "tenant_id",
            "role",
            "operator",
            "created_at",
            "expires_at"
        )
    };
}

pub(super) use {
    columns, invitation_columns, key_columns, project_columns, signing_key_columns, tenant_columns,
    user_columns, webhook_columns,
};
