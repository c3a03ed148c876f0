-- Questions of one node to all: live connections are in their memories, not in tables. Asked and answered within a
-- moment, and forgotten soon after.

CREATE TABLE inquiries (
    id        BLOB NOT NULL PRIMARY KEY,
    tenant_id BLOB NOT NULL,
    question  TEXT NOT NULL,
    asked_at  INTEGER NOT NULL
) STRICT;

CREATE TABLE inquiry_answers (
    inquiry_id BLOB NOT NULL REFERENCES inquiries (id) ON DELETE CASCADE,
    node_id    BLOB NOT NULL,
    tenant_id  BLOB NOT NULL,
    answer     TEXT NOT NULL,
    PRIMARY KEY (inquiry_id, node_id)
) STRICT;
