-- Client tokens signed with more than secrets that we made: public keys, documents with keys (JWKS) and where these
-- are published. `kind` is secret, public_key, jwks or jwks_url; `material` is what is public of it, `sealed` is empty
-- then. `templates` is what its tokens allow if they do not say so themselves, as JSON.
ALTER TABLE signing_keys ADD COLUMN name TEXT NOT NULL DEFAULT '';
ALTER TABLE signing_keys ADD COLUMN kind TEXT NOT NULL DEFAULT 'secret';
ALTER TABLE signing_keys ADD COLUMN material TEXT;
ALTER TABLE signing_keys ADD COLUMN templates TEXT;
