"""The tables of the projections' first builds and of the list of builds, added to the log's metadata.

Rebuilds make further tables of the same shape beside them; a migration only ever makes the first build of a new shape.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import Boolean, Column, DateTime, Integer, PrimaryKeyConstraint, Table, Text, text

from pulsetrail.log.schema import metadata
from pulsetrail.projections import PROJECTIONS

__all__ = ["first_builds", "metadata", "projection_build"]

projection_build: Final = Table(
    "projection_build",
    metadata,
    Column(
        "created_at", DateTime(timezone=True), nullable=False, server_default=text("now()"), comment="When it began."
    ),
    Column("promoted_at", DateTime(timezone=True), comment="When the views were put in front of it."),
    Column("version", Integer, nullable=False, autoincrement=False, comment="Number of the build."),
    Column(
        "fold_version",
        Integer,
        nullable=False,
        comment="Version of the fold that fills it; a projector with another version leaves it alone.",
    ),
    Column(
        "paused", Boolean, nullable=False, server_default=text("false"), comment="A person has stopped its folding."
    ),
    Column("projection", Text, nullable=False, comment="Name of the projection."),
    Column("status", Text, nullable=False, comment="building, live (the views show it) or retired."),
    PrimaryKeyConstraint("projection", "version", name="projection_build_pkey"),
    comment="Builds of the projections: which tables the views show, and which are being filled beside them.",
)

first_builds: Final[dict[str, tuple[Table, ...]]] = {
    projection.name: projection.define(metadata, 1) for projection in PROJECTIONS.values()
}
"""The tables of build 1, by projection."""
