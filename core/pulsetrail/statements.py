"""SQL lives in ``queries.sql`` files, as named statements; this reads them.

A statement starts at a line ``-- name: some_name`` and ends at the next one.
"""

from __future__ import annotations

import re
from importlib.resources import files

_NAME = re.compile(r"^-- name: ([a-z_]+)\s*$", re.MULTILINE)


def load_statements(package: str, resource: str = "queries.sql") -> dict[str, str]:
    """The statements of one file inside a package, by name.

    Raises:
        ValueError: two statements have the same name.
    """
    parts = _NAME.split((files(package) / resource).read_text(encoding="utf-8"))
    statements: dict[str, str] = {}
    for name, text in zip(parts[1::2], parts[2::2], strict=True):
        if name in statements:
            raise ValueError(f"{package}/{resource} has two statements named {name}")
        statements[name] = text.strip()
    return statements
