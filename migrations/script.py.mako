"""${message}."""

from __future__ import annotations

from pathlib import Path

from alembic import op

from pulsetrail.migrate import run_script

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = ${repr(branch_labels)}
depends_on = ${repr(depends_on)}


def upgrade() -> None:
    # A migration that waits for a lock makes everybody behind it wait too: give up early and run it again.
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '60s'")
    run_script(op.get_bind(), Path(__file__).with_suffix(".sql"))
