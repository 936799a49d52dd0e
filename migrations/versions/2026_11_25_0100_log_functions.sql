-- Immutability -------------------------------------------------------------------------------------------------------

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the log is append-only: % on % is refused', TG_OP, TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END $$;
COMMENT ON FUNCTION refuse_change() IS 'Trigger that keeps the log append-only.';

CREATE TRIGGER events_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
-- Postgres copies row triggers to every partition, also to one that somebody attaches by hand.
CREATE TRIGGER events_rows_append_only BEFORE UPDATE OR DELETE ON events
    FOR EACH ROW EXECUTE FUNCTION refuse_change();

-- Partitions ---------------------------------------------------------------------------------------------------------

CREATE FUNCTION create_events_partition(p_day date) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET lock_timeout = '2s' SET timezone = 'UTC' AS $$
DECLARE
    v_name text := 'events_' || to_char(p_day, 'YYYYMMDD');
BEGIN
    -- Two processes that keep the partitions take turns.
    PERFORM pg_advisory_xact_lock('events'::regclass::oid::bigint);
    IF to_regclass(v_name) IS NOT NULL THEN
        RETURN false;
    END IF;
    -- ATTACH locks the log less than CREATE ... PARTITION OF, which would stop every append and read.
    EXECUTE format('CREATE TABLE %I (LIKE events INCLUDING ALL)', v_name);
    EXECUTE format('COMMENT ON TABLE %I IS %L', v_name, 'The log of ' || p_day || ' (UTC).');
    EXECUTE format('CREATE TRIGGER events_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON %I '
                   'FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()', v_name);
    EXECUTE format('ALTER TABLE events ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
                   v_name, p_day::timestamptz, (p_day + 1)::timestamptz);
    RETURN true;
END $$;
COMMENT ON FUNCTION create_events_partition(date) IS
    'Makes the partition of a day (UTC); false when it was there. One call a transaction.';

-- Append -------------------------------------------------------------------------------------------------------------

CREATE FUNCTION append_events(
    p_shard smallint, p_producer_id uuid, p_first_seq bigint, p_steady_now_us bigint, p_fill_hole boolean,
    p_occurred_at bigint[], p_received_at bigint[], p_node_epoch bigint[], p_event_id uuid[], p_connection_id uuid[],
    p_client_ref uuid[], p_connection_seq integer[], p_close_code integer[], p_schema_version smallint[],
    p_event_type text[], p_source text[], p_node_id text[], p_page_id text[], p_reason text[], p_payload text[],
    p_page_seq bigint[],
    OUT status text, OUT lane_seq bigint, OUT stored integer, OUT head_position bigint, OUT head_recorded_at timestamptz,
    OUT skew_us bigint
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    v_count integer := cardinality(p_event_id);
    v_now timestamptz := clock_timestamp();
    v_skip integer;
    v_inserted integer;
    v_keep boolean[];
BEGIN
    stored := 0;
    skew_us := (extract(epoch FROM v_now) * 1000000)::bigint - p_steady_now_us;
    IF abs(skew_us) > 300000000 THEN
        status := 'clock_skew';
        RETURN;
    END IF;

    -- The lane: nothing of a producer twice, nothing left out. Its lock makes two sendings of one batch take turns.
    SELECT l.last_seq INTO lane_seq FROM producer_lane l
        WHERE l.shard = p_shard AND l.producer_id = p_producer_id FOR UPDATE;
    IF NOT FOUND THEN
        INSERT INTO producer_lane (shard, producer_id, last_seq) VALUES (p_shard, p_producer_id, 0)
            ON CONFLICT DO NOTHING;
        SELECT l.last_seq INTO lane_seq FROM producer_lane l
            WHERE l.shard = p_shard AND l.producer_id = p_producer_id FOR UPDATE;
    END IF;
    IF p_first_seq > lane_seq + 1 AND NOT p_fill_hole THEN
        status := 'lane_gap';
        RETURN;
    END IF;
    status := 'appended';
    v_skip := greatest(lane_seq - p_first_seq + 1, 0);
    IF v_skip >= v_count THEN
        SELECT s.head_position, s.head_recorded_at INTO STRICT head_position, head_recorded_at
            FROM log_shard s WHERE s.shard = p_shard;
        RETURN;
    END IF;
    stored := v_count - v_skip;

    -- One end: an epoch that was fenced may tell how its connections ended, but no longer end them.
    IF p_event_type && ARRAY['connection.opened', 'connection.closed', 'connection.lost'] THEN
        SELECT l.event_types, l.payloads INTO p_event_type, p_payload
            FROM settle_leases(p_event_type, p_payload, p_source, p_node_id, p_node_epoch) l;
    END IF;

    -- The page lane: nothing of a page's telemetry twice, by whatever way it came.
    IF p_page_seq IS NOT NULL THEN
        v_keep := claim_page_sequences(p_shard, p_page_id, p_page_seq, v_skip);
        SELECT count(*) INTO stored FROM unnest(v_keep) k WHERE k;
    END IF;

    IF stored > 0 THEN
        v_now := clock_timestamp();
        -- From here to the commit every append to the shard waits.
        UPDATE log_shard s
            SET head_position = s.head_position + append_events.stored,
                head_recorded_at = greatest(s.head_recorded_at, v_now)
            WHERE s.shard = p_shard
            RETURNING s.head_position, s.head_recorded_at INTO STRICT head_position, head_recorded_at;
        INSERT INTO events (position, recorded_at, occurred_at, received_at, node_epoch, event_id, connection_id,
                            client_ref, connection_seq, close_code, shard, schema_version, event_type, source, node_id,
                            page_id, reason, payload)
            SELECT head_position - append_events.stored + row_number() OVER (ORDER BY e.place), head_recorded_at,
                   timestamptz 'epoch' + e.occurred_at * interval '1 microsecond',
                   timestamptz 'epoch' + e.received_at * interval '1 microsecond',
                   e.node_epoch, e.event_id, e.connection_id, e.client_ref, e.connection_seq, e.close_code, p_shard,
                   e.schema_version, e.event_type, e.source, e.node_id, e.page_id, e.reason, e.payload::jsonb
            FROM unnest(p_occurred_at, p_received_at, p_node_epoch, p_event_id, p_connection_id, p_client_ref,
                        p_connection_seq, p_close_code, p_schema_version, p_event_type, p_source, p_node_id, p_page_id,
                        p_reason, p_payload, v_keep) WITH ORDINALITY
                AS e (occurred_at, received_at, node_epoch, event_id, connection_id, client_ref, connection_seq,
                      close_code, schema_version, event_type, source, node_id, page_id, reason, payload, keep, place)
            WHERE e.place > v_skip AND e.keep IS NOT FALSE;
        GET DIAGNOSTICS v_inserted = ROW_COUNT;
        IF v_inserted <> stored THEN
            RAISE EXCEPTION 'append stored % of % events', v_inserted, stored;
        END IF;
    ELSE
        SELECT s.head_position, s.head_recorded_at INTO STRICT head_position, head_recorded_at
            FROM log_shard s WHERE s.shard = p_shard;
    END IF;

    lane_seq := p_first_seq + v_count - 1;
    UPDATE producer_lane l SET last_seq = lane_seq, stored = l.stored + append_events.stored, updated_at = v_now
        WHERE l.shard = p_shard AND l.producer_id = p_producer_id;
END $$;
COMMENT ON FUNCTION append_events IS
    'Appends one batch of a producer to a shard, exactly once. Times in µs since 1970, arrays of equal length; '
    'p_page_seq is null when no row has one. status: appended, lane_gap (nothing done, lane_seq says where the lane '
    'ends) or clock_skew (nothing done).';

CREATE FUNCTION settle_leases(
    p_event_type text[], p_payload text[], p_source text[], p_node_id text[], p_node_epoch bigint[],
    OUT event_types text[], OUT payloads text[]
) LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    v_nodes text[];
    v_epochs bigint[];
    v_fenced text[] := '{}';
    v_lease record;
BEGIN
    event_types := p_event_type;
    payloads := p_payload;
    SELECT array_agg(e.node_id), array_agg(e.epoch) INTO v_nodes, v_epochs
        FROM (SELECT DISTINCT u.node_id, u.epoch
              FROM unnest(p_event_type, p_node_id, p_node_epoch) AS u (event_type, node_id, epoch)
              WHERE u.event_type IN ('connection.opened', 'connection.closed', 'connection.lost')
                AND u.node_id IS NOT NULL AND u.epoch IS NOT NULL
              ORDER BY u.node_id, u.epoch) e;
    IF v_nodes IS NULL THEN
        RETURN;
    END IF;
    -- A node that never reached the database had no lease to lose: what comes of it first gets it one, so that its
    -- connections do not stay open for ever when it never comes back.
    INSERT INTO node_lease (node_id, epoch, expires_at)
        SELECT e.node_id, e.epoch, clock_timestamp() + interval '1 minute'
        FROM unnest(v_nodes, v_epochs) AS e (node_id, epoch)
        WHERE NOT EXISTS (SELECT FROM node_lease l WHERE l.node_id = e.node_id AND l.epoch = e.epoch)
        ON CONFLICT DO NOTHING;
    IF NOT p_event_type && ARRAY['connection.closed', 'connection.lost'] THEN
        RETURN;
    END IF;
    -- The share lock makes fencing wait for this append: what ends here is below the head that fencing notes.
    FOR v_lease IN
        SELECT l.node_id, l.epoch, l.fenced_at FROM unnest(v_nodes, v_epochs) AS e (node_id, epoch)
        JOIN node_lease l ON l.node_id = e.node_id AND l.epoch = e.epoch
        ORDER BY l.node_id, l.epoch
        FOR SHARE OF l
    LOOP
        IF v_lease.fenced_at IS NOT NULL THEN
            v_fenced := v_fenced || (v_lease.epoch || ' ' || v_lease.node_id);
        END IF;
    END LOOP;
    IF v_fenced = '{}' THEN
        RETURN;
    END IF;
    SELECT array_agg(CASE WHEN late THEN 'connection.end_reported_late' ELSE e.event_type END ORDER BY place),
           array_agg(CASE WHEN late THEN (e.payload::jsonb || jsonb_build_object('reported_as', e.event_type))::text
                          ELSE e.payload END ORDER BY place)
        INTO event_types, payloads
        FROM unnest(p_event_type, p_payload, p_source, p_node_id, p_node_epoch) WITH ORDINALITY
                 AS e (event_type, payload, source, node_id, epoch, place)
        CROSS JOIN LATERAL (
            SELECT e.event_type IN ('connection.closed', 'connection.lost') AND e.source <> 'reaper'
                   AND coalesce((e.epoch || ' ' || e.node_id) = ANY (v_fenced), false) AS late
        ) l;
END $$;
COMMENT ON FUNCTION settle_leases IS
    'For append_events: locks the leases behind a batch and turns the terminal events of fenced epochs into evidence.';

CREATE FUNCTION claim_page_sequences(p_shard smallint, p_page_id text[], p_page_seq bigint[], p_skip integer)
    RETURNS boolean[] LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    v_lane record;
    v_keep boolean[];
BEGIN
    INSERT INTO page_lane (shard, page_id, seen)
        SELECT DISTINCT p_shard, e.page_id, '{}'::int8multirange
        FROM unnest(p_page_id, p_page_seq) AS e (page_id, seq)
        WHERE e.page_id IS NOT NULL AND e.seq IS NOT NULL
        ORDER BY e.page_id
        ON CONFLICT DO NOTHING;
    PERFORM FROM page_lane l WHERE l.shard = p_shard AND l.page_id = ANY (p_page_id) ORDER BY l.page_id FOR UPDATE;
    SELECT array_agg(
               e.place > p_skip AND (e.seq IS NULL OR e.page_id IS NULL OR (e.nth = 1 AND NOT l.seen @> e.seq))
               ORDER BY e.place)
        INTO v_keep
        FROM (SELECT u.*, row_number() OVER (PARTITION BY u.page_id, u.seq, u.place > p_skip ORDER BY u.place) AS nth
              FROM unnest(p_page_id, p_page_seq) WITH ORDINALITY AS u (page_id, seq, place)) e
        LEFT JOIN page_lane l ON l.shard = p_shard AND l.page_id = e.page_id;
    UPDATE page_lane l
        SET received_at = clock_timestamp(),
            -- Holes are rare and old ones never fill; a page that makes thousands of them loses the oldest.
            seen = CASE WHEN n.pieces <= 1000 THEN n.seen
                        ELSE n.seen + int8multirange(int8range(lower(n.seen), n.horizon)) END
        FROM (SELECT m.page_id, m.seen, p.pieces, p.horizon
              FROM (SELECT o.page_id, o.seen + range_agg(int8range(e.seq, e.seq + 1)) AS seen
                    FROM unnest(p_page_id, p_page_seq) WITH ORDINALITY AS e (page_id, seq, place)
                    JOIN page_lane o ON o.shard = p_shard AND o.page_id = e.page_id
                    WHERE e.place > p_skip AND e.seq IS NOT NULL
                    GROUP BY o.page_id, o.seen) m
              CROSS JOIN LATERAL (
                  SELECT count(*) AS pieces, percentile_disc(0.5) WITHIN GROUP (ORDER BY lower(r)) AS horizon
                  FROM unnest(m.seen) r) p) n
        WHERE l.shard = p_shard AND l.page_id = n.page_id;
    RETURN v_keep;
END $$;
COMMENT ON FUNCTION claim_page_sequences IS
    'For append_events: which rows of a batch no page lane has yet, and marks them as seen.';

CREATE FUNCTION unstorable_payloads(p_payload text[]) RETURNS integer[] LANGUAGE plpgsql AS $$
DECLARE
    v_bad integer[] := '{}';
BEGIN
    FOR i IN 1 .. cardinality(p_payload) LOOP
        BEGIN
            IF jsonb_typeof(p_payload[i]::jsonb) <> 'object' THEN
                v_bad := v_bad || i;
            END IF;
        EXCEPTION WHEN data_exception OR statement_too_complex OR program_limit_exceeded THEN
            v_bad := v_bad || i;
        END;
    END LOOP;
    RETURN v_bad;
END $$;
COMMENT ON FUNCTION unstorable_payloads(text[]) IS 'Indexes (from 1) of the payloads that are no JSON object to Postgres.';

-- Leases -------------------------------------------------------------------------------------------------------------

CREATE FUNCTION renew_lease(p_node_id text, p_epoch bigint, p_seconds double precision,
                            OUT fenced boolean, OUT expires_at timestamptz)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    v_until timestamptz := clock_timestamp() + make_interval(secs => p_seconds);
BEGIN
    INSERT INTO node_lease AS l (node_id, epoch, expires_at) VALUES (p_node_id, p_epoch, v_until)
        ON CONFLICT (node_id, epoch) DO UPDATE
            SET expires_at = CASE WHEN l.fenced_at IS NULL THEN excluded.expires_at ELSE l.expires_at END
        RETURNING l.fenced_at IS NOT NULL, l.expires_at INTO fenced, expires_at;
END $$;
COMMENT ON FUNCTION renew_lease IS 'Holds a node''s lease from the database''s now; a fenced epoch stays fenced.';

CREATE FUNCTION release_lease(p_node_id text, p_epoch bigint) RETURNS void
    LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    DELETE FROM node_lease WHERE node_id = p_node_id AND epoch = p_epoch AND fenced_at IS NULL;
$$;
COMMENT ON FUNCTION release_lease IS 'Gives a lease back, of a node whose last event is in the log.';

CREATE FUNCTION fence_expired_leases() RETURNS TABLE (node_id text, epoch bigint, heads bigint[])
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    v_now timestamptz := clock_timestamp();
    v_lease record;
BEGIN
    FOR v_lease IN
        SELECT l.node_id, l.epoch FROM node_lease l WHERE l.fenced_at IS NULL AND l.expires_at < v_now
        ORDER BY l.node_id, l.epoch
        FOR UPDATE
    LOOP
        UPDATE node_lease l SET fenced_at = v_now WHERE l.node_id = v_lease.node_id AND l.epoch = v_lease.epoch;
        -- A statement of its own, so that it sees the heads that appends under the lease have reached.
        INSERT INTO node_fence (shard, node_id, epoch, head_position)
            SELECT s.shard, v_lease.node_id, v_lease.epoch, s.head_position FROM log_shard s;
        node_id := v_lease.node_id;
        epoch := v_lease.epoch;
        SELECT array_agg(f.head_position ORDER BY f.shard) INTO heads FROM node_fence f
            WHERE f.node_id = v_lease.node_id AND f.epoch = v_lease.epoch;
        RETURN NEXT;
    END LOOP;
END $$;
COMMENT ON FUNCTION fence_expired_leases() IS 'Fences every epoch whose lease has run out; notes each shard''s head with it.';

-- Views --------------------------------------------------------------------------------------------------------------

CREATE VIEW event_log AS
    SELECT shard, position, recorded_at, occurred_at, received_at, event_type, schema_version, source, event_id,
           connection_id, connection_seq, node_id, node_epoch, client_ref, page_id, reason, close_code, payload
    FROM events;
COMMENT ON VIEW event_log IS 'The log, for reading: every event by shard and position.';

CREATE VIEW log_head AS SELECT shard, head_position, head_recorded_at, truncated_before FROM log_shard;
COMMENT ON VIEW log_head IS 'Where each shard of the log ends and begins.';

DO $$
DECLARE
    v_column record;
BEGIN
    FOR v_column IN
        SELECT v.oid::regclass AS view, va.attname AS name, max(col_description(ta.attrelid, ta.attnum)) AS says
        FROM pg_class v
        JOIN pg_attribute va ON va.attrelid = v.oid AND va.attnum > 0
        JOIN pg_attribute ta ON ta.attname = va.attname AND ta.attrelid = CASE v.relname
            WHEN 'event_log' THEN 'events'::regclass ELSE 'log_shard'::regclass END
        WHERE v.relname IN ('event_log', 'log_head') AND v.relnamespace = current_schema()::regnamespace
        GROUP BY v.oid, va.attname
    LOOP
        EXECUTE format('COMMENT ON COLUMN %s.%I IS %L', v_column.view, v_column.name, v_column.says);
    END LOOP;
END $$;
