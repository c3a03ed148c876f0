-- What the event logs hold of each project, counted in the same transaction as its usage, and how much of that is no
-- longer retained. What is kept is the difference.
CREATE TABLE log_storage (
    tenant_id      BLOB NOT NULL,
    project_id     BLOB NOT NULL,
    epoch          INTEGER NOT NULL,
    -- Since counting began: the last event, how many there were, and their bytes.
    last_sequence  INTEGER NOT NULL,
    events         INTEGER NOT NULL,
    bytes          INTEGER NOT NULL,
    -- The part of these that is no longer retained.
    floor_sequence INTEGER NOT NULL,
    floor_events   INTEGER NOT NULL DEFAULT 0,
    floor_bytes    INTEGER NOT NULL DEFAULT 0,
    -- When the first retained event was accepted, as far as somebody looked.
    oldest_at      INTEGER,
    -- `bytes` at the last mark, and the step of counting that touched the row last.
    marked_bytes   INTEGER NOT NULL DEFAULT 0,
    touched        INTEGER NOT NULL,
    -- When retention looks at it, and how often it was asked to: an answer to an earlier question settles no later one.
    review_at      INTEGER NOT NULL DEFAULT 0,
    asked          INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant_id, project_id, epoch)
) STRICT;
CREATE INDEX log_storage_by_review ON log_storage (review_at);
CREATE INDEX log_storage_by_step ON log_storage (epoch, touched);

-- Places in a project's log up to which its events and bytes are known: where the part that goes is looked for.
CREATE TABLE log_marks (
    tenant_id  BLOB NOT NULL,
    project_id BLOB NOT NULL,
    epoch      INTEGER NOT NULL,
    sequence   INTEGER NOT NULL,
    events     INTEGER NOT NULL,
    bytes      INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, project_id, epoch, sequence)
) STRICT;

-- A deleted project: since when by the database's clock, when nothing of it could be read any more, and when its last
-- bytes were overwritten.
ALTER TABLE projects ADD COLUMN gone_at INTEGER;
ALTER TABLE projects ADD COLUMN erased_at INTEGER;
ALTER TABLE projects ADD COLUMN shredded_at INTEGER;
UPDATE projects SET gone_at = deleted_at WHERE deleted_at IS NOT NULL;
CREATE INDEX projects_to_erase ON projects (gone_at) WHERE gone_at IS NOT NULL AND shredded_at IS NULL;

INSERT INTO turns (name, node_id, until) VALUES ('retention', NULL, 0);
