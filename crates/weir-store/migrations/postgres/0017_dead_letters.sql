-- What could not be delivered or read, kept until somebody looks: written before its original is let go.

CREATE TABLE dead_letters (
    -- A UUIDv7: the order of dying.
    id              UUID NOT NULL PRIMARY KEY,
    tenant_id       UUID NOT NULL,
    -- None where that cannot be read.
    project_id      UUID,
    -- Who could not do what it should: webhook, log.
    source          TEXT NOT NULL,
    webhook_id      UUID,
    -- The name of the message there; it dies once.
    message_id      TEXT NOT NULL,
    -- dead, or redriven: on its way again.
    state           TEXT NOT NULL,
    -- exhausted, undecodable
    reason          TEXT NOT NULL,
    failure         TEXT NOT NULL,
    attempts        BIGINT NOT NULL,
    first_failed_at BIGINT NOT NULL,
    last_failed_at  BIGINT NOT NULL,
    event_id        TEXT,
    topic           TEXT,
    cursor          TEXT,
    traceparent     TEXT,
    epoch           BIGINT NOT NULL,
    sequence        BIGINT NOT NULL,
    body            BYTEA NOT NULL,
    bytes           BIGINT NOT NULL,
    UNIQUE (tenant_id, source, message_id)
);
CREATE INDEX dead_letters_of_tenant ON dead_letters (tenant_id, id);
CREATE INDEX dead_letters_of_webhook ON dead_letters (webhook_id, epoch, sequence);

-- How many there are, and how many were dropped to make room.
CREATE TABLE dead_letter_totals (
    tenant_id UUID NOT NULL PRIMARY KEY,
    letters   BIGINT NOT NULL,
    bytes     BIGINT NOT NULL,
    dropped   BIGINT NOT NULL,
    -- The greatest share of the bounds, in percent, that was told.
    told      BIGINT NOT NULL
);
