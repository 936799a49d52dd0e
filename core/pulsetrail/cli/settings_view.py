"""Every setting with its value, where the value came from, and what is allowed: ``pulsetrail config``."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from annotated_types import Ge, Le
from dotenv import dotenv_values
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from pulsetrail.settings import Settings, default_data_dir, variable_of

HIDDEN = "set (hidden)"

_INTRODUCTION = """\
Pulsetrail's settings, each with its default. Copy this file to .env and take the # off the lines you change; the
environment wins over the file. `pulsetrail config` shows what is in force and where it came from.
"""

_BROWSER = {
    "VITE_PULSETRAIL_URL": ("/ws/updates", "Address of the socket; a path is on the page's own host."),
    "VITE_PULSETRAIL_TELEMETRY_URL": ("/v1/telemetry", "Address that gets the telemetry; empty: none is sent."),
    "VITE_PULSETRAIL_WRITE_KEY": ("", "PULSETRAIL_WRITE_KEY, if one is set."),
    "VITE_PULSETRAIL_BACKOFF_BASE_MS": ("2000", "Milliseconds before the first attempt to reconnect."),
    "VITE_PULSETRAIL_BACKOFF_FACTOR": ("1.5", "Growth of the wait with each attempt."),
    "VITE_PULSETRAIL_BACKOFF_CAP_MS": ("60000", "Longest wait in milliseconds, the jitter included."),
    "VITE_PULSETRAIL_BACKOFF_JITTER_MS": ("500", "Milliseconds by which a wait is longer or shorter at random."),
    "VITE_PULSETRAIL_MAX_ATTEMPTS": ("30", "Attempts without a stable connection after which the page gives up."),
    "VITE_PULSETRAIL_STABLE_MS": ("120000", "Milliseconds of a stable connection that reset the wait."),
    "VITE_PULSETRAIL_HEARTBEAT_MS": ("30000", "Milliseconds between heartbeats, until welcome says its own."),
    "VITE_PULSETRAIL_MISS_LIMIT": ("2", "Overdue heartbeats after which the page reconnects, until welcome says more."),
    "VITE_PULSETRAIL_ATTEMPT_TIMEOUT_MS": ("15000", "Milliseconds that an attempt may take, token and all."),
    "VITE_PULSETRAIL_PROBE_TIMEOUT_MS": ("5000", "Milliseconds that a doubted connection has to answer a probe."),
    "VITE_PULSETRAIL_POLL_AFTER": ("4", "Attempts in a row without a welcome after which the page polls."),
    "VITE_PULSETRAIL_POLL_MS": ("15000", "Milliseconds between two polls, a fifth more or less."),
    "VITE_PULSETRAIL_BANNER_AFTER_MS": ("5000", "Milliseconds of visible downtime before the banner is shown."),
}


class SettingView(NamedTuple):
    """One line of ``pulsetrail config``; secrets are masked already."""

    variable: str
    value: str
    source: str
    """``environment``, the name of a file, or ``default``."""
    default: str
    allowed: str
    description: str


def views(settings: Settings, environ: Mapping[str, str], dotenv: Path) -> list[SettingView]:
    """All settings in the order of the class."""
    outside = {name.upper() for name, value in environ.items() if value}
    in_file = {name.upper() for name, value in dotenv_values(dotenv).items() if value} if dotenv.is_file() else set()
    return [
        SettingView(
            variable=variable_of(name),
            value=_text(name, getattr(settings, name)),
            source=_source(name, outside, in_file, dotenv),
            default=_text(name, default_of(name, field)),
            allowed=allowed_of(field),
            description=field.description or "",
        )
        for name, field in Settings.model_fields.items()
    ]


def default_of(name: str, field: FieldInfo) -> Any:
    """The default as a value."""
    return default_data_dir() if name == "data_dir" else field.default


def allowed_of(field: FieldInfo) -> str:
    """The range of a number, such as ``1 to 64``; empty where the description says it all."""
    low = next((part.ge for part in field.metadata if isinstance(part, Ge)), None)
    high = next((part.le for part in field.metadata if isinstance(part, Le)), None)
    if low is None:
        return ""
    return f"{low} or more" if high is None else f"{low} to {high}"


def example() -> str:
    """The text of ``.env.example``."""
    lines = [f"# {line}" for line in textwrap.wrap(_INTRODUCTION, 110)]
    for name, field in Settings.model_fields.items():
        allowed = allowed_of(field)
        described = f"{field.description} ({allowed})" if allowed else str(field.description)
        lines += ["", *_comment(described), f"# {variable_of(name)}={_text(name, default_of(name, field))}"]
    lines += ["", "# The browser's side, read when the page is built. What the server's welcome says wins."]
    for variable, (default, description) in _BROWSER.items():
        lines += ["", *_comment(description), f"# {variable}={default}"]
    return "\n".join(lines) + "\n"


def _comment(text: str) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(text, 110)]


def _source(name: str, outside: set[str], in_file: set[str], dotenv: Path) -> str:
    names = {variable_of(name), f"PULSETRAIL_{name.upper()}"}
    if names & outside:
        return "environment"
    return str(dotenv) if names & in_file else "default"


def _text(name: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, SecretStr):
        return _without_password(value.get_secret_value()) if name.endswith("_url") else HIDDEN
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(value)
    if isinstance(value, float):
        return f"{value:g}"
    return os.fspath(value) if isinstance(value, Path) else str(value)


def _without_password(url: str) -> str:
    """Where a URL leads, without user, password and parameters."""
    parts = urlsplit(url)
    where = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{'***@' if '@' in parts.netloc else ''}{where}{parts.path}"
