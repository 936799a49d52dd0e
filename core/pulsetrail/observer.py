"""What the pipeline tells about itself while it works.

The journal, the shipper and the log report here and know nothing of Prometheus; ``metrics.py`` implements the
protocol, and ``NullObserver`` is what they get when nobody looks.
"""

from __future__ import annotations

from typing import Protocol


class PipelineObserver(Protocol):
    """Receiver of the pipeline's own figures. Calls are cheap, never raise, and may come from any thread."""

    def journal_committed(self, rows: int, seconds: float) -> None:
        """A group commit made ``rows`` events durable in ``seconds``."""

    def journal_size(self, rows: int, size_bytes: int, oldest_seconds: float) -> None:
        """What waits in the journal to be shipped: events, bytes on disk (WAL included), age of the oldest."""

    def append_finished(self, result: str, rows: int, seconds: float) -> None:
        """A batch of ``rows`` events was sent; ``result`` is one of ``metrics.APPEND_RESULTS``."""

    def events_dropped(self, event_class: str, reason: str, count: int) -> None:
        """``count`` events of a class were given up for a reason of ``metrics.DROP_REASONS``."""


class NullObserver:
    """Nobody looks."""

    def journal_committed(self, rows: int, seconds: float) -> None:
        pass

    def journal_size(self, rows: int, size_bytes: int, oldest_seconds: float) -> None:
        pass

    def append_finished(self, result: str, rows: int, seconds: float) -> None:
        pass

    def events_dropped(self, event_class: str, reason: str, count: int) -> None:
        pass


class LogLinesObserver(Protocol):
    """Receiver of what the logs could not deliver. Calls are cheap, never raise, and may come from any thread."""

    def log_lines_dropped(self, count: int = 1) -> None:
        """Standard output did not take ``count`` lines in time."""

    def loki_lines_dropped(self, reason: str, count: int = 1) -> None:
        """Loki did not get ``count`` lines for a reason of ``metrics.LOKI_DROPS``."""
