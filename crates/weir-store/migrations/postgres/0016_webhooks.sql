-- Endpoints that events are sent to, and what is on its way to them.

CREATE TABLE webhooks (
    id              UUID NOT NULL PRIMARY KEY,
    tenant_id       UUID NOT NULL,
    project_id      UUID NOT NULL,
    name            TEXT NOT NULL,
    url             TEXT NOT NULL,
    -- A JSON list of topics and patterns.
    topics          TEXT NOT NULL,
    -- 1: one event at a time, in the project's order. 0: up to in_flight at once.
    ordered         BIGINT NOT NULL,
    in_flight       BIGINT NOT NULL,
    -- Sealed; the old one signs too, until its time ends.
    secret          BYTEA NOT NULL,
    old_secret      BYTEA,
    old_until       BIGINT,
    enabled         BIGINT NOT NULL,
    -- Why it is not: asked, failing, gone.
    disabled_for    TEXT,
    disabled_at     BIGINT,
    -- The first failure after the last success.
    failing_since   BIGINT,
    -- Everything up to here was delivered, is in webhook_messages, or is dead.
    epoch           BIGINT NOT NULL,
    sequence        BIGINT NOT NULL,
    checksum        BIGINT NOT NULL,
    -- Rises when somebody moves the cursor: a node that delivers moves it only from where that was.
    rewound         BIGINT NOT NULL DEFAULT 0,
    -- Rises with every change: a node that delivers begins anew.
    version         BIGINT NOT NULL DEFAULT 0,
    -- Which node delivers, and until when at most.
    node_id         UUID,
    until           BIGINT NOT NULL DEFAULT 0,
    created_at      BIGINT NOT NULL,
    UNIQUE (tenant_id, id),
    FOREIGN KEY (tenant_id, project_id) REFERENCES projects (tenant_id, id)
);
CREATE INDEX webhooks_of_project ON webhooks (tenant_id, project_id);
CREATE INDEX webhooks_of_node ON webhooks (enabled, node_id);

-- What an endpoint did not take the first time, and what is sent to it besides the log.
CREATE TABLE webhook_messages (
    -- The `webhook-id` that the endpoint sees, the same at every attempt.
    id              TEXT NOT NULL,
    tenant_id       UUID NOT NULL,
    webhook_id      UUID NOT NULL,
    epoch           BIGINT NOT NULL,
    sequence        BIGINT NOT NULL,
    event_id        TEXT NOT NULL,
    topic           TEXT NOT NULL,
    cursor          TEXT NOT NULL,
    traceparent     TEXT,
    body            BYTEA NOT NULL,
    attempts        BIGINT NOT NULL,
    due_at          BIGINT NOT NULL,
    first_failed_at BIGINT,
    last_failed_at  BIGINT,
    failure         TEXT,
    -- The dead letter that is tried again.
    dead_letter_id  UUID,
    PRIMARY KEY (webhook_id, id),
    FOREIGN KEY (tenant_id, webhook_id) REFERENCES webhooks (tenant_id, id)
);

-- The last attempts of each endpoint.
CREATE TABLE webhook_attempts (
    id              UUID NOT NULL PRIMARY KEY,
    tenant_id       UUID NOT NULL,
    webhook_id      UUID NOT NULL,
    at              BIGINT NOT NULL,
    message_id      TEXT NOT NULL,
    event_id        TEXT NOT NULL,
    topic           TEXT NOT NULL,
    sequence        BIGINT NOT NULL,
    -- Of this message: 1, 2, 3 …
    number          BIGINT NOT NULL,
    -- delivered, retry, dead, disabled
    outcome         TEXT NOT NULL,
    status          BIGINT,
    failure         TEXT,
    millis          BIGINT NOT NULL,
    FOREIGN KEY (tenant_id, webhook_id) REFERENCES webhooks (tenant_id, id)
);
CREATE INDEX webhook_attempts_of_webhook ON webhook_attempts (webhook_id, id);

INSERT INTO turns (name, node_id, until) VALUES ('webhooks', NULL, 0);
