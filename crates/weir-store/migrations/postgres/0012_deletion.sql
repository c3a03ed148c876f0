-- What was deleted stays as a row, which nothing finds that serves anybody: bills, the audit trail and the events in the
-- log still refer to it. Its name is given up to whoever wants it next.

ALTER TABLE tenants ADD COLUMN deleted_at BIGINT;
ALTER TABLE projects ADD COLUMN deleted_at BIGINT;
