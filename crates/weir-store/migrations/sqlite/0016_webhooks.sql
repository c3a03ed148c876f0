-- Endpoints that events are sent to, and what is on its way to them.

CREATE TABLE webhooks (
    id              BLOB NOT NULL PRIMARY KEY,
    tenant_id       BLOB NOT NULL,
    project_id      BLOB NOT NULL,
    name            TEXT NOT NULL,
    url             TEXT NOT NULL,
    -- A JSON list of topics and patterns.
    topics          TEXT NOT NULL,
    -- 1: one event at a time, in the project's order. 0: up to in_flight at once.
    ordered         INTEGER NOT NULL,
    in_flight       INTEGER NOT NULL,
    -- Sealed; the old one signs too, until its time ends.
    secret          BLOB NOT NULL,
    old_secret      BLOB,
    old_until       INTEGER,
    enabled         INTEGER NOT NULL,
    -- Why it is not: asked, failing, gone.
    disabled_for    TEXT,
    disabled_at     INTEGER,
    -- The first failure after the last success.
    failing_since   INTEGER,
    -- Everything up to here was delivered, is in webhook_messages, or is dead.
    epoch           INTEGER NOT NULL,
    sequence        INTEGER NOT NULL,
    checksum        INTEGER NOT NULL,
    -- Rises when somebody moves the cursor: a node that delivers moves it only from where that was.
    rewound         INTEGER NOT NULL DEFAULT 0,
    -- Rises with every change: a node that delivers begins anew.
    version         INTEGER NOT NULL DEFAULT 0,
    -- Which node delivers, and until when at most.
    node_id         BLOB,
    until           INTEGER NOT NULL DEFAULT 0,
    created_at      INTEGER NOT NULL,
    UNIQUE (tenant_id, id),
    FOREIGN KEY (tenant_id, project_id) REFERENCES projects (tenant_id, id)
) STRICT;
CREATE INDEX webhooks_of_project ON webhooks (tenant_id, project_id);
CREATE INDEX webhooks_of_node ON webhooks (enabled, node_id);

-- What an endpoint did not take the first time, and what is sent to it besides the log.
CREATE TABLE webhook_messages (
    -- The `webhook-id` that the endpoint sees, the same at every attempt.
    id              TEXT NOT NULL,
    tenant_id       BLOB NOT NULL,
    webhook_id      BLOB NOT NULL,
    epoch           INTEGER NOT NULL,
    sequence        INTEGER NOT NULL,
    event_id        TEXT NOT NULL,
    topic           TEXT NOT NULL,
    cursor          TEXT NOT NULL,
    traceparent     TEXT,
    body            BLOB NOT NULL,
    attempts        INTEGER NOT NULL,
    due_at          INTEGER NOT NULL,
    first_failed_at INTEGER,
    last_failed_at  INTEGER,
    failure         TEXT,
    -- The dead letter that is tried again.
    dead_letter_id  BLOB,
    PRIMARY KEY (webhook_id, id),
    FOREIGN KEY (tenant_id, webhook_id) REFERENCES webhooks (tenant_id, id)
) STRICT;

-- The last attempts of each endpoint.
CREATE TABLE webhook_attempts (
    id              BLOB NOT NULL PRIMARY KEY,
    tenant_id       BLOB NOT NULL,
    webhook_id      BLOB NOT NULL,
    at              INTEGER NOT NULL,
    message_id      TEXT NOT NULL,
    event_id        TEXT NOT NULL,
    topic           TEXT NOT NULL,
    sequence        INTEGER NOT NULL,
    -- Of this message: 1, 2, 3 …
    number          INTEGER NOT NULL,
    -- delivered, retry, dead, disabled
    outcome         TEXT NOT NULL,
    status          INTEGER,
    failure         TEXT,
    millis          INTEGER NOT NULL,
    FOREIGN KEY (tenant_id, webhook_id) REFERENCES webhooks (tenant_id, id)
) STRICT;
CREATE INDEX webhook_attempts_of_webhook ON webhook_attempts (webhook_id, id);

INSERT INTO turns (name, node_id, until) VALUES ('webhooks', NULL, 0);
