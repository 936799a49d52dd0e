import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulsetrail.user_agents import BROWSERS, DEVICES, OPERATING_SYSTEMS, Agent, describe

SEEN = {
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36": (
        "chrome",
        "windows",
        "desktop",
    ),
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 "
    "Safari/537.36 Edg/141.0.0.0": ("edge", "windows", "desktop"),
    "Mozilla/5.0 (X11; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0": ("firefox", "linux", "desktop"),
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/141.0.0.0 Safari/537.36": (
        "chrome",
        "linux",
        "desktop",
    ),
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 "
    "Safari/605.1.15": ("safari", "macos", "desktop"),
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 "
    "Mobile/15E148 Safari/604.1": ("safari", "ios", "mobile"),
    "Mozilla/5.0 (iPad; CPU OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 "
    "Mobile/15E148 Safari/604.1": ("safari", "ios", "tablet"),
    "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Mobile Safari/537.36": (
        "chrome",
        "android",
        "mobile",
    ),
    "Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36": (
        "chrome",
        "chromeos",
        "desktop",
    ),
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)": ("bot", "other", "bot"),
    "Python/3.11 websockets/17.4": ("script", "other", "other"),
    "": ("other", "other", "other"),
}


@pytest.mark.parametrize(("header", "expected"), SEEN.items(), ids=lambda value: str(value)[-40:])
def test_a_real_header_is_reduced_to_family_system_and_device(header: str, expected: tuple[str, str, str]) -> None:
    assert describe(header) == Agent(*expected)


@given(st.text(max_size=2000))
def test_whatever_a_client_sends_the_words_come_from_the_closed_lists(header: str) -> None:
    agent = describe(header)
    assert agent.browser in BROWSERS
    assert agent.os in OPERATING_SYSTEMS
    assert agent.device in DEVICES
