-- Plans, billing periods, and the events that nodes may accept within them.

-- What each version of a plan means. A version never changes: tenants that bought it keep its terms.
CREATE TABLE plans (
    name                   TEXT NOT NULL,
    version                INTEGER NOT NULL,
    currency               TEXT NOT NULL,
    monthly_events         INTEGER CHECK (monthly_events >= 0),
    price_per_event_micros INTEGER NOT NULL CHECK (price_per_event_micros >= 0),
    PRIMARY KEY (name, version)
) STRICT;
INSERT INTO plans (name, version, currency, monthly_events, price_per_event_micros) VALUES
    ('free', 1, 'USD', 100000, 0),
    ('pro', 1, 'USD', 5000000, 3),
    ('enterprise', 1, 'USD', NULL, 0);

-- Made when a tenant's billing is looked at first.
CREATE TABLE billing_accounts (
    tenant_id              BLOB NOT NULL PRIMARY KEY REFERENCES tenants (id),
    plan_version           INTEGER NOT NULL,
    -- Periods are the months that begin here.
    anchor                 INTEGER NOT NULL,
    period_start           INTEGER NOT NULL,
    period_end             INTEGER NOT NULL CHECK (period_end > period_start),
    spend_cap_micros       INTEGER CHECK (spend_cap_micros >= 0),
    standing               TEXT NOT NULL DEFAULT 'active',
    past_due_since         INTEGER,
    stripe_customer_id     TEXT UNIQUE,
    stripe_subscription_id TEXT UNIQUE
) STRICT;

-- How many events of a period were accepted on leases that have ended: at most so many. With what is granted on the
-- leases that stand it never exceeds the limit.
CREATE TABLE allowance_periods (
    tenant_id     BLOB NOT NULL,
    period_start  INTEGER NOT NULL,
    period_end    INTEGER NOT NULL,
    settled       INTEGER NOT NULL CHECK (settled >= 0),
    -- Set while the log's count is to correct `settled`: that of a time before this does not hold yet what is in doubt.
    recount_after INTEGER,
    -- 1 where events were accepted without leases, so that the count may correct upwards.
    unleased      INTEGER NOT NULL,
    -- What the leases that stand had reported, and when; what is counted later holds all of it.
    snapshot_at   INTEGER,
    snapshot_used INTEGER,
    -- The greatest share of the limit, in percent, that was noted as reached.
    noticed       INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant_id, period_start)
) STRICT;
CREATE INDEX allowance_periods_to_recount ON allowance_periods (recount_after) WHERE recount_after IS NOT NULL;

-- What each node may accept in a period, how much of it the log has confirmed, and how much more it tried without
-- learning the outcome; the latter counts as settled.
CREATE TABLE allowance_leases (
    tenant_id    BLOB NOT NULL,
    period_start INTEGER NOT NULL,
    node_id      BLOB NOT NULL,
    granted      INTEGER NOT NULL CHECK (granted >= 0),
    used         INTEGER NOT NULL CHECK (used >= 0),
    doubtful     INTEGER NOT NULL CHECK (doubtful >= 0),
    PRIMARY KEY (tenant_id, period_start, node_id)
) STRICT;
CREATE INDEX allowance_leases_of_node ON allowance_leases (node_id);

-- Shares of the limit that were reached, each once in a period.
CREATE TABLE billing_notices (
    tenant_id    BLOB NOT NULL,
    period_start INTEGER NOT NULL,
    metric       TEXT NOT NULL,
    threshold    INTEGER NOT NULL,
    event_limit  INTEGER NOT NULL,
    at           INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, period_start, metric, threshold)
) STRICT;
