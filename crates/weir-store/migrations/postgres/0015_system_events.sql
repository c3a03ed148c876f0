-- What the server itself has to say, on its way to the event log: written with the change that it is about, gone when the
-- log has it.
CREATE TABLE system_events (
    -- A UUIDv7: the order of making.
    id         UUID NOT NULL PRIMARY KEY,
    tenant_id  UUID NOT NULL,
    -- None: to every project of the tenant.
    project_id UUID,
    topic      TEXT NOT NULL,
    payload    TEXT NOT NULL,
    at         BIGINT NOT NULL
);
CREATE INDEX system_events_of_tenant ON system_events (tenant_id, id);
INSERT INTO turns (name, node_id, until) VALUES ('system', NULL, 0);
