-- What could not be delivered or read, kept until somebody looks: written before its original is let go.

CREATE TABLE dead_letters (
    -- A UUIDv7: the order of dying.
    id              BLOB NOT NULL PRIMARY KEY,
    tenant_id       BLOB NOT NULL,
    -- None where that cannot be read.
    project_id      BLOB,
    -- Who could not do what it should: webhook, log.
    source          TEXT NOT NULL,
    webhook_id      BLOB,
    -- The name of the message there; it dies once.
    message_id      TEXT NOT NULL,
    -- dead, or redriven: on its way again.
    state           TEXT NOT NULL,
    -- exhausted, undecodable
    reason          TEXT NOT NULL,
    failure         TEXT NOT NULL,
    attempts        INTEGER NOT NULL,
    first_failed_at INTEGER NOT NULL,
    last_failed_at  INTEGER NOT NULL,
    event_id        TEXT,
    topic           TEXT,
    cursor          TEXT,
    traceparent     TEXT,
    epoch           INTEGER NOT NULL,
    sequence        INTEGER NOT NULL,
    body            BLOB NOT NULL,
    bytes           INTEGER NOT NULL,
    UNIQUE (tenant_id, source, message_id)
) STRICT;
CREATE INDEX dead_letters_of_tenant ON dead_letters (tenant_id, id);
CREATE INDEX dead_letters_of_webhook ON dead_letters (webhook_id, epoch, sequence);

-- How many there are, and how many were dropped to make room.
CREATE TABLE dead_letter_totals (
    tenant_id BLOB NOT NULL PRIMARY KEY,
    letters   INTEGER NOT NULL,
    bytes     INTEGER NOT NULL,
    dropped   INTEGER NOT NULL,
    -- The greatest share of the bounds, in percent, that was told.
    told      INTEGER NOT NULL
) STRICT;
