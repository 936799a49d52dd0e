"""Make the tables of the log, and fix the number of shards and the key for ever."""

from __future__ import annotations

import secrets
from pathlib import Path

from alembic import context, op
from sqlalchemy import text

from pulsetrail.identity import KEY_BYTES
from pulsetrail.migrate import DEFAULT_SHARDS, run_script

revision = "log_tables"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '60s'")
    bind = op.get_bind()
    run_script(bind, Path(__file__).with_suffix(".sql"))
    shards = context.config.attributes.get("shards", DEFAULT_SHARDS)
    bind.execute(
        text("INSERT INTO deployment (shards, client_key) VALUES (:shards, :client_key)"),
        {"shards": shards, "client_key": secrets.token_bytes(KEY_BYTES)},
    )
    bind.execute(
        text("INSERT INTO log_shard (shard, head_position) SELECT n, 0 FROM generate_series(0, :shards - 1) n"),
        {"shards": shards},
    )
