"""Batches as browsers make them."""

import gzip
import time
from typing import Any

import msgspec


def batch(*events: Any, **fields: Any) -> dict[str, Any]:
    """A batch as the browser makes it."""
    now = time.time() * 1000
    return {
        "schema": 1,
        "batch_id": "b-1",
        "batch_seq": 1,
        "session_id": "s-1",
        "page_id": "page-1",
        "client_id": "client-1",
        "sdk": "pulsetrail/1.0",
        "app": "shop",
        "release": "1.2.3",
        "sent_wall": now,
        "sent_mono": 5000.0,
        "clock": {"offset_ms": 0, "error_ms": 2, "samples": 4},
        "ctx": {"visibility": "visible", "network": "wifi", "effective_type": "4g"},
        "dropped": {},
        "events": list(events),
        **fields,
    }


def client_event(seq: int = 1, kind: str = "socket.opened", **fields: Any) -> dict[str, Any]:
    """An event of a second ago."""
    return {"seq": seq, "type": kind, "wall": time.time() * 1000 - 1000, "mono": 4000.5, **fields}


def zipped(body: Any) -> bytes:
    """As a browser compresses it."""
    return gzip.compress(msgspec.json.encode(body))
