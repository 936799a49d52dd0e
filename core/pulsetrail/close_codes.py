"""Why a connection ended, and what a client does next: the one table.

The TypeScript copy is generated from here. Codes 1000 to 1015 are RFC 6455's (section 7.4.1); 4000 to 4999 are ours,
with one rule that needs no table: 4000 to 4499 retry, 4500 to 4999 do not (4500 once, with a new token).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple


class Initiator(StrEnum):
    """Whose doing the end was; a metric label, so the list is closed."""

    CLIENT = "client"
    SERVER = "server"
    NETWORK = "network"
    INTERMEDIARY = "intermediary"
    UNKNOWN = "unknown"


class Phase(StrEnum):
    """How far the connection had come."""

    DNS = "dns"
    TCP = "tcp"
    TLS = "tls"
    HANDSHAKE = "handshake"
    AUTH = "auth"
    OPEN = "open"
    DRAINING = "draining"


class Retry(StrEnum):
    """What a client does after the close."""

    NO = "no"
    WHEN_RECEIVED = "when_received"
    """Who sends it is gone; a client that is sent it, by a server or a proxy that goes away, comes back."""
    YES = "yes"
    WHEN_AWAKE = "when_awake"
    FROM_POSITION = "from_position"
    NEW_TOKEN = "new_token"  # noqa: S105 - a policy, not a secret
    ONCE_NEW_TOKEN = "once_new_token"  # noqa: S105 - a policy, not a secret
    AFTER_HINT = "after_hint"


class Reason(StrEnum):
    """Why a connection ended; a metric label, so the list is closed."""

    NORMAL = "normal"
    PAGE_CLOSED = "page_closed"
    CLIENT_HEARTBEAT_TIMEOUT = "client_heartbeat_timeout"
    CLIENT_PROBE_TIMEOUT = "client_probe_timeout"
    CLIENT_ASLEEP = "client_asleep"
    CLIENT_SEQUENCE_GAP = "client_sequence_gap"
    PEER_VANISHED = "peer_vanished"
    PEER_RESET = "peer_reset"
    PATH_TIMEOUT = "path_timeout"
    SERVER_HEARTBEAT_TIMEOUT = "server_heartbeat_timeout"
    IDLE_TIMEOUT = "idle_timeout"
    SLOW_CONSUMER = "slow_consumer"
    FORCED_RECONNECT = "forced_reconnect"
    TOKEN_EXPIRED = "token_expired"  # noqa: S105 - a reason, not a secret
    RATE_LIMITED = "rate_limited"
    FLAP_HELD = "flap_held"
    SERVER_SHUTDOWN = "server_shutdown"
    OVERLOADED = "overloaded"
    INTERNAL_ERROR = "internal_error"
    PROTOCOL_ERROR = "protocol_error"
    MESSAGE_TOO_BIG = "message_too_big"
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    CONNECTION_LIMIT = "connection_limit"
    SERVER_CRASHED = "server_crashed"
    SERVER_LOST = "server_lost"
    UNKNOWN = "unknown"


class Ending(NamedTuple):
    """One row of the table: a reason, who caused it, the close codes that carry it, what the client does."""

    reason: Reason
    initiator: Initiator
    codes: tuple[int, ...]
    retry: Retry


ENDINGS: Final = (
    # The client's own decisions.
    Ending(Reason.NORMAL, Initiator.CLIENT, (1000,), Retry.NO),
    Ending(Reason.PAGE_CLOSED, Initiator.CLIENT, (1001,), Retry.WHEN_RECEIVED),
    Ending(Reason.CLIENT_HEARTBEAT_TIMEOUT, Initiator.CLIENT, (4100,), Retry.YES),
    Ending(Reason.CLIENT_PROBE_TIMEOUT, Initiator.CLIENT, (4101,), Retry.YES),
    Ending(Reason.CLIENT_ASLEEP, Initiator.CLIENT, (4102,), Retry.WHEN_AWAKE),
    Ending(Reason.CLIENT_SEQUENCE_GAP, Initiator.CLIENT, (4103,), Retry.YES),
    # No close frame: what the socket showed.
    Ending(Reason.PEER_VANISHED, Initiator.UNKNOWN, (), Retry.YES),
    Ending(Reason.PEER_RESET, Initiator.UNKNOWN, (), Retry.YES),
    Ending(Reason.PATH_TIMEOUT, Initiator.NETWORK, (), Retry.YES),
    # The server's decisions.
    Ending(Reason.SERVER_HEARTBEAT_TIMEOUT, Initiator.SERVER, (4200,), Retry.YES),
    Ending(Reason.IDLE_TIMEOUT, Initiator.SERVER, (4201,), Retry.YES),
    Ending(Reason.SLOW_CONSUMER, Initiator.SERVER, (4202,), Retry.FROM_POSITION),
    Ending(Reason.FORCED_RECONNECT, Initiator.SERVER, (4203,), Retry.YES),
    Ending(Reason.TOKEN_EXPIRED, Initiator.SERVER, (4204,), Retry.NEW_TOKEN),
    Ending(Reason.RATE_LIMITED, Initiator.SERVER, (4205,), Retry.AFTER_HINT),
    Ending(Reason.FLAP_HELD, Initiator.SERVER, (4206,), Retry.AFTER_HINT),
    Ending(Reason.SERVER_SHUTDOWN, Initiator.SERVER, (1012,), Retry.AFTER_HINT),
    Ending(Reason.OVERLOADED, Initiator.SERVER, (1013,), Retry.AFTER_HINT),
    Ending(Reason.INTERNAL_ERROR, Initiator.SERVER, (1011,), Retry.YES),
    Ending(Reason.PROTOCOL_ERROR, Initiator.CLIENT, (1002, 1003, 1007), Retry.NO),
    Ending(Reason.MESSAGE_TOO_BIG, Initiator.CLIENT, (1009,), Retry.NO),
    Ending(Reason.UNAUTHORIZED, Initiator.SERVER, (4500,), Retry.ONCE_NEW_TOKEN),
    Ending(Reason.FORBIDDEN, Initiator.SERVER, (4501,), Retry.NO),
    Ending(Reason.CONNECTION_LIMIT, Initiator.SERVER, (4502,), Retry.NO),
    # Nobody could write the end at the time.
    Ending(Reason.SERVER_CRASHED, Initiator.SERVER, (), Retry.YES),
    Ending(Reason.SERVER_LOST, Initiator.SERVER, (), Retry.YES),
    Ending(Reason.UNKNOWN, Initiator.UNKNOWN, (), Retry.YES),
)

CLIENT_CAUSES: Final = frozenset(
    {*Reason, "network_offline", "page_reload", "timeout", "attempt_failed", "manual", "resume"}
)
"""What a client may state as the cause of an end or of a reconnect; a metric label, so the list is closed."""

BY_REASON: Final[dict[Reason, Ending]] = {ending.reason: ending for ending in ENDINGS}
BY_CODE: Final[dict[int, Ending]] = {code: ending for ending in ENDINGS for code in ending.codes}


def initiator_of(reason: Reason) -> Initiator:
    """Whose doing an end with this reason is."""
    return BY_REASON[reason].initiator


def code_for(reason: Reason) -> int:
    """The close code that the server sends for one of its own reasons.

    Raises:
        IndexError: the reason has no code, because nobody sends one.
    """
    return BY_REASON[reason].codes[0]


def is_retryable(code: int) -> bool:
    """Whether a client that saw this code comes back by itself."""
    if 4000 <= code <= 4499:
        return True
    if 4500 <= code <= 4999:
        return code == code_for(Reason.UNAUTHORIZED)
    ending = BY_CODE.get(code)
    return ending is None or ending.retry is not Retry.NO
