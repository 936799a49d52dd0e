"""Network Error Logging: what a browser's network stack reports of requests that JavaScript never saw fail.

Reporting API (W3C, https://www.w3.org/TR/reporting-1/) and NEL (https://www.w3.org/TR/network-error-logging/). Pure.
"""

from __future__ import annotations

from typing import Annotated, Final
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Raw, Struct

from pulsetrail.close_codes import Phase
from pulsetrail.events import CATALOGUE, Event, Source, encode_payload
from pulsetrail.identity import new_id
from pulsetrail.user_agents import describe
from pulsetrail_collector.intake import DECODE_FAULTS, MalformedBatch, fault_of
from pulsetrail_collector.schemas import OTHER, Ms

MAX_REPORTS: Final = 200
MAX_AGE_MS: Final = 48 * 3600 * 1000
HOST_LENGTH: Final = 253

TYPES: Final = frozenset(
    """
    ok abandoned unknown
    dns.unreachable dns.name_not_resolved dns.failed dns.address_changed dns.protocol
    tcp.timed_out tcp.closed tcp.reset tcp.refused tcp.aborted tcp.address_invalid tcp.address_unreachable tcp.failed
    tls.version_or_cipher_mismatch tls.bad_client_auth_cert tls.cert.name_invalid tls.cert.date_invalid
    tls.cert.authority_invalid tls.cert.invalid tls.cert.revoked tls.cert.pinned_key_not_in_cert_chain
    tls.protocol.error tls.failed
    http.error http.protocol.error http.response.invalid http.response.redirect_loop http.failed
    http.response.invalid.empty http.response.headers.multiple_content_length
    """.split()  # noqa: SIM905 - a list of quoted words would be three times as long
)
"""NEL's predefined types (section 6) and those that Chromium adds."""

_PHASE_OF: Final = {"dns": Phase.DNS, "tcp": Phase.TCP, "tls": Phase.TLS, "http": Phase.HANDSHAKE}
_PROTOCOLS: Final = frozenset(("http/0.9", "http/1.0", "http/1.1", "h2", "h3", "quic", ""))
_VERSION: Final = CATALOGUE["network.reported"].version


class NetworkError(Struct):
    """Body of a NEL report; referrer, request headers and the server's address are not read."""

    type: str
    phase: str = ""
    elapsed_time: Ms = 0
    status_code: Annotated[int, Meta(ge=0, le=999)] = 0
    protocol: str = ""
    method: str = ""
    sampling_fraction: Annotated[float, Meta(ge=0, le=1)] = 1.0


class Report(Struct):
    """One entry of the Reporting API's list."""

    type: str
    age: Annotated[float, Meta(ge=0)] = 0
    url: str = ""
    user_agent: str = ""
    body: Raw = Raw(b"{}")


class NetworkReported(Struct, omit_defaults=True):
    """Payload of ``network.reported``."""

    phase: str
    type: str
    host: str = ""
    status_code: int = 0
    elapsed_ms: float = 0
    protocol: str = ""
    method: str = ""
    sampling_fraction: float = 1.0
    address_prefix: str = "unknown"
    browser: str = OTHER
    os: str = OTHER
    device: str = OTHER


_decode_reports = msgspec.json.Decoder(Annotated[list[Raw], Meta(max_length=MAX_REPORTS)]).decode
_decode_report = msgspec.json.Decoder(Report).decode
_decode_body = msgspec.json.Decoder(NetworkError).decode


def host_of(url: str) -> str:
    """The host of a URL and nothing else of it: paths and queries hold what is nobody's business."""
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        return ""
    return host[:HOST_LENGTH] if host.isprintable() else ""


def network_reported(report: Report, error: NetworkError, prefix: str) -> NetworkReported:
    """The payload of one report; everything that is not from a closed list or a number becomes ``other``."""
    known = error.type if error.type in TYPES else OTHER
    agent = describe(report.user_agent)
    return NetworkReported(
        phase=_PHASE_OF.get(error.type.partition(".")[0], OTHER),
        type=known,
        host=host_of(report.url),
        status_code=error.status_code,
        elapsed_ms=error.elapsed_time,
        protocol=error.protocol if error.protocol in _PROTOCOLS else OTHER,
        method=error.method if error.method in ("", "GET", "POST", "HEAD", "OPTIONS") else OTHER,
        sampling_fraction=error.sampling_fraction,
        address_prefix=prefix,
        browser=agent.browser,
        os=agent.os,
        device=agent.device,
    )


def take_in_reports(raw: bytes, received_at: int, *, prefix: str, shard: int) -> tuple[list[Event], int]:
    """The events of a body of reports, and the number of reports that were of another kind or malformed.

    ``age`` says how long ago each happened; a browser delivers some of them only when it is online again.

    Raises:
        MalformedBatch: the body is no list of reports.
    """
    try:
        entries = _decode_reports(raw)
    except DECODE_FAULTS as error:
        raise MalformedBatch(fault_of(error)) from None
    events: list[Event] = []
    for entry in entries:
        try:
            report = _decode_report(entry)
            if report.type != "network-error":
                continue
            body = _decode_body(report.body)
        except DECODE_FAULTS:
            continue
        age_ms = report.age if report.age <= MAX_AGE_MS else 0
        events.append(
            Event(
                event_id=new_id(),
                event_type="network.reported",
                schema_version=_VERSION,
                source=Source.BROWSER,
                occurred_at=received_at - round(age_ms * 1000),
                received_at=received_at,
                shard=shard,
                payload=encode_payload(network_reported(report, body, prefix)),
            )
        )
    return events, len(entries) - len(events)
