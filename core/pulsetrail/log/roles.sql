-- The cluster's roles, made by whoever migrates first and may; a missing right leaves everything to that one user.
DO $$
DECLARE
    v_role text;
BEGIN
    FOREACH v_role IN ARRAY ARRAY['pulsetrail_owner', 'pulsetrail_writer', 'pulsetrail_projector', 'pulsetrail_reader']
    LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = v_role) THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN', v_role);
                IF v_role = 'pulsetrail_reader' THEN
                    ALTER ROLE pulsetrail_reader SET default_transaction_read_only = on;
                    ALTER ROLE pulsetrail_reader SET statement_timeout = '30s';
                END IF;
            EXCEPTION WHEN insufficient_privilege OR duplicate_object OR unique_violation THEN
                RAISE NOTICE 'role % was not made: %', v_role, SQLERRM;
            END;
        END IF;
    END LOOP;
    -- Acting as the owner takes membership, and the right to create in the schema and the database.
    BEGIN
        EXECUTE 'GRANT USAGE, CREATE ON SCHEMA public TO pulsetrail_owner';
        IF has_schema_privilege('pulsetrail_owner', 'public', 'CREATE') THEN
            EXECUTE 'SET ROLE pulsetrail_owner';
        END IF;
    EXCEPTION WHEN insufficient_privilege OR undefined_object THEN
        RAISE NOTICE 'migrating as %: %', current_user, SQLERRM;
    END;
END $$;
