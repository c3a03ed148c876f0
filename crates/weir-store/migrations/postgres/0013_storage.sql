-- What the event logs hold of each project, counted in the same transaction as its usage, and how much of that is no
-- longer retained. What is kept is the difference.
CREATE TABLE log_storage (
    tenant_id      UUID NOT NULL,
    project_id     UUID NOT NULL,
    epoch          BIGINT NOT NULL,
    -- Since counting began: the last event, how many there were, and their bytes.
    last_sequence  BIGINT NOT NULL,
    events         BIGINT NOT NULL,
    bytes          BIGINT NOT NULL,
    -- The part of these that is no longer retained.
    floor_sequence BIGINT NOT NULL,
    floor_events   BIGINT NOT NULL DEFAULT 0,
    floor_bytes    BIGINT NOT NULL DEFAULT 0,
    -- When the first retained event was accepted, as far as somebody looked.
    oldest_at      BIGINT,
    -- `bytes` at the last mark, and the step of counting that touched the row last.
    marked_bytes   BIGINT NOT NULL DEFAULT 0,
    touched        BIGINT NOT NULL,
    -- When retention looks at it, and how often it was asked to: an answer to an earlier question settles no later one.
    review_at      BIGINT NOT NULL DEFAULT 0,
    asked          BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant_id, project_id, epoch)
);
CREATE INDEX log_storage_by_review ON log_storage (review_at);
CREATE INDEX log_storage_by_step ON log_storage (epoch, touched);

-- Places in a project's log up to which its events and bytes are known: where the part that goes is looked for.
CREATE TABLE log_marks (
    tenant_id  UUID NOT NULL,
    project_id UUID NOT NULL,
    epoch      BIGINT NOT NULL,
    sequence   BIGINT NOT NULL,
    events     BIGINT NOT NULL,
    bytes      BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, project_id, epoch, sequence)
);

-- A deleted project: since when by the database's clock, when nothing of it could be read any more, and when its last
-- bytes were overwritten.
ALTER TABLE projects ADD COLUMN gone_at BIGINT;
ALTER TABLE projects ADD COLUMN erased_at BIGINT;
ALTER TABLE projects ADD COLUMN shredded_at BIGINT;
UPDATE projects SET gone_at = deleted_at WHERE deleted_at IS NOT NULL;
CREATE INDEX projects_to_erase ON projects (gone_at) WHERE gone_at IS NOT NULL AND shredded_at IS NULL;

INSERT INTO turns (name, node_id, until) VALUES ('retention', NULL, 0);
