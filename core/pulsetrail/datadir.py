"""What an instance keeps on its own disk, and who owns it.

::

    <data_dir>/
        lock            held exclusively by ``serve``, shared by roles that run apart
        node            the node's name, made once
        client.key      the deployment's key and number of shards, so that a start needs no database
        ticket.key      signs tickets, when no setting does
        journals/       one SQLite journal for each process
        run/            what only matters while processes run: metrics snapshots, addresses
        postgres/       the embedded cluster
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pulsetrail.errors import DataDirectoryInUse, SettingsError, UnreadableFile
from pulsetrail.log import Deployment

NODE_NAME = r"[A-Za-z0-9._-]{1,48}"
"""What a node may be called: its name is part of file names, labels and leases."""
_NEW_NODE_NAME = "remove it to get a new node name"
_TICKET_KEY_BYTES = 32
_MOODS = ("amber", "brisk", "calm", "clear", "eager", "gentle", "keen", "lucid", "mellow", "nimble", "quiet")
_ANIMALS = ("badger", "crane", "egret", "gecko", "heron", "ibis", "jackal", "lemur", "marten", "otter", "raven")


class DataDir:
    """The layout of one data directory. Making the object touches nothing."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.journals = self.path / "journals"
        self.run = self.path / "run"
        self.metrics = self.run / "metrics"
        self.postgres = self.path / "postgres"

    @contextlib.contextmanager
    def lock(self, *, shared: bool = False) -> Iterator[None]:
        """Own the directory: alone, or ``shared`` with the other roles of this host.

        Raises:
            DataDirectoryInUse: somebody else owns it; nothing was changed.
            SettingsError: it cannot be made or written.
        """
        with contextlib.ExitStack() as stack:
            try:
                self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
                file = stack.enter_context((self.path / "lock").open("a"))
                fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
                for directory in (self.journals, self.metrics):
                    directory.mkdir(parents=True, exist_ok=True)
            except BlockingIOError:
                raise DataDirectoryInUse(self.path) from None
            except OSError as error:
                value = f"{str(self.path)!r} ({error.strerror})"
                raise SettingsError("PULSETRAIL_DATA_DIR", value, "a directory that can be written") from None
            yield

    def node_name(self, configured: str = "") -> str:
        """The name of this node: the configured one, or one that was made at the first start and is kept."""
        if configured:
            return configured
        path = self.path / "node"
        kept = _read(path, _NEW_NODE_NAME)
        if kept is None:
            # The digits keep a fleet's names apart: two nodes of one name would share a lease.
            name = f"{secrets.choice(_MOODS)}-{secrets.choice(_ANIMALS)}-{secrets.token_hex(2)}"
            kept = _keep(path, json.dumps({"name": name}))
        try:
            found: object = json.loads(kept)["name"]
        except (ValueError, KeyError, TypeError):
            found = None
        if not isinstance(found, str) or not re.fullmatch(NODE_NAME, found):
            raise UnreadableFile(path, _NEW_NODE_NAME)
        return found

    def ticket_key(self) -> str:
        """The secret that signs this instance's tickets, made once and shared by its workers."""
        path, remedy = self.path / "ticket.key", "remove it to get a new key; tickets are good for seconds only"
        key = _read(path, remedy)
        if key is None:
            key = _keep(path, secrets.token_hex(_TICKET_KEY_BYTES))
        if not re.fullmatch(rf"[0-9a-f]{{{2 * _TICKET_KEY_BYTES}}}", key):
            raise UnreadableFile(path, remedy)
        return key

    def cached_deployment(self) -> Deployment | None:
        """What an earlier start learned from the database, if there was one."""
        path, remedy = self.path / "client.key", "remove it and start while the database runs"
        kept = _read(path, remedy)
        if kept is None:
            return None
        try:
            fields = json.loads(kept)
            return Deployment(shards=int(fields["shards"]), client_key=bytes.fromhex(fields["client_key"]))
        except (ValueError, KeyError, TypeError):
            raise UnreadableFile(path, remedy) from None

    def cache_deployment(self, deployment: Deployment) -> None:
        """Remember it for a start without a database."""
        text = json.dumps({"shards": deployment.shards, "client_key": deployment.client_key.hex()})
        _replace(self.path / "client.key", text)


def _read(path: Path, remedy: str) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return None
    except (UnicodeDecodeError, IsADirectoryError):
        raise UnreadableFile(path, remedy) from None


def _keep(path: Path, text: str) -> str:
    """Write ``text`` unless another process was first; return what the file holds then."""
    fresh = _beside(path, text)
    try:
        os.link(fresh, path)
    except FileExistsError:
        text = path.read_text(encoding="utf-8").strip()
    finally:
        fresh.unlink()
    return text


def _replace(path: Path, text: str) -> None:
    _beside(path, text).replace(path)


def _beside(path: Path, text: str) -> Path:
    """A durable file next to ``path`` that only its owner may read."""
    descriptor, fresh = tempfile.mkstemp(prefix=f"{path.name}.", dir=path.parent)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(descriptor)
    return Path(fresh)
