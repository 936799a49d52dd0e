-- Appending costs what COPY does: a batch's page lanes are claimed by one statement that looks at nothing but the pages
-- it names, and its rows are numbered and unnested without a sort and without a copy of each column.

DROP FUNCTION claim_page_sequences(smallint, text[], bigint[], integer);
CREATE FUNCTION claim_page_sequences(p_shard smallint, p_page_id text[], p_page_seq bigint[], p_skip integer)
    RETURNS integer[] LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    v_now timestamptz := clock_timestamp();
    v_told integer;
    v_repeats boolean;
    v_claimed text[];
    v_ragged text[];
    v_rank integer[];
BEGIN
    -- Nearly always no page has any of it yet, and that costs one statement. Pages in one order everywhere, so that two
    -- appends do not lock each other out; a lane whose WHERE fails stays as it is, but locked.
    WITH told AS MATERIALIZED (
        SELECT e.page_id, range_agg(int8range(e.seq, e.seq + 1)) AS seqs, count(*) AS events
        FROM unnest(p_page_id, p_page_seq) WITH ORDINALITY AS e (page_id, seq, place)
        WHERE e.place > p_skip AND e.page_id IS NOT NULL AND e.seq IS NOT NULL
        GROUP BY e.page_id
    ),
    claimed AS (
        INSERT INTO page_lane AS l (shard, page_id, seen, received_at)
        SELECT p_shard, t.page_id, t.seqs, v_now FROM told t ORDER BY t.page_id
        ON CONFLICT (shard, page_id) DO UPDATE SET seen = l.seen + excluded.seen, received_at = v_now
            WHERE NOT l.seen && excluded.seen
        RETURNING l.page_id, l.seen <> range_merge(l.seen)::int8multirange AS is_ragged
    )
    SELECT (SELECT count(*) FROM told),
           (SELECT bool_or(t.events <> (SELECT sum(upper(r) - lower(r)) FROM unnest(t.seqs) r))
            FROM told t WHERE t.events > 1),
           coalesce(array_agg(c.page_id), '{}'), array_agg(c.page_id) FILTER (WHERE c.is_ragged)
        INTO v_told, v_repeats, v_claimed, v_ragged FROM claimed c;

    IF v_repeats OR cardinality(v_claimed) <> v_told THEN
        SELECT array_agg(CASE WHEN e.is_new THEN e.rank END ORDER BY e.place) INTO v_rank
            FROM (SELECT k.place, k.is_new, count(*) FILTER (WHERE k.is_new) OVER (ORDER BY k.place) AS rank
                  FROM (SELECT n.place,
                               n.place > p_skip AND (n.seq IS NULL OR n.page_id IS NULL OR (
                                   n.nth = 1 AND (n.page_id = ANY (v_claimed) OR NOT l.seen @> n.seq))) AS is_new
                        FROM (SELECT u.*, row_number() OVER (PARTITION BY u.page_id, u.seq, u.place > p_skip
                                                             ORDER BY u.place) AS nth
                              FROM unnest(p_page_id, p_page_seq) WITH ORDINALITY AS u (page_id, seq, place)) n
                        LEFT JOIN page_lane l ON l.shard = p_shard AND l.page_id = n.page_id) k) e;
        UPDATE page_lane l SET seen = l.seen + t.seqs, received_at = v_now
            FROM (SELECT e.page_id, range_agg(int8range(e.seq, e.seq + 1)) AS seqs
                  FROM unnest(p_page_id, p_page_seq) WITH ORDINALITY AS e (page_id, seq, place)
                  WHERE e.place > p_skip AND e.page_id IS NOT NULL AND e.seq IS NOT NULL
                    AND NOT e.page_id = ANY (v_claimed)
                  GROUP BY e.page_id) t
            WHERE l.shard = p_shard AND l.page_id = t.page_id;
    END IF;

    -- Holes are rare and old ones never fill; a page that makes thousands of them loses the oldest.
    IF v_ragged IS NOT NULL THEN
        UPDATE page_lane l
            SET seen = n.seen + int8multirange(int8range(lower(n.seen), n.horizon)), forgotten_before = n.horizon
            FROM (SELECT o.page_id, o.seen, p.horizon
                  FROM page_lane o
                  CROSS JOIN LATERAL (
                      SELECT count(*) AS pieces, percentile_disc(0.5) WITHIN GROUP (ORDER BY lower(r)) AS horizon
                      FROM unnest(o.seen) r) p
                  WHERE o.shard = p_shard AND o.page_id = ANY (v_ragged) AND p.pieces > 1000) n
            WHERE l.shard = p_shard AND l.page_id = n.page_id;
    END IF;
    RETURN v_rank;
END $$;
COMMENT ON FUNCTION claim_page_sequences IS
    'For append_events: marks the rows of a batch in their page lanes. Null when no lane had any of them; otherwise the '
    'place of each row among those that are new, null for the others.';
REVOKE ALL ON FUNCTION claim_page_sequences FROM PUBLIC;

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
    v_rank integer[];
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
        v_rank := claim_page_sequences(p_shard, p_page_id, p_page_seq, v_skip);
        IF v_rank IS NOT NULL THEN
            SELECT count(k) INTO stored FROM unnest(v_rank) k;
        END IF;
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
            SELECT head_position - append_events.stored + coalesce(e.rank, e.place - v_skip), head_recorded_at,
                   timestamptz 'epoch' + e.occurred_at * interval '1 microsecond',
                   timestamptz 'epoch' + e.received_at * interval '1 microsecond',
                   e.node_epoch, e.event_id, e.connection_id, e.client_ref, e.connection_seq, e.close_code, p_shard,
                   e.schema_version, e.event_type, e.source, e.node_id, e.page_id, e.reason, e.payload::jsonb
            FROM (SELECT generate_series(1, v_count) AS place, unnest(v_rank) AS rank,
                         unnest(p_occurred_at) AS occurred_at, unnest(p_received_at) AS received_at,
                         unnest(p_node_epoch) AS node_epoch, unnest(p_event_id) AS event_id,
                         unnest(p_connection_id) AS connection_id, unnest(p_client_ref) AS client_ref,
                         unnest(p_connection_seq) AS connection_seq, unnest(p_close_code) AS close_code,
                         unnest(p_schema_version) AS schema_version, unnest(p_event_type) AS event_type,
                         unnest(p_source) AS source, unnest(p_node_id) AS node_id, unnest(p_page_id) AS page_id,
                         unnest(p_reason) AS reason, unnest(p_payload) AS payload) e
            WHERE e.place > v_skip AND (v_rank IS NULL OR e.rank IS NOT NULL);
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
