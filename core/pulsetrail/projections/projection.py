"""What a projection is: a name, a version, its tables, its fold and the views in front of them.

The tables of every build carry the build's number (``connections_v1``), so that a new build folds beside the live one;
the views carry none and are what people query. A statement names a table as ``{connections}``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from sqlalchemy import Column, MetaData, SmallInteger, Table
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable, ExecutableDDLElement, SetColumnComment, SetTableComment

Define = Callable[[MetaData, int], tuple[Table, ...]]
"""Adds the tables of one build to a metadata."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Projection:
    """One question and how its answer is folded from the log."""

    name: str
    version: int
    """Of the fold and its tables' shape; a build made by another version is left to the code that made it."""
    stems: tuple[str, ...]
    """Names of the tables without the build's number, as the statements use them."""
    define: Define
    statements: Mapping[str, str]
    """``fold``, and for each view ``view`` (or ``view_NAME``)."""
    constants: Mapping[str, str] = field(default_factory=dict)
    """Further placeholders of the statements, such as the bounds of a histogram."""

    def names(self, build: int) -> dict[str, str]:
        """The physical tables of a build, by stem."""
        return {stem: table_name(stem, build) for stem in self.stems}

    def fold(self, build: int) -> str:
        """The statement that folds one batch.

        Parameters: $1 shard, $2 position after which and $3 through which, $4 and $5 the least and greatest
        ``recorded_at`` (they keep the partitions out that cannot hold the batch).
        """
        return self._render(self.statements["fold"], build)

    def views(self, build: int) -> list[str]:
        """Statements that put the views in front of a build."""
        return [self._render(text, build) for name, text in self.statements.items() if name.startswith("view")]

    def ddl(self, build: int) -> list[str]:
        """Statements that create the tables of a build, comments included."""
        return [statement for table in self.define(MetaData(), build) for statement in create_statements(table)]

    def _render(self, text: str, build: int) -> str:
        for name, value in {**self.names(build), **self.constants}.items():
            text = text.replace(f"{{{name}}}", value)
        return text


def table_name(stem: str, build: int) -> str:
    """The physical table of a build."""
    return f"{stem}_v{build}"


def shard_column() -> Column[int]:
    """The first column of every primary key."""
    return Column("shard", SmallInteger, primary_key=True, autoincrement=False, comment="Shard of the log.")


def create_statements(table: Table) -> list[str]:
    """DDL of a table with its indexes and comments."""
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy leaves this constructor untyped
    parts: list[ExecutableDDLElement] = [
        CreateTable(table),
        *(CreateIndex(index) for index in sorted(table.indexes, key=lambda index: str(index.name))),
        SetTableComment(table),
        *(SetColumnComment(column) for column in table.columns if column.comment),
    ]
    return [str(part.compile(dialect=dialect)).strip() for part in parts]
