-- Usage that can be explained: where the counting of each log stands, which of its events make up an hour, and which
-- batches of which nodes.

-- How far each incarnation of a log has been counted. Moved in the same transaction that adds what was counted, and only
-- from where it stood: whoever counts second changes nothing. Kept when the log is gone, so that one that comes back is
-- not counted again.
CREATE TABLE usage_positions (
    epoch          BIGINT NOT NULL PRIMARY KEY,
    stream         TEXT NOT NULL,
    position       BIGINT NOT NULL CHECK (position >= 0),
    -- The hour that the last counted event was put into: what comes later is never put into an earlier one.
    reached        BIGINT NOT NULL,
    -- Everything that was acknowledged before this time, by the database's clock, is counted.
    complete_until BIGINT NOT NULL,
    -- Events that were gone from the log before they were counted.
    lost           BIGINT NOT NULL CHECK (lost >= 0),
    -- When the log was found to be gone or made anew.
    ended_at       BIGINT
);

-- The events behind a project's hour of events_published: `quantity` of them stand from `first_sequence` to
-- `last_sequence`, and none of another hour does.
CREATE TABLE usage_ranges (
    tenant_id      UUID NOT NULL,
    window_start   BIGINT NOT NULL,
    project_id     UUID NOT NULL,
    epoch          BIGINT NOT NULL,
    first_sequence BIGINT NOT NULL,
    last_sequence  BIGINT NOT NULL,
    quantity       BIGINT NOT NULL CHECK (quantity >= 0),
    -- What counting them again in the log gave, and when; without a number then: they were no longer there.
    recounted      BIGINT,
    recounted_at   BIGINT,
    PRIMARY KEY (tenant_id, window_start, project_id, epoch)
);
CREATE INDEX usage_ranges_to_recount ON usage_ranges (window_start) WHERE recounted_at IS NULL;
CREATE INDEX usage_ranges_by_age ON usage_ranges (window_start);

-- The nodes' shares in an hour of the other metrics, each the sum of its batches.
CREATE TABLE usage_batches (
    tenant_id    UUID NOT NULL,
    window_start BIGINT NOT NULL,
    metric       TEXT NOT NULL,
    project_id   UUID NOT NULL,
    node_id      UUID NOT NULL,
    first_batch  BIGINT NOT NULL,
    last_batch   BIGINT NOT NULL,
    batches      BIGINT NOT NULL,
    quantity     BIGINT NOT NULL CHECK (quantity >= 0),
    PRIMARY KEY (tenant_id, window_start, metric, project_id, node_id)
);
CREATE INDEX usage_batches_by_age ON usage_batches (window_start);

-- What a node used before this time has arrived.
ALTER TABLE usage_nodes ADD COLUMN flushed_until BIGINT NOT NULL DEFAULT 0;

-- Which streams there are is asked every second.
CREATE INDEX tenants_by_stream ON tenants (stream);
