"""Make the read models: the first build of every projection, and the views that people query."""

from __future__ import annotations

from pathlib import Path

from alembic import op

from pulsetrail.migrate import run_script

revision = "read_models"
down_revision = "log_roles"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '60s'")
    run_script(op.get_bind(), Path(__file__).with_suffix(".sql"))
