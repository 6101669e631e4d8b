"""Faults the venue's face shows on a scenario's word: lost book messages, outages, slow replies.

The wire asks at its own moments what is in force.  What a fault does to the market itself is the
world's business, not this module's: matching goes on in an outage and is not slowed by a delay.
"""

from collections.abc import Iterable
from typing import assert_never

from mm_daemon.sim.scenario import AckDelay, Fault, FeedGap, Outage


class FaultDesk:
    """The faults that were announced, by kind, each forgotten when it is over."""

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self._gaps: list[FeedGap] = []
        self._outages: list[Outage] = []
        self._delays: list[AckDelay] = []
        for fault in faults:
            self.add(fault)

    def add(self, fault: Fault) -> None:
        """Announce one fault."""
        match fault:
            case FeedGap():
                self._gaps.append(fault)
            case Outage():
                self._outages.append(fault)
            case AckDelay():
                self._delays.append(fault)
            case _:
                assert_never(fault)

    def take_gaps(self, now_us: int) -> list[FeedGap]:
        """Feed gaps that have come due since the last asking."""
        begun = [gap for gap in self._gaps if gap.at_us <= now_us]
        if begun:
            self._gaps = [gap for gap in self._gaps if gap.at_us > now_us]
        return begun

    def in_outage(self, now_us: int) -> bool:
        """Whether the venue is down."""
        if not self._outages:
            return False
        self._outages = [span for span in self._outages if span.until_us > now_us]
        return any(span.at_us <= now_us for span in self._outages)

    def ack_delay_us(self, now_us: int) -> int:
        """How late a reply to order entry leaves now; 0 for at once."""
        if not self._delays:
            return 0
        self._delays = [one for one in self._delays if one.until_us > now_us]
        return max((one.delay_us for one in self._delays if one.at_us <= now_us), default=0)
