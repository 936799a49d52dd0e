"""Which faults are in force, when they end, and the two that are made of others: flap and monkey."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from pulsetrail.chaos.faults import (
    KINDS,
    Fault,
    Fin,
    Flap,
    Monkey,
    Refuse,
    Reset,
    direction_of,
    draws,
    kind_of,
)
from pulsetrail.chaos.proxy import Proxy

Record = Callable[..., None]
"""``record(event_type, fault=..., ...)``: one event of the log, with fields as the collector's schema names them."""

MAX_DETAIL: Final = 200


class InForce(Struct, frozen=True):
    """One fault as ``status`` shows it."""

    fault: str
    what: str
    left_ms: int | None
    """``None``: until it is lifted."""


class _Entry:
    def __init__(self, fault: Fault, ends_at: float | None) -> None:
        self.fault = fault
        self.ends_at = ends_at
        self.timer: asyncio.TimerHandle | None = None
        self.program: asyncio.Task[None] | None = None


class Director:
    """Applies and lifts; at most one fault of a kind at a time, different kinds together. Every change is recorded."""

    def __init__(self, proxy: Proxy, record: Record) -> None:
        self._proxy = proxy
        self._record = record
        self._in_force: dict[str, _Entry] = {}

    def apply(self, fault: Fault, for_ms: int | None) -> str:
        """Put a fault in force for a time, or until it is lifted; returns what is done, in words.

        A reset or a FIN without a time happens once.
        """
        kind = kind_of(fault)
        self.lift(kind)
        lasts = for_ms is not None or not isinstance(fault, Reset | Fin)
        hit = len(self._proxy.links)
        detail = f"{fault}, {hit} open connection{'' if hit == 1 else 's'}"
        self._record(
            "chaos.applied",
            fault=kind,
            direction=direction_of(fault),
            target=str(self._proxy.target),
            for_ms=for_ms,
            detail=detail[:MAX_DETAIL],
        )
        self._proxy.begin(fault, lasts=lasts)
        if not lasts:
            return f"Applied once: {detail}."
        loop = asyncio.get_running_loop()
        entry = _Entry(fault, None if for_ms is None else loop.time() + for_ms / 1000)
        self._in_force[kind] = entry
        if entry.ends_at is not None:
            entry.timer = loop.call_at(entry.ends_at, self.lift, kind)
        if isinstance(fault, Flap):
            entry.program = asyncio.create_task(self._flap(fault))
        elif isinstance(fault, Monkey):
            entry.program = asyncio.create_task(self._monkey(fault))
        return f"Applied {'until it is lifted' if for_ms is None else f'for {for_ms / 1000:g} s'}: {detail}."

    def lift(self, kind: str | None = None) -> list[str]:
        """End one fault, or all; returns the names of those that were in force."""
        lifted: list[str] = []
        # Those made of others first: they lift what they have applied.
        for name in sorted(self._in_force, key=lambda name: -KINDS.index(name)) if kind is None else [kind]:
            entry = self._in_force.pop(name, None)
            if entry is None:
                continue
            if entry.timer is not None:
                entry.timer.cancel()
            if entry.program is not None:
                entry.program.cancel()
            self._proxy.end(entry.fault)
            self._record("chaos.lifted", fault=name, target=str(self._proxy.target))
            lifted.append(name)
        return lifted

    def in_force(self) -> list[InForce]:
        """What is in force now."""
        now = asyncio.get_running_loop().time()
        return [
            InForce(
                name, str(entry.fault), None if entry.ends_at is None else max(0, round((entry.ends_at - now) * 1e3))
            )
            for name, entry in self._in_force.items()
        ]

    async def _flap(self, flap: Flap) -> None:
        while True:
            self.apply(Reset(), None)
            await self._hold(Refuse(), flap.down_ms)
            await asyncio.sleep(flap.up_ms / 1000)

    async def _monkey(self, monkey: Monkey) -> None:
        for fault, for_ms, pause_ms in draws(monkey.seed):
            if for_ms is None:
                self.apply(fault, None)
            else:
                await self._hold(fault, for_ms)
            await asyncio.sleep(pause_ms / 1000)

    async def _hold(self, fault: Fault, for_ms: int) -> None:
        """Apply, wait for the end, and lift it when told to stop before."""
        self.apply(fault, for_ms)
        mine = self._in_force[kind_of(fault)]
        try:
            await asyncio.sleep(for_ms / 1000)
        finally:
            if self._in_force.get(kind_of(fault)) is mine:
                self.lift(kind_of(fault))
