-- Metadata of Weir on PostgreSQL. The SQLite folder says the same in its own types: keep the two together.
--
-- Times are microseconds since 1970 (UTC) as integers, in both databases: they compare, index and hash
-- the same everywhere, and a test clock can set them. Ids are the 16 bytes of a UUIDv7, so they sort by
-- the time of their making. Every table that belongs to a tenant has tenant_id.
-- An older program keeps running while a newer one migrates, so a migration only adds.

CREATE TABLE installation (
    name  TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
);

CREATE TABLE tenants (
    id                 UUID NOT NULL PRIMARY KEY,
    name               TEXT NOT NULL UNIQUE,
    plan               TEXT NOT NULL,
    overrides          TEXT NOT NULL,
    status             TEXT NOT NULL,
    status_reason      TEXT,
    stream             TEXT NOT NULL,
    stripe_customer_id TEXT,
    created_at         BIGINT NOT NULL,
    access_version     BIGINT NOT NULL
);

CREATE TABLE projects (
    id         UUID NOT NULL PRIMARY KEY,
    tenant_id  UUID NOT NULL REFERENCES tenants (id),
    name       TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    UNIQUE (tenant_id, name),
    -- What the keys refer to: a key cannot join one tenant with another's project.
    UNIQUE (tenant_id, id)
);

CREATE TABLE api_keys (
    id                 UUID NOT NULL PRIMARY KEY,
    tenant_id          UUID NOT NULL,
    project_id         UUID NOT NULL,
    name               TEXT NOT NULL,
    key_hash           BYTEA NOT NULL CHECK (length(key_hash) = 32),
    scopes             TEXT NOT NULL,
    rate_limit_per_sec BIGINT NOT NULL,
    revoked_at         BIGINT,
    expires_at         BIGINT,
    replaced_by        UUID,
    created_at         BIGINT NOT NULL,
    FOREIGN KEY (tenant_id, project_id) REFERENCES projects (tenant_id, id)
);
CREATE INDEX api_keys_of_project ON api_keys (tenant_id, project_id, id);

CREATE TABLE signing_keys (
    id         UUID NOT NULL PRIMARY KEY,
    tenant_id  UUID NOT NULL,
    project_id UUID NOT NULL,
    algorithm  TEXT NOT NULL,
    sealed     BYTEA NOT NULL,
    created_at BIGINT NOT NULL,
    revoked_at BIGINT,
    FOREIGN KEY (tenant_id, project_id) REFERENCES projects (tenant_id, id)
);
CREATE INDEX signing_keys_of_project ON signing_keys (tenant_id, project_id, id);

CREATE TABLE tickets (
    hash       BYTEA NOT NULL PRIMARY KEY CHECK (length(hash) = 32),
    tenant_id  UUID NOT NULL,
    project_id UUID NOT NULL,
    caller     TEXT NOT NULL,
    expires_at BIGINT NOT NULL,
    FOREIGN KEY (tenant_id, project_id) REFERENCES projects (tenant_id, id)
);
CREATE INDEX tickets_by_expiry ON tickets (expires_at);

-- What nodes read to learn whose cached access is out of date. The installation's, not a tenant's: read
-- across tenants and only by nodes.
CREATE TABLE access_changes (
    seq       BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id UUID NOT NULL REFERENCES tenants (id),
    at        BIGINT NOT NULL,
    kind      TEXT NOT NULL,
    subject   TEXT NOT NULL
);

-- No foreign key: what was used is billed even when the project is gone.
CREATE TABLE usage_hourly (
    tenant_id    UUID NOT NULL,
    project_id   UUID NOT NULL,
    metric       TEXT NOT NULL,
    window_start BIGINT NOT NULL,
    quantity     BIGINT NOT NULL CHECK (quantity >= 0),
    PRIMARY KEY (tenant_id, window_start, metric, project_id)
);

-- The last batch that each node's usage was taken from: one row per run of a process, not one per batch.
CREATE TABLE usage_nodes (
    node_id    UUID NOT NULL PRIMARY KEY,
    last_batch BIGINT NOT NULL
);

-- No foreign key to tenants: the trail outlives what it speaks of, and the installation's own chain has
-- the nil UUID for a tenant.
CREATE TABLE audit_entries (
    tenant_id     UUID NOT NULL,
    sequence      BIGINT NOT NULL,
    at            BIGINT NOT NULL,
    actor         TEXT NOT NULL,
    action        TEXT NOT NULL,
    target        TEXT NOT NULL,
    details       TEXT NOT NULL,
    previous_hash BYTEA NOT NULL,
    hash          BYTEA NOT NULL,
    PRIMARY KEY (tenant_id, sequence)
);

-- The end of each chain. Appending locks this row, so a chain grows one entry at a time; verifying compares
-- with it, so that entries cut off the end are missed too.
CREATE TABLE audit_heads (
    tenant_id UUID NOT NULL PRIMARY KEY,
    sequence  BIGINT NOT NULL,
    hash      BYTEA NOT NULL
);
