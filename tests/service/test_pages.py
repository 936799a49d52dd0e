"""The pages that people watch, as the gateway serves them."""

from __future__ import annotations

import asyncio
import http.client
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import httpx
import pytest
from gateway_runner import Start

from pulsetrail.settings import AuthMode
from pulsetrail_service.pages import page_routes

ROOT = Path(__file__).parents[2]
SCRIPT = "monitor-B1gHash1.js"


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    """What a build leaves, in small."""
    built = tmp_path / "dist"
    (built / "assets").mkdir(parents=True)
    (built / "monitor.html").write_text('<!doctype html>\n<html lang="en" data-auth-mode="none"></html>\n')
    for name in (SCRIPT, "monitor-B1gHash1.css", "b612-B1gHash1.woff2", "icon-B1gHash1.svg"):
        (built / "assets" / name).write_bytes(b"content of " + name.encode())
    (tmp_path / "secret.txt").write_text("not for the public")
    return built


async def test_the_monitor_page_is_served_and_asked_for_again_each_time(gateway: Start, pages: Path) -> None:
    async with (
        gateway(routers=[page_routes(pages, AuthMode.NONE)]) as running,
        httpx.AsyncClient(base_url=running.http) as http,
    ):
        page = await http.get("/monitor")
        assert page.status_code == 200
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert page.headers["cache-control"] == "no-cache"
        again = await http.get("/monitor", headers={"If-None-Match": page.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert (await http.head("/monitor")).status_code == 200
        root = await http.get("/")
        assert (root.status_code, root.headers["location"]) == (307, "/monitor")


@pytest.mark.parametrize(
    ("name", "content_type"),
    [
        (SCRIPT, "text/javascript; charset=utf-8"),
        ("monitor-B1gHash1.css", "text/css; charset=utf-8"),
        ("b612-B1gHash1.woff2", "font/woff2"),
        ("icon-B1gHash1.svg", "image/svg+xml"),
    ],
)
async def test_what_a_page_is_made_of_has_its_type_and_is_kept_for_ever(
    gateway: Start, pages: Path, name: str, content_type: str
) -> None:
    async with (
        gateway(routers=[page_routes(pages, AuthMode.NONE)]) as running,
        httpx.AsyncClient(base_url=running.http) as http,
    ):
        asset = await http.get(f"/assets/{name}")
        assert asset.content == b"content of " + name.encode()
        assert asset.headers["content-type"] == content_type
        assert asset.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert (await http.get("/assets/monitor-Another1.js")).status_code == 404


async def test_a_page_lets_nothing_foreign_in_and_is_in_no_foreign_page(gateway: Start, pages: Path) -> None:
    async with (
        gateway(routers=[page_routes(pages, AuthMode.NONE)]) as running,
        httpx.AsyncClient(base_url=running.http) as http,
    ):
        for path in ("/monitor", f"/assets/{SCRIPT}"):
            answer = await http.get(path)
            policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
            assert policy["default-src"] == "'none'"
            assert policy["frame-ancestors"] == "'none'"
            assert set(policy.values()) == {"'none'", "'self'"}, "no unsafe-inline, no other host"
            assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "path",
    [
        "/assets/../monitor.html",
        "/assets/../../secret.txt",
        "/assets/%2e%2e/%2e%2e/secret.txt",
        "/assets/..%2f..%2fsecret.txt",
        "/assets/..%5c..%5csecret.txt",
        "/assets//etc/passwd",
        "/assets/%00",
        "/assets/",
        "/monitor/../../secret.txt",
    ],
)
async def test_no_path_leads_out_of_the_assets(gateway: Start, pages: Path, path: str) -> None:
    async with gateway(routers=[page_routes(pages, AuthMode.NONE)]) as running:

        def ask() -> tuple[int, bytes]:
            connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=10)
            try:
                connection.request("GET", path)  # as it stands: other clients tidy it up first
                answer = connection.getresponse()
                return answer.status, answer.read()
            finally:
                connection.close()

        status, body = await asyncio.to_thread(ask)
        assert status == 404
        assert b"not for the public" not in body


async def test_the_page_is_told_how_clients_prove_who_they_are(gateway: Start, pages: Path) -> None:
    async with (
        gateway(routers=[page_routes(pages, AuthMode.TICKET)]) as running,
        httpx.AsyncClient(base_url=running.http) as http,
    ):
        assert 'data-auth-mode="ticket"' in (await http.get("/monitor")).text


async def test_where_no_page_was_built_its_place_says_how_to_get_one_and_has_it_from_then_on(
    gateway: Start, pages: Path
) -> None:
    elsewhere = pages.with_name("elsewhere")
    shutil.move(pages, elsewhere)
    async with (
        gateway(routers=[page_routes(pages, AuthMode.NONE)]) as running,
        httpx.AsyncClient(base_url=running.http) as http,
    ):
        for path in ("/monitor", "/"):
            answer = await http.get(path)
            assert answer.status_code == 404
            assert "scripts/build-web" in answer.text
            assert answer.text.count("\n") == 1
        assert (await http.get(f"/assets/{SCRIPT}")).status_code == 404
        shutil.move(elsewhere, pages)
        assert (await http.get("/monitor")).status_code == 200
        assert (await http.get(f"/assets/{SCRIPT}")).status_code == 200


@pytest.mark.parametrize("built", [True, False])
def test_a_wheel_holds_the_pages_if_they_were_built_and_is_complete_without_them(
    tmp_path: Path, pages: Path, built: bool
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", ".gitignore"):
        shutil.copy(ROOT / name, source)
    for name in ("core", "service", "collector", "migrations"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    if built:
        shutil.copytree(pages, source / "web" / "dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    [wheel] = tmp_path.glob("*.whl")
    with ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert "pulsetrail_service/pages.py" in names
    assert "pulsetrail/migrations/env.py" in names
    found = {name for name in names if name.startswith("pulsetrail_service/web/")}
    assert ("pulsetrail_service/web/monitor.html" in found) is built
    assert (f"pulsetrail_service/web/assets/{SCRIPT}" in found) is built
