-- Every lane accounts for each of its rows, so that one that is ahead of the log or behind it can be told by itself.

ALTER TABLE producer_lane ADD COLUMN skipped BIGINT DEFAULT 0 NOT NULL;
UPDATE producer_lane SET skipped = last_seq - stored;
COMMENT ON COLUMN producer_lane.stored IS
    'Rows of it that became events. All lanes of a shard add up to its head.';
COMMENT ON COLUMN producer_lane.skipped IS
    'Rows of it that became none: they were there already, or are lost. With stored it adds up to last_seq.';

ALTER TABLE page_lane ADD COLUMN forgotten_before BIGINT;
COMMENT ON COLUMN page_lane.forgotten_before IS
    'Smaller sequences count as seen, whether they came or not: the page made too many holes. NULL: none do.';

CREATE OR REPLACE FUNCTION append_events(
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
                -- One that waited for the row has an older time than the one it waited for.
                head_recorded_at = greatest(s.head_recorded_at + interval '1 microsecond', v_now)
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
    UPDATE producer_lane l
        SET last_seq = lane_seq,
            stored = l.stored + append_events.stored,
            skipped = l.skipped + (lane_seq - l.last_seq) - append_events.stored,
            updated_at = v_now
        WHERE l.shard = p_shard AND l.producer_id = p_producer_id;
END $$;

CREATE OR REPLACE FUNCTION claim_page_sequences(p_shard smallint, p_page_id text[], p_page_seq bigint[], p_skip integer)
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
                        ELSE n.seen + int8multirange(int8range(lower(n.seen), n.horizon)) END,
            forgotten_before = CASE WHEN n.pieces <= 1000 THEN l.forgotten_before ELSE n.horizon END
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
