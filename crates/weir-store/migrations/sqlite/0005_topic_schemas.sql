-- The schemas that events of a project must fit: a row for each topic or pattern that ever had one, and every version
-- that it had.
CREATE TABLE topic_schemas (
    tenant_id  BLOB NOT NULL,
    project_id BLOB NOT NULL,
    pattern    TEXT NOT NULL,
    -- The newest version; numbers go on after a removal.
    version    INTEGER NOT NULL,
    removed_at INTEGER,
    PRIMARY KEY (tenant_id, project_id, pattern),
    FOREIGN KEY (tenant_id, project_id) REFERENCES projects (tenant_id, id)
) STRICT;

CREATE TABLE topic_schema_versions (
    tenant_id  BLOB NOT NULL,
    project_id BLOB NOT NULL,
    pattern    TEXT NOT NULL,
    version    INTEGER NOT NULL,
    document   TEXT NOT NULL,
    bytes      INTEGER NOT NULL,
    forced     INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    PRIMARY KEY (tenant_id, project_id, pattern, version),
    FOREIGN KEY (tenant_id, project_id, pattern) REFERENCES topic_schemas (tenant_id, project_id, pattern)
) STRICT;
