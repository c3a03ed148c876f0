-- Requests that named an Idempotency-Key, and their answers, for a day. `claim` is who works on the request now;
-- a change marks the row (`applied_at`) in its own transaction and under that claim, so it happens once. The nil UUID
-- for a tenant is the platform's own staff.
CREATE TABLE idempotency (
    tenant_id    UUID NOT NULL,
    actor        TEXT NOT NULL,
    key          TEXT NOT NULL,
    claim        UUID NOT NULL UNIQUE,
    request      BYTEA NOT NULL CHECK (length(request) = 32),
    claimed_at   BIGINT NOT NULL,
    claim_ends   BIGINT NOT NULL,
    applied_at   BIGINT,
    status       BIGINT,
    -- The body, sealed for the claim: it may hold a new key's secret.
    sealed       BYTEA,
    PRIMARY KEY (tenant_id, actor, key)
);
CREATE INDEX idempotency_by_age ON idempotency (claimed_at);
