-- What the payment provider is told about usage, and what it tells.

-- From when until when a tenant's usage is reported for a subscription: whole hours, those of one tenant apart.
CREATE TABLE stripe_subscriptions (
    subscription_id TEXT NOT NULL PRIMARY KEY,
    tenant_id       BLOB NOT NULL,
    customer_id     TEXT NOT NULL,
    metered_from    INTEGER NOT NULL,
    metered_until   INTEGER
) STRICT;
CREATE INDEX stripe_subscriptions_of_tenant ON stripe_subscriptions (tenant_id, metered_from);

-- What is to be reported, written before it is sent. The sum of an hour's revisions is the hour's usage.
CREATE TABLE usage_outbox (
    tenant_id     BLOB NOT NULL,
    metric        TEXT NOT NULL,
    window_start  INTEGER NOT NULL,
    revision      INTEGER NOT NULL,
    -- What this revision adds; below zero where the hour was counted too high before.
    quantity      INTEGER NOT NULL,
    customer_id   TEXT NOT NULL,
    -- pending, unsure (sent, and nobody knows whether it arrived), sent, adjustment (not reported: for people), rejected.
    state         TEXT NOT NULL,
    attempts      INTEGER NOT NULL DEFAULT 0,
    first_sent_at INTEGER,
    last_sent_at  INTEGER,
    -- When it is to be tried next.
    due_at        INTEGER NOT NULL,
    -- Why it is not sent.
    note          TEXT,
    PRIMARY KEY (tenant_id, metric, window_start, revision)
) STRICT;
CREATE INDEX usage_outbox_due ON usage_outbox (due_at) WHERE state IN ('pending', 'unsure');
CREATE INDEX usage_outbox_open ON usage_outbox (state, window_start) WHERE state <> 'sent';
CREATE INDEX usage_outbox_by_hour ON usage_outbox (window_start);

-- Webhooks that came. Each is looked at once; what it says is asked for again.
CREATE TABLE stripe_events (
    event_id    TEXT NOT NULL PRIMARY KEY,
    kind        TEXT NOT NULL,
    customer_id TEXT,
    received_at INTEGER NOT NULL,
    attempts    INTEGER NOT NULL DEFAULT 0,
    due_at      INTEGER NOT NULL,
    handled_at  INTEGER,
    outcome     TEXT
) STRICT;
CREATE INDEX stripe_events_due ON stripe_events (due_at) WHERE handled_at IS NULL;

-- Tenants that were suspended for their payments, for the brake.
CREATE TABLE payment_suspensions (
    tenant_id BLOB NOT NULL,
    at        INTEGER NOT NULL
) STRICT;
CREATE INDEX payment_suspensions_by_time ON payment_suspensions (at);

-- The number of the newest look at how the tenant stands: what an older one found is out of date.
ALTER TABLE billing_accounts ADD COLUMN looks INTEGER NOT NULL DEFAULT 0;
CREATE INDEX billing_accounts_past_due ON billing_accounts (past_due_since) WHERE standing = 'past_due';

-- Which node does what only one does at a time. The row of the brake is only locked.
CREATE TABLE turns (
    name    TEXT NOT NULL PRIMARY KEY,
    node_id BLOB,
    until   INTEGER NOT NULL
) STRICT;
INSERT INTO turns (name, node_id, until) VALUES ('stripe', NULL, 0), ('brake', NULL, 0);
