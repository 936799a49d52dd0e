"""Make appending cheaper."""

from __future__ import annotations

from pathlib import Path

from alembic import op

from pulsetrail.migrate import run_script

revision = "cheaper_append"
down_revision = "lane_accounts"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '60s'")
    run_script(op.get_bind(), Path(__file__).with_suffix(".sql"))
