"""Running a server that refuses to be root, for somebody who is root.

PostgreSQL does not run as root, but ``sudo make run`` and a container's default user are root. Then the server runs as
a system user of its own, and that user needs a way in: to the data, which may lie below ``/root``, and to the
binaries. The way is opened for that user alone where the file system has access control lists.
"""

from __future__ import annotations

import os
import pwd
import shutil
import struct
import subprocess
from pathlib import Path
from typing import NamedTuple

USER = "pulsetrail"

_ACL = "system.posix_acl_access"
_ACL_VERSION = 2
_USER_OBJ, _NAMED_USER, _GROUP_OBJ, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x10, 0x20
_NO_ID = 0xFFFFFFFF
_SEARCH = 0o1


class Account(NamedTuple):
    """Whom the server runs as."""

    uid: int
    gid: int


def server_account() -> Account | None:
    """The account for the server, made when it is missing; ``None`` when we are not root and need none."""
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam(USER)
    except KeyError:
        entry = _make_user()
    return Account(entry.pw_uid, entry.pw_gid)


def _make_user() -> pwd.struct_passwd:
    useradd = shutil.which("useradd", path="/usr/sbin:/sbin:/usr/bin:/bin")
    if useradd is not None:
        arguments = ["--system", "--no-create-home", "--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin", USER]
        # A start beside this one may make the user first; the look-up below is what counts.
        subprocess.run([useradd, *arguments], check=False, capture_output=True)  # noqa: S603 - fixed arguments
        try:
            return pwd.getpwnam(USER)
        except KeyError:
            pass
    return pwd.getpwnam("nobody")


def open_path(path: Path, account: Account) -> None:
    """Let ``account`` search every directory above ``path``.

    Only directories that would stop it are changed, and only by the right to search, not to list or read.
    """
    for directory in reversed(path.absolute().parents):
        status = directory.stat()
        owned = status.st_uid == account.uid and status.st_mode & 0o100
        if owned or status.st_mode & _SEARCH or _allowed_by_list(directory, account):
            continue
        try:
            _allow_by_list(directory, account, status.st_mode)
        except OSError:  # a file system without access control lists
            directory.chmod(status.st_mode | _SEARCH)


def open_tree(root: Path) -> None:
    """Make a tree of programs readable by everybody, as installing them under a strict umask did not."""
    for path in (root, *root.rglob("*")):
        if not path.is_symlink():
            mode = path.stat().st_mode
            path.chmod(mode | 0o444 | (0o111 if mode & 0o100 else 0))


def _entries(directory: Path) -> list[tuple[int, int, int]]:
    """The list's entries as (tag, permissions, id); empty when there is no list."""
    try:
        raw = os.getxattr(directory, _ACL)
    except OSError:
        return []
    return [struct.unpack_from("<HHI", raw, at) for at in range(4, len(raw), 8)]


def _allowed_by_list(directory: Path, account: Account) -> bool:
    entries = _entries(directory)
    mask = next((permissions for tag, permissions, _ in entries if tag == _MASK), 0o7)
    return any(tag == _NAMED_USER and who == account.uid and rights & mask & _SEARCH for tag, rights, who in entries)


def _allow_by_list(directory: Path, account: Account, mode: int) -> None:
    """Add "this user may search" to the directory's list (format of linux/posix_acl_xattr.h, sorted by tag and id)."""
    entries = _entries(directory) or [
        (_USER_OBJ, mode >> 6 & 0o7, _NO_ID),
        (_GROUP_OBJ, mode >> 3 & 0o7, _NO_ID),
        (_OTHER, mode & 0o7, _NO_ID),
    ]
    mask = next((rights for tag, rights, _ in entries if tag == _MASK), mode >> 3 & 0o7)
    kept = [entry for entry in entries if entry[0] != _MASK and entry[::2] != (_NAMED_USER, account.uid)]
    entries = sorted([*kept, (_NAMED_USER, _SEARCH, account.uid), (_MASK, mask | _SEARCH, _NO_ID)], key=_order)
    os.setxattr(directory, _ACL, struct.pack("<I", _ACL_VERSION) + b"".join(struct.pack("<HHI", *e) for e in entries))


def _order(entry: tuple[int, int, int]) -> tuple[int, int]:
    return entry[0], entry[2]
