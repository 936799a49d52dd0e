"""What the documentation says is so."""

from __future__ import annotations

import re
from pathlib import Path

import asyncpg
import pytest

from pulsetrail.metrics import INSTRUMENTS

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
QUERIES = re.findall(
    r"^## (.+?)\n.*?```sql\n(.+?)```", (ROOT / "docs" / "sql.md").read_text(), re.MULTILINE | re.DOTALL
)


@pytest.mark.parametrize(("title", "query"), QUERIES, ids=[title for title, _ in QUERIES])
async def test_each_query_of_the_documentation_runs_for_a_reader(database_url: str, title: str, query: str) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute("SET ROLE pulsetrail_reader")
        await connection.fetch(query)
    finally:
        await connection.close()


def test_the_page_of_metrics_and_the_catalogue_agree() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text()
    rows = {
        f"| `{one.name}` | {one.kind} | {', '.join(f'`{label}`' for label in one.labels)} | {one.meaning} |"
        for one in INSTRUMENTS
    }
    assert set(re.findall(r"^\| `.+$", page, re.MULTILINE)) == rows


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"
