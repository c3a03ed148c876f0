-- Row-level security on every table that holds tenants' things, and the role `weir_app` that nodes work as. Runs after
-- the migrations and whenever a node starts with auto_migrate; does only what is missing, so it needs no rights when
-- nothing is. A table of a later migration is found here by its column tenant_id.
DO $$
DECLARE
    -- Whose rows: '*' is everybody's, else a tenant's id. Not set it is an error, and empty, which it becomes when a
    -- transaction that set it ends. CASE, because a UUID is made of the setting only where it is not '*'.
    one CONSTANT text := $q$CASE WHEN current_setting('weir.tenant') = '*' THEN true
                                 ELSE %I = current_setting('weir.tenant')::uuid END$q$;
    everybody CONSTANT text := $q$CASE WHEN current_setting('weir.tenant') = '*' THEN true
                                       ELSE current_setting('weir.tenant')::uuid IS NULL END$q$;
    nobody CONSTANT text := $q$tenant_id = '00000000-0000-0000-0000-000000000000'$q$;
    may_create_roles CONSTANT boolean :=
        (SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user);
    rights text;
    rule text;
    item record;
BEGIN
    PERFORM set_config('client_min_messages', 'warning', true);
    -- Two nodes that start at once wait for each other. "weir wal" in ASCII.
    PERFORM pg_advisory_xact_lock(8603398602053083500);

    FOR item IN
        SELECT c.relname AS name, key.attname AS key
        FROM pg_class c
        LEFT JOIN pg_attribute key ON key.attrelid = c.oid AND NOT key.attisdropped
            AND key.attname = CASE c.relname WHEN 'tenants' THEN 'id' ELSE 'tenant_id' END
        WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p')
          AND (key.attname IS NOT NULL OR c.relname = 'installation')
          AND NOT (c.relrowsecurity AND c.relforcerowsecurity
                   AND EXISTS (SELECT FROM pg_policy WHERE polrelid = c.oid AND polname = 'tenant'))
    LOOP
        -- The installation's secrets are for no tenant's transaction.
        rule := CASE WHEN item.key IS NULL THEN everybody ELSE format(one, item.key) END;
        EXECUTE format('DROP POLICY IF EXISTS tenant ON %I', item.name);
        EXECUTE format('CREATE POLICY tenant ON %I USING (%s) WITH CHECK (%s)', item.name, rule, rule);
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', item.name);
    END LOOP;

    -- Staff's request changes a tenant's things and, in the same transaction, marks its own key.
    IF NOT EXISTS (SELECT FROM pg_policy
                   WHERE polrelid = 'idempotency'::regclass AND polname = 'installation') THEN
        EXECUTE format('CREATE POLICY installation ON idempotency USING (%s) WITH CHECK (%s)', nobody, nobody);
    END IF;

    -- Roles belong to the whole server: another database of it may make the same one at this moment.
    IF may_create_roles AND to_regrole('weir_app') IS NULL THEN
        BEGIN
            CREATE ROLE weir_app NOLOGIN;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;
        END;
    END IF;
    -- Without that role the owner works as itself; FORCE holds it to the policies too.
    IF to_regrole('weir_app') IS NULL THEN
        RETURN;
    END IF;
    IF may_create_roles AND NOT pg_has_role('weir_app', 'MEMBER') THEN
        BEGIN
            GRANT weir_app TO CURRENT_USER;
        EXCEPTION WHEN insufficient_privilege THEN
            NULL;
        END;
    END IF;
    IF NOT has_schema_privilege('weir_app', current_schema(), 'USAGE') THEN
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO weir_app', current_schema());
    END IF;
    FOR item IN
        SELECT c.oid, c.relname AS name FROM pg_class c
        WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p')
    LOOP
        rights := CASE item.name
            WHEN 'audit_entries' THEN 'SELECT, INSERT'
            WHEN 'audit_heads' THEN 'SELECT, INSERT, UPDATE'
            WHEN '_sqlx_migrations' THEN 'SELECT'
            ELSE 'SELECT, INSERT, UPDATE, DELETE'
        END;
        IF (SELECT bool_and(has_table_privilege('weir_app', item.oid, one_right)) IS NOT TRUE
            FROM regexp_split_to_table(rights, ', ') AS one_right) THEN
            EXECUTE format('GRANT %s ON %I TO weir_app', rights, item.name);
        END IF;
    END LOOP;
END
$$;
