-- Questions of one node to all: live connections are in their memories, not in tables. Asked and answered within a
-- moment, and forgotten soon after.

CREATE TABLE inquiries (
    id        UUID NOT NULL PRIMARY KEY,
    tenant_id UUID NOT NULL,
    question  TEXT NOT NULL,
    asked_at  BIGINT NOT NULL
);

CREATE TABLE inquiry_answers (
    inquiry_id UUID NOT NULL REFERENCES inquiries (id) ON DELETE CASCADE,
    node_id    UUID NOT NULL,
    tenant_id  UUID NOT NULL,
    answer     TEXT NOT NULL,
    PRIMARY KEY (inquiry_id, node_id)
);
