-- The nodes that run, what each has enforced, and the shares of connections that they hold.

-- A node counts as long as its lease: changes of access wait for it, and the shares below are its own.
CREATE TABLE nodes (
    id          BLOB NOT NULL PRIMARY KEY,
    started_at  INTEGER NOT NULL,
    seen_at     INTEGER NOT NULL,
    lease_until INTEGER NOT NULL,
    -- All access changes up to this one are enforced there.
    confirmed   INTEGER NOT NULL
) STRICT;

-- Only where a change ended connections: that it was enforced is in nodes.confirmed.
CREATE TABLE access_closings (
    seq         INTEGER NOT NULL,
    node_id     BLOB NOT NULL,
    connections INTEGER NOT NULL CHECK (connections > 0),
    PRIMARY KEY (seq, node_id)
) STRICT;

-- How many live connections a node may have of a tenant, or of one project where that has a limit of its own; for the
-- tenant as a whole the project is the nil UUID. A share whose node has no lease is void. No foreign key to nodes: they
-- come and go under load, and a share without a node counts for nothing.
CREATE TABLE connection_shares (
    tenant_id  BLOB NOT NULL,
    project_id BLOB NOT NULL,
    node_id    BLOB NOT NULL,
    granted    INTEGER NOT NULL CHECK (granted > 0),
    PRIMARY KEY (tenant_id, project_id, node_id)
) STRICT;
CREATE INDEX connection_shares_of_node ON connection_shares (node_id);

-- Limits of a project that are narrower than its tenant's.
ALTER TABLE projects ADD COLUMN limits TEXT NOT NULL DEFAULT '{}';
