"""The embedded server comes up from whatever state the last owner left behind."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest

from pulsetrail.embedded import EmbeddedPostgres, running_url
from pulsetrail.errors import EmbeddedPostgresFailed

FAST = {"fsync": "off", "shared_buffers": "16MB"}
CANNOT_READ = 77


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "postgres"
    yield path
    for pid in servers_in(path):
        psutil.Process(pid).kill()


def servers_in(directory: Path) -> list[int]:
    found = []
    for process in psutil.process_iter(["name"]):
        try:
            if process.info["name"] == "postgres" and Path(process.cwd()) == directory:
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def postmaster_pid(directory: Path) -> int:
    return int((directory / "postmaster.pid").read_text().splitlines()[0])


def start_and_stop_as(uid: int, directory: Path) -> None:
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)
    try:
        with EmbeddedPostgres(directory, settings=FAST) as server:
            assert server.alive()
    except (PermissionError, EmbeddedPostgresFailed) as error:
        if "Permission denied" in str(error):
            sys.exit(CANNOT_READ)
        raise


def fetch(url: str, statement: str) -> object:
    async def ask() -> object:
        connection = await asyncpg.connect(url)
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close()

    return asyncio.run(ask())


def test_it_serves_over_a_private_socket_and_on_no_port(directory: Path) -> None:
    with EmbeddedPostgres(directory, settings=FAST) as server:
        url = running_url(directory)
        assert url is not None
        assert fetch(url, "SHOW listen_addresses") == ""
        assert str(fetch(url, "SHOW server_version_num")).startswith("18")
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        assert not [c for c in psutil.Process(postmaster_pid(directory)).net_connections("tcp") if c.status == "LISTEN"]
        assert server.alive()
    assert running_url(directory) is None


def test_what_was_written_is_there_after_a_stop_and_a_start(directory: Path) -> None:
    with EmbeddedPostgres(directory, settings=FAST) as server:
        fetch(server.start(), "CREATE TABLE kept AS SELECT 42 AS answer")
    assert servers_in(directory) == []
    with EmbeddedPostgres(directory, settings=FAST) as server:
        assert fetch(server.start(), "SELECT answer FROM kept") == 42


def test_a_server_that_outlived_its_owner_is_adopted_and_stopped_with_the_new_one(directory: Path) -> None:
    owner = (
        "import sys, os, signal; from pathlib import Path; from pulsetrail.embedded import EmbeddedPostgres\n"
        f"EmbeddedPostgres(Path(sys.argv[1]), settings={FAST!r}).start(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", owner, str(directory)], check=False)
    assert killed.returncode == -signal.SIGKILL
    left_behind = postmaster_pid(directory)

    server = EmbeddedPostgres(directory, settings=FAST)
    url = server.start()
    assert server.adopted
    assert postmaster_pid(directory) == left_behind
    assert fetch(url, "SELECT 1") == 1
    server.stop()
    assert servers_in(directory) == []


def test_it_recovers_after_every_process_was_killed(directory: Path) -> None:
    server = EmbeddedPostgres(directory, settings={**FAST, "fsync": "on"})
    url = server.start()
    fetch(url, "CREATE TABLE kept AS SELECT generate_series(1, 1000) AS n")
    for pid in servers_in(directory):
        os.kill(pid, signal.SIGKILL)

    with EmbeddedPostgres(directory, settings=FAST) as successor:
        assert fetch(successor.start(), "SELECT count(*) FROM kept") == 1000
    server.stop()


def test_start_brings_back_a_server_that_died_under_its_owner(directory: Path) -> None:
    with EmbeddedPostgres(directory, settings=FAST) as server:
        os.kill(postmaster_pid(directory), signal.SIGKILL)
        while server.alive():
            time.sleep(0.01)
        assert fetch(server.start(), "SELECT 1") == 1


def test_a_pid_file_whose_number_belongs_to_another_program_does_not_stop_a_start(directory: Path) -> None:
    with EmbeddedPostgres(directory, settings=FAST):
        stale = (directory / "postmaster.pid").read_text().splitlines()
    bystander = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        stale[0] = str(bystander.pid)
        (directory / "postmaster.pid").write_text("\n".join(stale) + "\n")
        assert running_url(directory) is None
        with EmbeddedPostgres(directory, settings=FAST) as server:
            assert not server.adopted
            assert fetch(server.start(), "SELECT 1") == 1
        assert bystander.poll() is None
    finally:
        bystander.communicate(b"\n")


def test_a_path_too_long_for_a_socket_gets_a_short_private_one(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["a-rather-long-folder-name"] * 6, "with space, comma", "postgres")
    with EmbeddedPostgres(deep, settings=FAST) as server:
        assert fetch(server.start(), "SELECT 1") == 1
        sockets = Path((deep / "postmaster.pid").read_text().splitlines()[4])
        assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
    assert servers_in(deep) == []


def test_a_directory_with_something_else_in_it_is_left_alone(directory: Path) -> None:
    directory.mkdir()
    (directory / "thesis.txt").write_text("years of work")
    with pytest.raises(EmbeddedPostgresFailed, match="neither empty nor a PostgreSQL cluster"):
        EmbeddedPostgres(directory).start()
    assert [path.name for path in directory.iterdir()] == ["thesis.txt"]


def test_an_initialisation_that_was_killed_is_done_again(directory: Path) -> None:
    unfinished = directory.with_name("postgres.unfinished")
    unfinished.mkdir()
    (unfinished / "PG_VERSION").write_text("18\n")
    with EmbeddedPostgres(directory, settings=FAST) as server:
        assert server.alive()
    assert not unfinished.exists()


def test_a_server_that_cannot_start_is_reported_in_its_own_words(directory: Path) -> None:
    with pytest.raises(EmbeddedPostgresFailed, match="max_connections"):
        EmbeddedPostgres(directory, settings={"max_connections": "many"}).start()
    assert servers_in(directory) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as another user")
def test_root_opens_the_way_for_the_server_only_as_far_as_it_must(tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    (private / "secret").write_text("for root only")
    with EmbeddedPostgres(private / "postgres", settings=FAST):
        assert psutil.Process(postmaster_pid(private / "postgres")).uids().effective != 0
        assert private.stat().st_mode & 0o006 == 0, "others may list the directory"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
def test_without_root_everything_belongs_to_the_user_who_starts_it(tmp_path: Path) -> None:
    home = Path("/tmp") / f"pulsetrail-test-{os.getpid()}"  # tmp_path itself is closed to others
    home.mkdir()
    os.chown(home, 65534, 65534)
    try:
        child = multiprocessing.get_context("fork").Process(target=start_and_stop_as, args=(65534, home / "postgres"))
        child.start()
        child.join()
        if child.exitcode == CANNOT_READ:
            pytest.skip("another user cannot read this checkout")
        assert child.exitcode == 0
        assert {path.stat().st_uid for path in home.rglob("*")} == {65534}
    finally:
        subprocess.run(["rm", "-rf", str(home)], check=True)


def test_the_socket_directory_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can make a directory that belongs to somebody else")
    deep = tmp_path.joinpath(*["a-rather-long-folder-name"] * 6, "postgres")
    short = Path("/tmp") / f"pt-test-{os.getpid()}"
    short.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(short))
    with EmbeddedPostgres(deep, settings=FAST):
        sockets = Path((deep / "postmaster.pid").read_text().splitlines()[4])
    assert sockets.parent == short
    try:
        os.chown(sockets, 12345, 12345)
        with pytest.raises(EmbeddedPostgresFailed, match="belongs to somebody else"):
            EmbeddedPostgres(deep, settings=FAST).start()
    finally:
        subprocess.run(["rm", "-rf", str(short)], check=True)


def test_a_socket_that_nobody_listens_on_is_replaced(directory: Path) -> None:
    with EmbeddedPostgres(directory, settings=FAST):
        pass
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(directory / ".s.PGSQL.5432"))
    with EmbeddedPostgres(directory, settings=FAST) as server:
        assert server.alive()
