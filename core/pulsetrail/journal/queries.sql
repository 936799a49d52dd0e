-- The journal's statements (SQLite). Whole groups travel as one JSON parameter and are unpacked by json_each: Python's
-- sqlite3 gives up the interpreter lock at every step, so a statement a row makes a busy event loop and the writer
-- thread trade the lock a thousand times a group (measured: 1,312 ms against 24 ms for 1,000 rows).

-- name: schema
CREATE TABLE IF NOT EXISTS producer (
    producer_no INTEGER PRIMARY KEY, -- older processes have lower numbers
    producer_id TEXT NOT NULL UNIQUE,
    alive_at INTEGER NOT NULL        -- last sign of life, microseconds since 1970
);
CREATE TABLE IF NOT EXISTS entry (
    entry_id INTEGER PRIMARY KEY,
    producer_no INTEGER NOT NULL,
    shard INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    journaled_at INTEGER NOT NULL,
    body BLOB NOT NULL
);
CREATE UNIQUE INDEX IF NOT EXISTS entry_lane ON entry (producer_no, shard, seq);
CREATE TABLE IF NOT EXISTS lane (
    producer_no INTEGER NOT NULL,
    shard INTEGER NOT NULL,
    last_seq INTEGER NOT NULL,
    shipped_seq INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (producer_no, shard)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS open_connection (
    connection_id TEXT PRIMARY KEY,
    producer_no INTEGER NOT NULL,
    shard INTEGER NOT NULL,
    client_ref TEXT,
    page_id TEXT,
    node_id TEXT,
    node_epoch INTEGER,
    opened_at INTEGER NOT NULL,
    connection_seq INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS identity (
    client_ref TEXT PRIMARY KEY,
    client_id TEXT NOT NULL,
    subject TEXT,
    shipped_at INTEGER
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS identity_shipped ON identity (shipped_at, client_ref);

-- name: begin
BEGIN IMMEDIATE

-- name: check
PRAGMA quick_check(1)

-- name: size
SELECT page_count, freelist_count, page_size
FROM pragma_page_count, pragma_freelist_count, pragma_page_size

-- name: add_producer
INSERT INTO producer (producer_id, alive_at) VALUES (?1, ?2)

-- name: touch_producer
UPDATE producer SET alive_at = ?2 WHERE producer_no = ?1

-- name: producers
SELECT producer_no, producer_id, alive_at FROM producer ORDER BY producer_no

-- name: remove_producer
DELETE FROM producer
WHERE producer_no = ?1
  AND NOT EXISTS (SELECT 1 FROM lane WHERE producer_no = ?1)
  AND NOT EXISTS (SELECT 1 FROM open_connection WHERE producer_no = ?1)

-- name: lanes
SELECT producer_no, shard, last_seq, shipped_seq FROM lane ORDER BY producer_no, shard

-- name: save_lane
INSERT INTO lane (producer_no, shard, last_seq, shipped_seq) VALUES (?1, ?2, ?3, ?4)
ON CONFLICT (producer_no, shard) DO UPDATE SET last_seq = excluded.last_seq, shipped_seq = excluded.shipped_seq

-- name: remove_lane
DELETE FROM lane WHERE producer_no = ?1 AND shard = ?2

-- name: add_entries
-- ?3 is a JSON list of [shard, seq, offset from 1, length] into the bytes ?4.
INSERT INTO entry (producer_no, shard, seq, journaled_at, body)
SELECT ?1, json_extract(value, '$[0]'), json_extract(value, '$[1]'), ?2,
       substr(?4, json_extract(value, '$[2]'), json_extract(value, '$[3]'))
FROM json_each(?3)

-- name: restore_entry
INSERT OR IGNORE INTO entry (producer_no, shard, seq, journaled_at, body) VALUES (?1, ?2, ?3, ?4, ?5)

-- name: entries_after
SELECT seq, body FROM entry WHERE producer_no = ?1 AND shard = ?2 AND seq > ?3 ORDER BY seq LIMIT ?4

-- name: oldest_unshipped
SELECT journaled_at FROM entry WHERE producer_no = ?1 AND shard = ?2 AND seq > ?3 ORDER BY seq LIMIT 1

-- name: purge_entries
DELETE FROM entry
WHERE entry_id IN (
    SELECT entry_id FROM entry WHERE producer_no = ?1 AND shard = ?2 AND seq <= ?3 ORDER BY seq LIMIT ?4
)

-- name: entry_span
SELECT coalesce(min(entry_id), 0), coalesce(max(entry_id), 0) FROM entry

-- name: entries_between
SELECT producer_no, shard, seq, journaled_at, body FROM entry WHERE entry_id BETWEEN ?1 AND ?2

-- name: add_open
-- ?2 is a JSON list of [connection, shard, client_ref, page_id, node_id, node_epoch, opened_at, connection_seq].
INSERT OR REPLACE INTO open_connection
    (producer_no, connection_id, shard, client_ref, page_id, node_id, node_epoch, opened_at, connection_seq)
SELECT ?1, json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'),
       json_extract(value, '$[3]'), json_extract(value, '$[4]'), json_extract(value, '$[5]'),
       json_extract(value, '$[6]'), json_extract(value, '$[7]')
FROM json_each(?2)

-- name: advance_open
-- ?1 is a JSON object, connection to connection_seq.
UPDATE open_connection SET connection_seq = changed.value
FROM json_each(?1) AS changed
WHERE open_connection.connection_id = changed.key

-- name: remove_open
DELETE FROM open_connection WHERE connection_id IN (SELECT value FROM json_each(?1))

-- name: left_open
-- Connections that a process before ?1 left open, with its last sign of life.
SELECT connection_id, shard, client_ref, page_id, node_id, node_epoch, opened_at, connection_seq,
       coalesce((SELECT alive_at FROM producer WHERE producer_no = open_connection.producer_no), opened_at)
FROM open_connection WHERE producer_no <> ?1 ORDER BY connection_id LIMIT ?2

-- name: open_rows
SELECT connection_id, producer_no, shard, client_ref, page_id, node_id, node_epoch, opened_at, connection_seq
FROM open_connection WHERE connection_id > ?1 ORDER BY connection_id LIMIT 1

-- name: restore_open
INSERT OR IGNORE INTO open_connection
    (connection_id, producer_no, shard, client_ref, page_id, node_id, node_epoch, opened_at, connection_seq)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)

-- name: count_open
SELECT count(*) FROM open_connection

-- name: add_identities
-- ?1 is a JSON list of [client_ref, client_id, subject].
INSERT INTO identity (client_ref, client_id, subject)
SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]')
FROM json_each(?1) WHERE true
ON CONFLICT (client_ref) DO UPDATE SET subject = coalesce(excluded.subject, subject), shipped_at = NULL

-- name: unshipped_identities
SELECT client_ref, client_id, subject FROM identity WHERE shipped_at IS NULL ORDER BY client_ref LIMIT ?1

-- name: count_unshipped_identities
SELECT count(*) FROM identity WHERE shipped_at IS NULL

-- name: ship_identities
UPDATE identity SET shipped_at = ?2 WHERE client_ref IN (SELECT value FROM json_each(?1))

-- name: unship_identities
UPDATE identity SET shipped_at = NULL WHERE shipped_at IS NOT NULL

-- name: purge_identities
DELETE FROM identity WHERE client_ref IN (SELECT client_ref FROM identity WHERE shipped_at < ?1 LIMIT ?2)

-- name: identity_rows
SELECT client_ref, client_id, subject FROM identity WHERE client_ref > ?1 ORDER BY client_ref LIMIT 1

-- name: restore_producer
INSERT OR IGNORE INTO producer (producer_no, producer_id, alive_at) VALUES (?1, ?2, ?3)

-- name: renumber_producer
-- Numbers of restored producers come first; the current one moves behind them.
UPDATE producer SET producer_no = ?2 WHERE producer_no = ?1
