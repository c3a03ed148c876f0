-- What is wrong, or was. Of one thing that is wrong (a condition of a subject) at most one row is open, whichever nodes
-- see it.
CREATE TABLE alerts (
    id              BLOB NOT NULL PRIMARY KEY,
    -- NULL is the installation's own.
    tenant_id       BLOB,
    condition       TEXT NOT NULL,
    -- What it is about: the id of a tenant, project or node, or a word.
    subject         TEXT NOT NULL,
    -- 1 info, 2 warning, 3 critical. It only rises while the row is open.
    severity        INTEGER NOT NULL,
    message         TEXT NOT NULL,
    value           TEXT NOT NULL,
    bound           TEXT NOT NULL,
    first_seen_at   INTEGER NOT NULL,
    last_seen_at    INTEGER NOT NULL,
    -- Nobody who sees it again by then: it is over.
    clears_at       INTEGER NOT NULL,
    occurrences     INTEGER NOT NULL,
    acknowledged_at INTEGER,
    acknowledged_by TEXT,
    resolved_at     INTEGER,
    -- How far the operator's webhook has been told: 0 nothing, 1 that it was raised, 2 that it is resolved.
    told            INTEGER NOT NULL DEFAULT 0,
    told_attempts   INTEGER NOT NULL DEFAULT 0,
    told_due        INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX alerts_open ON alerts (condition, subject) WHERE resolved_at IS NULL;
CREATE INDEX alerts_of_tenant ON alerts (tenant_id, id);
CREATE INDEX alerts_by_resolution ON alerts (resolved_at);
CREATE INDEX alerts_untold ON alerts (told_due) WHERE told < 2;

-- Which node looks after what concerns the installation.
INSERT INTO turns (name, node_id, until) VALUES ('alerts', NULL, 0);

-- Which program a node runs; empty is one from before this was noted.
ALTER TABLE nodes ADD COLUMN version TEXT NOT NULL DEFAULT '';
