"""Reads the log out of Postgres for the checker, as it grows: straight from the table, not by the product's reader."""

from __future__ import annotations

from typing import Final

import asyncpg
from checker import Finding, LogAccount, StoredEvent

EVENTS_AFTER: Final = """
    SELECT e.position, e.event_type, e.source, e.connection_id::text, e.connection_seq, i.client_id, e.page_id,
           CASE WHEN e.source IN ('client', 'chaos') THEN (e.payload ->> 'seq')::bigint END,
           CASE WHEN e.event_type = 'connection.opened' THEN (e.payload -> 'previous' ->> 'attempt')::bigint END,
           CASE WHEN e.event_type = 'events.dropped' THEN (e.payload ->> 'count')::bigint ELSE 0 END
    FROM events e
    LEFT JOIN client_identity i
        ON e.event_type = 'connection.opened' AND i.shard = e.shard AND i.client_ref = e.client_ref
    WHERE e.shard = $1 AND e.position > $2
    ORDER BY e.position
"""
DOUBLE_EVENTS: Final = """
    SELECT event_id, count(*) AS times FROM events GROUP BY event_id HAVING count(*) > 1 ORDER BY event_id LIMIT 100
"""


class LogReader:
    """What is stored, each row once; what is read again later is what was appended since."""

    def __init__(self) -> None:
        self.account = LogAccount()

    async def read(self, connection: asyncpg.Connection) -> LogAccount:
        """Bring the account up to date."""
        account = self.account
        for row in await connection.fetch("SELECT shard FROM log_shard ORDER BY shard"):
            shard = row["shard"]
            async with connection.transaction():
                async for event in connection.cursor(EVENTS_AFTER, shard, account.heads.get(shard, 0), prefetch=5_000):
                    account.add(StoredEvent(shard, *event))
        return account


async def double_events(connection: asyncpg.Connection) -> list[Finding]:
    """Event ids that are in the log more than once."""
    rows = await connection.fetch(DOUBLE_EVENTS)
    return [Finding("doubled event", f"event {row['event_id']}", f"{row['times']} times") for row in rows]
