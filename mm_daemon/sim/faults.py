"""What can befall one message on its way: nothing, loss, delay, doubling, overtaking.

A fate is drawn for every message that passes, from one stream a pipe, or planted for one message by
its number or its text. The faults of the venue itself (outages, late acknowledgements, lost book
messages) are scripted by scenarios and shown by `sim.deribit_wire_faults`; these are the network's.

Rates are shares of messages and add up to at most 1. A fate says only what happens; the pipe that
carries the message does it.
"""

from __future__ import annotations

from enum import Enum

import msgspec

from mm_daemon.sim.latency import MS_NS
from mm_daemon.sim.streams import stream


class Fate(Enum):
    """What happens to one message."""

    ARRIVES = "arrives"
    LOST = "lost"
    LATE = "late"
    """Arrives after `late_ns` more, and everything behind it in order waits for it."""
    DOUBLED = "doubled"
    """Arrives twice, the second time `late_ns` later and out of order."""
    OVERTAKEN = "overtaken"
    """Arrives `late_ns` later while what was sent after it goes ahead."""


class FaultRates(msgspec.Struct, frozen=True, kw_only=True):
    """How often what happens in one direction; all zero is a sound network."""

    lost: float = 0.0
    late: float = 0.0
    doubled: float = 0.0
    overtaken: float = 0.0
    late_mean_ns: int = 200 * MS_NS

    def __post_init__(self) -> None:
        total = self.lost + self.late + self.doubled + self.overtaken
        assert 0.0 <= total <= 1.0, f"fault rates add up to {total}, expected 0 to 1"


class MatchedRates(msgspec.Struct, frozen=True, kw_only=True):
    """Rates for the messages of one kind: those that contain one of `texts` (all where none is
    named), in the pipes whose name begins with `pipe`."""

    pipe: str
    texts: tuple[bytes, ...]
    rates: FaultRates

    def fits(self, name: str, payload: bytes) -> bool:
        if not name.startswith(self.pipe):
            return False
        return not self.texts or any(text in payload for text in self.texts)


class Planted(msgspec.Struct):
    """A fate for the next `count` messages that contain `text`."""

    text: bytes
    fate: Fate
    count: int = 1
    late_ns: int = 200 * MS_NS


class FrameFaults:
    """Gives every message of one pipe its fate."""

    def __init__(
        self, seed: int, name: str, rates: FaultRates, matched: list[MatchedRates] | None = None
    ) -> None:
        """`matched` is shared: what its owner puts in or takes out counts from then on."""
        self.name = name
        self.rates = rates
        self._matched = [] if matched is None else matched
        self.counts: dict[Fate, int] = dict.fromkeys(Fate, 0)
        self._rng = stream(seed, f"faults/{name}")
        self._planted: list[Planted] = []
        self._is_on = rates != FaultRates(late_mean_ns=rates.late_mean_ns)

    def plant(self, planted: Planted) -> None:
        """Decides the fate of messages to come; the first planted that fits counts."""
        self._planted.append(planted)

    def stop(self) -> None:
        """From here on the network is sound."""
        self._is_on = False
        self._planted.clear()

    def fate(self, payload: bytes) -> tuple[Fate, int]:
        """The fate of one message, and its extra delay in ns."""
        fate, late_ns = self._drawn(self.rates) if self._is_on else (Fate.ARRIVES, 0)
        for matched in self._matched:
            if fate is Fate.ARRIVES and matched.fits(self.name, payload):
                fate, late_ns = self._drawn(matched.rates)
        for planted in self._planted:
            if planted.count > 0 and planted.text in payload:
                planted.count -= 1
                fate, late_ns = planted.fate, planted.late_ns
                break
        self.counts[fate] += 1
        return fate, late_ns

    def _drawn(self, rates: FaultRates) -> tuple[Fate, int]:
        draw = float(self._rng.random())
        for fate, rate in (
            (Fate.LOST, rates.lost),
            (Fate.LATE, rates.late),
            (Fate.DOUBLED, rates.doubled),
            (Fate.OVERTAKEN, rates.overtaken),
        ):
            if draw < rate:
                return fate, int(self._rng.standard_exponential() * rates.late_mean_ns)
            draw -= rate
        return Fate.ARRIVES, 0
