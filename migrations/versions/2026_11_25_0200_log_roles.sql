CREATE FUNCTION grant_if_role(p_privileges text, p_object text, p_role text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    -- Where nobody was allowed to create the roles, everything belongs to the one user that there is.
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = p_role) THEN
        EXECUTE format('GRANT %s ON %s TO %I', p_privileges, p_object, p_role);
    END IF;
END $$;
COMMENT ON FUNCTION grant_if_role(text, text, text) IS 'GRANT, for a role that may not exist.';

REVOKE ALL ON FUNCTION append_events, settle_leases, claim_page_sequences, renew_lease, release_lease,
    fence_expired_leases, create_events_partition, grant_if_role FROM PUBLIC;

SELECT grant_if_role('EXECUTE', f, 'pulsetrail_writer')
    FROM unnest(ARRAY['FUNCTION append_events', 'FUNCTION renew_lease', 'FUNCTION release_lease',
                      'FUNCTION unstorable_payloads']) f;
SELECT grant_if_role('SELECT', t, 'pulsetrail_writer')
    FROM unnest(ARRAY['deployment', 'log_shard', 'producer_lane', 'events', 'client_identity']) t;
SELECT grant_if_role('INSERT, UPDATE', 'client_identity', 'pulsetrail_writer'),
       grant_if_role('SELECT, INSERT', 'dead_letter', 'pulsetrail_writer'),
       grant_if_role('SELECT, INSERT, UPDATE, DELETE', 'updates', 'pulsetrail_writer'),
       grant_if_role('SELECT, INSERT, UPDATE, DELETE', 'update_stream', 'pulsetrail_writer'),
       grant_if_role('SELECT, INSERT, UPDATE, DELETE', 'process', 'pulsetrail_writer');

SELECT grant_if_role('EXECUTE', f, 'pulsetrail_projector')
    FROM unnest(ARRAY['FUNCTION append_events', 'FUNCTION fence_expired_leases', 'FUNCTION create_events_partition',
                      'FUNCTION unstorable_payloads', 'FUNCTION grant_if_role']) f;
SELECT grant_if_role('SELECT', t, 'pulsetrail_projector')
    FROM unnest(ARRAY['deployment', 'log_shard', 'producer_lane', 'page_lane', 'events', 'event_log', 'log_head']) t;
SELECT grant_if_role('SELECT, INSERT, UPDATE, DELETE', t, 'pulsetrail_projector')
    FROM unnest(ARRAY['projection_checkpoint', 'dead_letter', 'node_fence', 'process']) t;
-- To lock a lease takes the right to change it.
SELECT grant_if_role('SELECT, UPDATE', 'node_lease', 'pulsetrail_projector');

SELECT grant_if_role('SELECT', t, 'pulsetrail_reader') FROM unnest(ARRAY['event_log', 'log_head']) t;
