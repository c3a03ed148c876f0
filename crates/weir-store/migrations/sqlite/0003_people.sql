-- People: who signs in, of which tenants they are members, who is invited, and how long they stay signed in.
-- The other database's folder says the same in its own types: keep the two together.
--
-- A user belongs to no tenant: `users` and `refresh_tokens` are the installation's, read by calls that cross tenants.

CREATE TABLE users (
    id              BLOB NOT NULL PRIMARY KEY,
    -- In lower case.
    email           TEXT NOT NULL UNIQUE,
    name            TEXT NOT NULL,
    -- A PHC string; none for who signs in through a provider only.
    password_hash   TEXT,
    oidc_issuer     TEXT,
    oidc_subject    TEXT,
    operator        INTEGER NOT NULL,
    -- Grows when everything that the user was issued ends at once.
    session_version INTEGER NOT NULL,
    created_at      INTEGER NOT NULL,
    disabled_at     INTEGER,
    UNIQUE (oidc_issuer, oidc_subject)
) STRICT;

CREATE TABLE memberships (
    tenant_id  BLOB NOT NULL REFERENCES tenants (id),
    user_id    BLOB NOT NULL REFERENCES users (id),
    role       TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, user_id)
) STRICT;
CREATE INDEX memberships_of_user ON memberships (user_id, tenant_id);

-- Without a tenant: the right to set the password of the user with this address, given out by the installation.
CREATE TABLE invitations (
    id         BLOB NOT NULL PRIMARY KEY,
    hash       BLOB NOT NULL UNIQUE CHECK (length(hash) = 32),
    email      TEXT NOT NULL,
    name       TEXT NOT NULL,
    tenant_id  BLOB REFERENCES tenants (id),
    role       TEXT,
    operator   INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    -- A new invitation takes the place of the old one.
    UNIQUE (tenant_id, email),
    CHECK ((tenant_id IS NULL) = (role IS NULL))
) STRICT;
CREATE INDEX invitations_by_expiry ON invitations (expires_at);

CREATE TABLE refresh_tokens (
    hash       BLOB NOT NULL PRIMARY KEY CHECK (length(hash) = 32),
    -- One sign-in and everything that was refreshed from it.
    family     BLOB NOT NULL,
    user_id    BLOB NOT NULL REFERENCES users (id),
    -- What the sign-in was for; none for the installation's operators.
    tenant_id  BLOB,
    expires_at INTEGER NOT NULL,
    used_at    INTEGER
) STRICT;
CREATE INDEX refresh_tokens_of_family ON refresh_tokens (family);
CREATE INDEX refresh_tokens_of_user ON refresh_tokens (user_id);
CREATE INDEX refresh_tokens_by_expiry ON refresh_tokens (expires_at);
