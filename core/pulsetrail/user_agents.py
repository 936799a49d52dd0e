"""What kind of browser a client is: a ``User-Agent`` header reduced to three words from closed lists.

ua-parser names hundreds of families and passes unknown products through; as a label that would be the client's own
string. Whatever is not in the lists below is ``other``. The device is told from the operating system and the tokens
that browsers agree on, because ua-parser's device patterns cost several times what the other two cost together.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple

import ua_parser

OTHER: Final = "other"

BROWSERS: Final = frozenset(
    ("chrome", "edge", "firefox", "safari", "opera", "samsung", "webview", "script", "bot", OTHER)
)
OPERATING_SYSTEMS: Final = frozenset(("windows", "macos", "linux", "android", "ios", "chromeos", OTHER))
DEVICES: Final = frozenset(("desktop", "mobile", "tablet", "bot", OTHER))

MAX_LENGTH: Final = 320
"""Characters that are looked at; browsers' headers have less than 300, and the patterns' time grows with the length."""

_BROWSER_OF: Final = {
    "Chrome": "chrome",
    "Chrome Mobile": "chrome",
    "Chrome Mobile iOS": "chrome",
    "Chromium": "chrome",
    "HeadlessChrome": "chrome",
    "Edge": "edge",
    "Edge Mobile": "edge",
    "Firefox": "firefox",
    "Firefox Mobile": "firefox",
    "Firefox iOS": "firefox",
    "Safari": "safari",
    "Mobile Safari": "safari",
    "Opera": "opera",
    "Opera Mobile": "opera",
    "Opera Mini": "opera",
    "Samsung Internet": "samsung",
    "Chrome Mobile WebView": "webview",
    "Mobile Safari UI/WKWebView": "webview",
    "Electron": "webview",
}
_SCRIPTS: Final = ("python", "node", "undici", "curl/", "wget/", "okhttp/", "go-http-client", "java/", "websocket")
"""Openings of the headers that programs send; ua-parser knows few of them."""

_OS_OF: Final = {
    "Windows": "windows",
    "Mac OS X": "macos",
    "Linux": "linux",
    "Ubuntu": "linux",
    "Debian": "linux",
    "Fedora": "linux",
    "Android": "android",
    "iOS": "ios",
    "Chrome OS": "chromeos",
}
_DESKTOPS: Final = frozenset(("windows", "macos", "linux", "chromeos"))
_BOTS: Final = ("bot", "spider", "crawler")


class Agent(NamedTuple):
    """A client's software, from the closed lists of this module."""

    browser: str = OTHER
    os: str = OTHER
    device: str = OTHER


UNKNOWN: Final = Agent()


@lru_cache(maxsize=2048)
def _parse(user_agent: str) -> Agent:
    lowered = user_agent.lower()
    if any(word in lowered for word in _BOTS):
        return Agent("bot", OTHER, "bot")
    if lowered.startswith(_SCRIPTS):
        return Agent("script", OTHER, OTHER)
    if not lowered.startswith(("mozilla/", "opera/")):
        return UNKNOWN  # no browser; trying every pattern on it would take milliseconds
    family = ua_parser.parse_user_agent(user_agent)
    system = ua_parser.parse_os(user_agent)
    browser = _BROWSER_OF.get(family.family, OTHER) if family else OTHER
    os = _OS_OF.get(system.family, OTHER) if system else OTHER
    return Agent(browser, os, _device(lowered, os))


def _device(lowered: str, os: str) -> str:
    if "ipad" in lowered or "tablet" in lowered:
        return "tablet"
    if os == "android":  # Chrome's rule: a phone says Mobile, a tablet does not
        return "mobile" if "mobile" in lowered else "tablet"
    if os == "ios" or "mobile" in lowered:
        return "mobile"
    return "desktop" if os in _DESKTOPS else OTHER


def load() -> None:
    """Make the patterns now: that takes a good part of a second, which the first handshake would hold everybody up
    for."""
    _parse("Mozilla/5.0 (X11; Linux x86_64)")


def describe(user_agent: str) -> Agent:
    """Browser family, operating system and device of a ``User-Agent`` header; cached, total, never raises.

    >>> describe("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0 Safari/537.36")
    Agent(browser='chrome', os='linux', device='desktop')
    """
    return _parse(user_agent[:MAX_LENGTH]) if user_agent else UNKNOWN
