"""What an instance keeps on disk, and that it has one owner."""

from __future__ import annotations

import stat
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pulsetrail.datadir import DataDir
from pulsetrail.errors import DataDirectoryInUse, SettingsError, UnreadableFile
from pulsetrail.log import Deployment


def test_a_second_owner_is_refused_and_the_directory_is_free_after_the_first(tmp_path: Path) -> None:
    with DataDir(tmp_path).lock(), pytest.raises(DataDirectoryInUse), DataDir(tmp_path).lock():
        pass
    with DataDir(tmp_path).lock():
        pass


def test_roles_share_the_directory_but_not_with_a_whole_instance(tmp_path: Path) -> None:
    data = DataDir(tmp_path)
    with data.lock(shared=True), data.lock(shared=True), pytest.raises(DataDirectoryInUse), data.lock():
        pass


def test_the_lock_of_a_killed_owner_is_free(tmp_path: Path) -> None:
    owner = (
        "import sys, os; from pathlib import Path; from pulsetrail.datadir import DataDir\n"
        "with DataDir(Path(sys.argv[1])).lock(): os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", owner, str(tmp_path)], check=False).returncode == -9
    with DataDir(tmp_path).lock():
        pass


def test_a_node_keeps_the_name_it_was_given_at_its_first_start(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        names = set(pool.map(lambda _: DataDir(tmp_path).node_name(), range(8)))
    assert len(names) == 1, "starts at the same moment agree on one name"
    assert DataDir(tmp_path).node_name("configured") == "configured"
    assert {DataDir(tmp_path).node_name()} == names


def test_secrets_are_for_their_owner_only(tmp_path: Path) -> None:
    data = DataDir(tmp_path)
    key = data.ticket_key()
    data.cache_deployment(Deployment(shards=4, client_key=b"k" * 32))
    assert data.ticket_key() == key
    assert len(bytes.fromhex(key)) == 32
    for name in ("ticket.key", "client.key"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600


def test_what_the_database_said_is_remembered(tmp_path: Path) -> None:
    data = DataDir(tmp_path)
    assert data.cached_deployment() is None
    data.cache_deployment(Deployment(shards=8, client_key=bytes(range(32))))
    assert data.cached_deployment() == Deployment(shards=8, client_key=bytes(range(32)))


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"shards": "x"}', '{"shards": 4, "client_key": "zz"}'])
def test_a_damaged_file_is_named_with_what_to_do(tmp_path: Path, damage: str) -> None:
    (tmp_path / "client.key").write_text(damage)
    with pytest.raises(UnreadableFile, match=r"client\.key is damaged; remove it"):
        DataDir(tmp_path).cached_deployment()


@pytest.mark.parametrize(
    "damage", ["", "[]", "{}", '{"name": 5}', '{"name": null}', '{"name": ""}', '{"name": "../x y"}']
)
def test_a_node_name_that_could_not_have_been_made_is_refused(tmp_path: Path, damage: str) -> None:
    (tmp_path / "node").write_text(damage)
    with pytest.raises(UnreadableFile, match=r"node is damaged; remove it"):
        DataDir(tmp_path).node_name()


@pytest.mark.parametrize("damage", ["", "0", "0" * 63, "0" * 65, "g" * 64, "secret"])
def test_a_ticket_key_that_is_not_what_is_made_signs_nothing(tmp_path: Path, damage: str) -> None:
    (tmp_path / "ticket.key").write_text(damage)
    with pytest.raises(UnreadableFile, match=r"ticket\.key is damaged; remove it"):
        DataDir(tmp_path).ticket_key()


READERS: dict[str, Callable[[DataDir], object]] = {
    "node": DataDir.node_name,
    "client.key": DataDir.cached_deployment,
    "ticket.key": DataDir.ticket_key,
}


@pytest.mark.parametrize("name", READERS)
def test_bytes_that_are_no_text_and_directories_are_damaged_files(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UnreadableFile):
        READERS[name](DataDir(tmp_path))
    (tmp_path / name).unlink()
    (tmp_path / name).mkdir()
    with pytest.raises(UnreadableFile):
        READERS[name](DataDir(tmp_path))


@pytest.mark.parametrize("below", ["", "deeper"])
def test_a_file_is_no_data_directory(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("somebody's")
    refused = pytest.raises(SettingsError, match=r"PULSETRAIL_DATA_DIR is .*; allowed: a directory that can be written")
    with refused, DataDir(tmp_path / "file" / below).lock():
        pass
    assert (tmp_path / "file").read_text() == "somebody's"


def test_an_error_of_the_owner_s_own_is_not_blamed_on_the_directory(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), DataDir(tmp_path).lock():
        (tmp_path / "missing").read_text()
