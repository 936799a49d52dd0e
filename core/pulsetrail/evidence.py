"""From the evidence of a close to its reason: the classifier, pure and versioned.

``reason`` and ``initiator`` follow from what is on record and from nothing else, so that history can be classified
again when the rules change: raise ``CLASSIFIER_VERSION`` and rebuild.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from pulsetrail.close_codes import BY_CODE, Initiator, Phase, Reason, initiator_of
from pulsetrail.events import Evidence, TcpInfo

CLASSIFIER_VERSION: Final = 1

NO_STATUS: Final = 1005
"""A close frame without a code (RFC 6455, section 7.1.5)."""

_RESET: Final = frozenset({"ECONNRESET", "EPIPE"})
_PATH: Final = frozenset({"ETIMEDOUT", "EHOSTUNREACH", "ENETUNREACH", "ENETDOWN", "EHOSTDOWN"})

DEAD_PATH_BACKOFF: Final = 2
"""Retransmission timeouts in a row that make a path dead: one may be a lost segment, two in a row are not chance."""


class Classification(NamedTuple):
    """Why, whose doing, in which phase, and the code that was on the wire."""

    reason: Reason
    initiator: Initiator
    phase: Phase
    close_code: int | None
    was_clean: bool


def kernel_acknowledges(tcp: TcpInfo | None) -> bool | None:
    """Whether the peer's kernel acknowledges what was sent; ``None`` without ``TCP_INFO``.

    Unacknowledged segments alone are only a round trip in the making; with the retransmission timer backing off they
    are silence (RFC 6298, section 5.5). A full receive window backs off too, but leaves nothing unacknowledged.
    """
    if tcp is None:
        return None
    return not (tcp.unacked > 0 and tcp.backoff > 0)


def is_dead_path(tcp: TcpInfo | None) -> bool:
    """Whether the kernel shows that nothing arrives at the peer."""
    return tcp is not None and tcp.unacked > 0 and tcp.backoff >= DEAD_PATH_BACKOFF


def classify(evidence: Evidence, decision: Reason | None = None, *, draining: bool = False) -> Classification:
    """Why a connection ended.

    Args:
        evidence: what the gateway saw.
        decision: the reason for which the server itself ended it, if it did so before the peer.
        draining: the server was shutting down.
    """
    received, sent = evidence.close_received, evidence.close_sent
    was_clean = received is not None and sent is not None
    phase = Phase.DRAINING if draining else Phase.OPEN
    if decision is not None and evidence.first_actor == "server":
        return Classification(decision, initiator_of(decision), phase, sent, was_clean)
    if received is not None:
        reason, initiator = _said_by_client(received)
        return Classification(reason, initiator, phase, received, was_clean)
    if evidence.error in _RESET:
        reason = Reason.PEER_RESET
    elif evidence.error in _PATH:
        reason = Reason.PATH_TIMEOUT
    elif evidence.eof and evidence.error is None:
        reason = Reason.PEER_VANISHED
    else:
        reason = Reason.UNKNOWN
    return Classification(reason, initiator_of(reason), phase, None, was_clean)


def _said_by_client(code: int) -> tuple[Reason, Initiator]:
    """What a close frame from the client means: its own codes only, whatever a stray one may claim of the server."""
    if code == NO_STATUS:
        return Reason.NORMAL, Initiator.CLIENT
    ending = BY_CODE.get(code)
    if ending is not None and ending.initiator is Initiator.CLIENT:
        return ending.reason, Initiator.CLIENT
    return Reason.UNKNOWN, Initiator.CLIENT
