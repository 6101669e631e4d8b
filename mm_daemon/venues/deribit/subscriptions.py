"""Channels of one connection: asked in paced batches, compared with what was granted.

The venue leaves a channel it does not know silently out of its answer, and sometimes refuses a
whole batch for one bad name; so what is missing is asked once more, and a refused batch is halved
until the bad name stands alone. A channel is never subscribed again before its unsubscription was
answered, because the two may overtake each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from mm_daemon.domain.units import Ns
from mm_daemon.venues.deribit.session import Ask, Session
from mm_daemon.venues.pacing import Pacer

CHANNELS_PER_CALL_MAX = 500
CALL_BYTES_MAX = 30_000
"""Of channel names in one call; the venue's limit for a whole frame is 32 kB."""


class Batch(msgspec.Struct, frozen=True):
    """Channels of one call; `is_retry` marks those that were missing once."""

    channels: tuple[str, ...]
    is_retry: bool = False


class Subscriptions:
    """What is wanted, asked and granted on one connection."""

    def __init__(self, session: Session, pacer: Pacer, scope: str, reserve: int = 0) -> None:
        """`reserve` calls of the pace are left to the other connection."""
        self._session = session
        self._pacer = pacer
        self._reserve = reserve
        self._subscribe = f"{scope}/subscribe"
        self._unsubscribe = f"{scope}/unsubscribe"
        self._adds: list[Batch] = []
        self._drops: list[Batch] = []
        self._leaving: dict[str, None] = {}
        """Unsubscriptions not answered yet."""
        self._again: dict[str, None] = {}
        """Of those, what is wanted anew: books that are resynced, instruments that came back."""
        self._in_flight = 0
        self.granted: dict[str, None] = {}

    @property
    def is_idle(self) -> bool:
        """Whether everything asked so far is decided."""
        return not (self._adds or self._drops or self._in_flight)

    def want(self, channels: Iterable[str]) -> None:
        """Subscribe; what is granted or queued already must not be named again."""
        fresh = []
        for channel in channels:
            if channel in self._leaving:
                self._again[channel] = None
            else:
                fresh.append(channel)
        self._adds += [Batch(part) for part in _batched(fresh)]

    def drop(self, channels: Iterable[str]) -> None:
        """Unsubscribe for good."""
        known = []
        for channel in channels:
            self._again.pop(channel, None)
            if channel in self.granted and channel not in self._leaving:
                self._leaving[channel] = None
                known.append(channel)
        self._drops += [Batch(part) for part in _batched(known)]

    def renew(self, channels: Iterable[str]) -> None:
        """Unsubscribe, and subscribe once that is answered."""
        fresh = []
        for channel in channels:
            self._again[channel] = None
            if channel not in self._leaving:
                self._leaving[channel] = None
                fresh.append(channel)
        self._drops += [Batch(part) for part in _batched(fresh)]

    def pump(self, now_ns: Ns) -> None:
        """Sends what the pace allows, unsubscriptions first."""
        while self._drops and self._pacer.take(now_ns, self._reserve):
            self._send(Ask.UNSUBSCRIBE, self._unsubscribe, self._drops.pop(0), now_ns)
        while self._adds and self._pacer.take(now_ns, self._reserve):
            self._send(Ask.SUBSCRIBE, self._subscribe, self._adds.pop(0), now_ns)

    def on_subscribed(self, batch: Batch, granted: Sequence[str]) -> tuple[list[str], list[str]]:
        """Compares a grant with its request: (granted, refused for good)."""
        self._in_flight -= 1
        names = {name.lower() for name in granted}
        here = [channel for channel in batch.channels if channel.lower() in names]
        missing = [channel for channel in batch.channels if channel.lower() not in names]
        for channel in here:
            self.granted[channel] = None
        if not missing:
            return here, []
        if batch.is_retry:
            return here, missing
        self._adds += [Batch(part, is_retry=True) for part in _batched(missing)]
        return here, []

    def on_subscribe_refused(self, batch: Batch) -> list[str]:
        """A whole batch was refused: halves it; a single channel is refused for good."""
        self._in_flight -= 1
        channels = batch.channels
        if len(channels) == 1:
            return list(channels)
        middle = len(channels) // 2
        for part in (channels[:middle], channels[middle:]):
            self._adds.append(Batch(part, is_retry=batch.is_retry))
        return []

    def on_unsubscribed(self, batch: Batch) -> None:
        """The venue sends these no more; those being renewed are asked for again."""
        self._in_flight -= 1
        renewed = []
        for channel in batch.channels:
            self.granted.pop(channel, None)
            self._leaving.pop(channel, None)
            if channel in self._again:
                del self._again[channel]
                renewed.append(channel)
        self.want(renewed)

    def clear(self) -> None:
        """The connection is gone."""
        self._adds.clear()
        self._drops.clear()
        self._leaving.clear()
        self._again.clear()
        self.granted.clear()
        self._in_flight = 0

    def next_deadline_ns(self) -> int | None:
        """When the pace allows the next call."""
        return self._pacer.ready_ns(self._reserve) if self._adds or self._drops else None

    def state(self) -> tuple[object, ...]:
        """Everything remembered, for the digest."""
        queued = [batch.channels for batch in (*self._adds, *self._drops)]
        return (queued, list(self._leaving), list(self._again), list(self.granted), self._in_flight)

    def _send(self, ask: Ask, method: str, batch: Batch, now_ns: Ns) -> None:
        self._in_flight += 1
        self._session.ask(ask, method, {"channels": batch.channels}, now_ns, context=batch)


def _batched(channels: Iterable[str]) -> list[tuple[str, ...]]:
    batches: list[tuple[str, ...]] = []
    part: list[str] = []
    size = 0
    for channel in channels:
        width = len(channel) + 3
        if part and (len(part) == CHANNELS_PER_CALL_MAX or size + width > CALL_BYTES_MAX):
            batches.append(tuple(part))
            part, size = [], 0
        part.append(channel)
        size += width
    if part:
        batches.append(tuple(part))
    return batches
