-- The schemas that events of a project must fit: a row for each topic or pattern that ever had one, and every version
-- that it had. Patterns are ASCII; "C" sorts them as SQLite does.
CREATE TABLE topic_schemas (
    tenant_id  UUID NOT NULL,
    project_id UUID NOT NULL,
    pattern    TEXT COLLATE "C" NOT NULL,
    -- The newest version; numbers go on after a removal.
    version    BIGINT NOT NULL,
    removed_at BIGINT,
    PRIMARY KEY (tenant_id, project_id, pattern),
    FOREIGN KEY (tenant_id, project_id) REFERENCES projects (tenant_id, id)
);

CREATE TABLE topic_schema_versions (
    tenant_id  UUID NOT NULL,
    project_id UUID NOT NULL,
    pattern    TEXT COLLATE "C" NOT NULL,
    version    BIGINT NOT NULL,
    document   TEXT NOT NULL,
    bytes      BIGINT NOT NULL,
    forced     BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    PRIMARY KEY (tenant_id, project_id, pattern, version),
    FOREIGN KEY (tenant_id, project_id, pattern) REFERENCES topic_schemas (tenant_id, project_id, pattern)
);
