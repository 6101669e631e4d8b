"""Faults the venue's face shows on a scenario's word: lost book messages, outages, slow replies.

A fault is a span of time; the wire asks at its own moments whether it is inside one.  What a
fault does to the market itself is the world's business, not this module's.
"""

from typing import Final

import msgspec

FAULTS_MAX: Final = 10_000


class _Delay(msgspec.Struct, frozen=True):
    start_us: int
    end_us: int
    delay_us: int


class _Gap(msgspec.Struct, frozen=True):
    start_us: int
    end_us: int
    instrument: str


class FaultDesk:
    """The faults that were announced, by kind."""

    def __init__(self) -> None:
        self._delays: list[_Delay] = []
        self._gaps: list[_Gap] = []
        self._outages: list[tuple[int, int]] = []

    def add_feed_gap(self, instrument: str, start_us: int, end_us: int) -> None:
        """Every message of one book is lost in this span."""
        assert len(self._gaps) < FAULTS_MAX, f"faults: more than {FAULTS_MAX} feed gaps"
        self._gaps.append(_Gap(start_us=start_us, end_us=end_us, instrument=instrument))

    def add_outage(self, start_us: int, end_us: int) -> None:
        """Every connection is closed and none is accepted in this span."""
        assert len(self._outages) < FAULTS_MAX, f"faults: more than {FAULTS_MAX} outages"
        self._outages.append((start_us, end_us))

    def add_ack_delay(self, start_us: int, end_us: int, delay_us: int) -> None:
        """Replies to order entry leave this much later in this span; matching is not slowed."""
        assert len(self._delays) < FAULTS_MAX, f"faults: more than {FAULTS_MAX} delays"
        self._delays.append(_Delay(start_us=start_us, end_us=end_us, delay_us=delay_us))

    def take_gaps(self, now_us: int) -> list[tuple[str, int]]:
        """Gaps that have begun since the last asking: (instrument, end_us)."""
        begun = [gap for gap in self._gaps if gap.start_us <= now_us]
        if begun:
            self._gaps = [gap for gap in self._gaps if gap.start_us > now_us]
        return [(gap.instrument, gap.end_us) for gap in begun if gap.end_us > now_us]

    def in_outage(self, now_us: int) -> bool:
        """Whether the venue is down."""
        if not self._outages:
            return False
        self._outages = [span for span in self._outages if span[1] > now_us]
        return any(start_us <= now_us for start_us, _ in self._outages)

    def ack_delay_us(self, now_us: int) -> int:
        """How late a reply to order entry leaves now."""
        if not self._delays:
            return 0
        self._delays = [one for one in self._delays if one.end_us > now_us]
        return max((one.delay_us for one in self._delays if one.start_us <= now_us), default=0)
