-- A batch travels as one array of rows, not as one array a column, its page lanes are claimed by one statement that
-- looks at nothing but the pages it names, and its rows get their positions without a sort.

DROP FUNCTION append_events;
DROP FUNCTION settle_leases;
DROP FUNCTION claim_page_sequences;

CREATE TYPE appended_event AS (
    occurred_at bigint,
    received_at bigint,
    node_epoch bigint,
    event_id uuid,
    connection_id uuid,
    client_ref uuid,
    connection_seq integer,
    close_code integer,
    schema_version smallint,
    event_type text,
    source text,
    node_id text,
    page_id text,
    reason text,
    payload text,
    page_seq bigint
);
COMMENT ON TYPE appended_event IS
    'A row for append_events: the columns of events, times in µs since 1970; page_seq is the sequence of a page''s '
    'telemetry, null for anything else.';

CREATE FUNCTION append_events(
    p_shard smallint, p_producer_id uuid, p_first_seq bigint, p_steady_now_us bigint, p_fill_hole boolean,
    p_events appended_event[],
    OUT status text, OUT lane_seq bigint, OUT stored integer, OUT head_position bigint, OUT head_recorded_at timestamptz,
    OUT skew_us bigint
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    v_count integer := cardinality(p_events);
    v_now timestamptz := clock_timestamp();
    v_skip integer;
    v_inserted integer;
    v_opens_or_ends boolean;
    v_has_pages boolean;
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
    SELECT bool_or(e.event_type IN ('connection.opened', 'connection.closed', 'connection.lost')),
           bool_or(e.page_seq IS NOT NULL)
        INTO v_opens_or_ends, v_has_pages FROM unnest(p_events) e;

    -- One end: an epoch that was fenced may tell how its connections ended, but no longer end them.
    IF v_opens_or_ends THEN
        p_events := coalesce(settle_leases(p_events), p_events);
    END IF;

    -- The page lane: nothing of a page's telemetry twice, by whatever way it came.
    IF v_has_pages THEN
        v_rank := claim_page_sequences(p_shard, p_events, v_skip);
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
            SELECT head_position - append_events.stored + coalesce(v_rank[e.place::integer], e.place - v_skip), head_recorded_at,
                   timestamptz 'epoch' + e.occurred_at * interval '1 microsecond',
                   timestamptz 'epoch' + e.received_at * interval '1 microsecond',
                   e.node_epoch, e.event_id, e.connection_id, e.client_ref, e.connection_seq, e.close_code, p_shard,
                   e.schema_version, e.event_type, e.source, e.node_id, e.page_id, e.reason, e.payload::jsonb
            FROM unnest(p_events) WITH ORDINALITY
                AS e (occurred_at, received_at, node_epoch, event_id, connection_id, client_ref, connection_seq,
                      close_code, schema_version, event_type, source, node_id, page_id, reason, payload, page_seq, place)
            WHERE e.place > v_skip AND (v_rank IS NULL OR v_rank[e.place::integer] IS NOT NULL);
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
COMMENT ON FUNCTION append_events IS
    'Appends one batch of a producer to a shard, exactly once. status: appended, lane_gap (nothing done, lane_seq says '
    'where the lane ends) or clock_skew (nothing done).';

CREATE FUNCTION settle_leases(p_events appended_event[])
    RETURNS appended_event[] LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    v_nodes text[];
    v_epochs bigint[];
    v_ends boolean;
    v_fenced text[] := '{}';
    v_lease record;
BEGIN
    SELECT array_agg(e.node_id), array_agg(e.node_epoch), bool_or(e.ends) INTO v_nodes, v_epochs, v_ends
        FROM (SELECT u.node_id, u.node_epoch, bool_or(u.event_type <> 'connection.opened') AS ends
              FROM unnest(p_events) u
              WHERE u.event_type IN ('connection.opened', 'connection.closed', 'connection.lost')
                AND u.node_id IS NOT NULL AND u.node_epoch IS NOT NULL
              GROUP BY u.node_id, u.node_epoch
              ORDER BY u.node_id, u.node_epoch) e;
    IF v_nodes IS NULL THEN
        RETURN NULL;
    END IF;
    -- A node that never reached the database had no lease to lose: what comes of it first gets it one, so that its
    -- connections do not stay open for ever when it never comes back.
    INSERT INTO node_lease (node_id, epoch, expires_at)
        SELECT e.node_id, e.epoch, clock_timestamp() + interval '1 minute'
        FROM unnest(v_nodes, v_epochs) AS e (node_id, epoch)
        WHERE NOT EXISTS (SELECT FROM node_lease l WHERE l.node_id = e.node_id AND l.epoch = e.epoch)
        ON CONFLICT DO NOTHING;
    IF NOT v_ends THEN
        RETURN NULL;
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
        RETURN NULL;
    END IF;
    RETURN (
        SELECT array_agg(ROW(
                   e.occurred_at, e.received_at, e.node_epoch, e.event_id, e.connection_id, e.client_ref,
                   e.connection_seq, e.close_code, e.schema_version,
                   CASE WHEN late THEN 'connection.end_reported_late' ELSE e.event_type END,
                   e.source, e.node_id, e.page_id, e.reason,
                   CASE WHEN late THEN (e.payload::jsonb || jsonb_build_object('reported_as', e.event_type))::text
                        ELSE e.payload END,
                   e.page_seq)::appended_event ORDER BY e.place)
        FROM unnest(p_events) WITH ORDINALITY
            AS e (occurred_at, received_at, node_epoch, event_id, connection_id, client_ref, connection_seq,
                  close_code, schema_version, event_type, source, node_id, page_id, reason, payload, page_seq, place)
        CROSS JOIN LATERAL (
            SELECT e.event_type IN ('connection.closed', 'connection.lost') AND e.source <> 'reaper'
                   AND coalesce((e.node_epoch || ' ' || e.node_id) = ANY (v_fenced), false) AS late
        ) l
    );
END $$;
COMMENT ON FUNCTION settle_leases IS
    'For append_events: locks the leases behind a batch and turns the terminal events of fenced epochs into evidence. '
    'Null when there are none.';

CREATE FUNCTION claim_page_sequences(p_shard smallint, p_events appended_event[], p_skip integer)
    RETURNS integer[] LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    v_now timestamptz := clock_timestamp();
    v_pages text[];
    v_seqs int8multirange[];
    v_repeats boolean;
    v_claimed text[];
    v_ragged text[];
    v_rank integer[];
BEGIN
    -- Pages in one order everywhere, so that two appends do not lock each other out.
    SELECT array_agg(t.page_id), array_agg(t.seqs),
           bool_or(t.events <> (SELECT sum(upper(r) - lower(r)) FROM unnest(t.seqs) r))
        INTO v_pages, v_seqs, v_repeats
        FROM (SELECT e.page_id, range_agg(int8range(e.page_seq, e.page_seq + 1)) AS seqs, count(*) AS events
              FROM unnest(CASE p_skip WHEN 0 THEN p_events ELSE p_events[p_skip + 1:] END) e
              WHERE e.page_id IS NOT NULL AND e.page_seq IS NOT NULL
              GROUP BY e.page_id ORDER BY e.page_id) t;
    IF v_pages IS NULL THEN
        RETURN NULL;
    END IF;

    -- Nearly always no page has any of it yet. A lane whose WHERE fails stays as it is, but locked.
    WITH claimed AS (
        INSERT INTO page_lane AS l (shard, page_id, seen, received_at)
        SELECT p_shard, t.page_id, t.seqs, v_now FROM unnest(v_pages, v_seqs) AS t (page_id, seqs)
        ON CONFLICT (shard, page_id) DO UPDATE SET seen = l.seen + excluded.seen, received_at = v_now
            WHERE NOT l.seen && excluded.seen
        RETURNING l.page_id, l.seen <> range_merge(l.seen)::int8multirange AS is_ragged
    )
    SELECT coalesce(array_agg(c.page_id), '{}'), array_agg(c.page_id) FILTER (WHERE c.is_ragged)
        INTO v_claimed, v_ragged FROM claimed c;

    IF v_repeats OR cardinality(v_claimed) < cardinality(v_pages) THEN
        SELECT array_agg(CASE WHEN e.is_new THEN e.rank END ORDER BY e.place) INTO v_rank
            FROM (SELECT k.place, k.is_new, count(*) FILTER (WHERE k.is_new) OVER (ORDER BY k.place) AS rank
                  FROM (SELECT n.place,
                               n.place > p_skip AND (n.seq IS NULL OR n.page_id IS NULL OR (
                                   n.nth = 1 AND (n.page_id = ANY (v_claimed) OR NOT l.seen @> n.seq))) AS is_new
                        FROM (SELECT u.page_id, u.page_seq AS seq, u.place,
                                     row_number() OVER (PARTITION BY u.page_id, u.page_seq, u.place > p_skip
                                                        ORDER BY u.place) AS nth
                              FROM unnest(p_events) WITH ORDINALITY
                                  AS u (occurred_at, received_at, node_epoch, event_id, connection_id, client_ref,
                                        connection_seq, close_code, schema_version, event_type, source, node_id, page_id,
                                        reason, payload, page_seq, place)) n
                        LEFT JOIN page_lane l ON l.shard = p_shard AND l.page_id = n.page_id) k) e;
        UPDATE page_lane l SET seen = l.seen + t.seqs, received_at = v_now
            FROM unnest(v_pages, v_seqs) AS t (page_id, seqs)
            WHERE l.shard = p_shard AND l.page_id = t.page_id AND NOT t.page_id = ANY (v_claimed);
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
    'For append_events: marks the rows of a batch in their page lanes. Null when all of them are new; otherwise the '
    'place of each row among those that are new, null for the others.';

REVOKE ALL ON FUNCTION append_events, settle_leases, claim_page_sequences FROM PUBLIC;
SELECT grant_if_role('EXECUTE', 'FUNCTION append_events', r)
    FROM unnest(ARRAY['pulsetrail_writer', 'pulsetrail_projector']) r;
