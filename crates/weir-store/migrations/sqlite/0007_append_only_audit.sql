-- The trail grows and nothing else. Who can write the file can take these triggers away; then the hashes tell.
CREATE TRIGGER audit_entries_are_not_changed BEFORE UPDATE ON audit_entries
    BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END;
CREATE TRIGGER audit_entries_are_kept BEFORE DELETE ON audit_entries
    BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END;
CREATE TRIGGER audit_heads_are_kept BEFORE DELETE ON audit_heads
    BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END;
