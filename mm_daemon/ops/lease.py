"""The right to trade a shard, as its holder must see it: a pure machine over its own clock.

The store lets a lease lapse a while (`ttl`) after the last renewal it carried out. A holder cannot
know when that was, only when it asked. So it counts from the moment before it asked, on its own
monotonic clock, and stops at a fraction of the ttl: whatever the network did, it has stopped before
the store lets anybody else in. A new owner waits until nothing that the former one sent can arrive.

A tenure is one unbroken right, numbered by the store; numbers only rise. A trader's epoch is its
tenure and which of its lives it is, so that no two traders anywhere share client ids.

Nothing here reads a clock or speaks to a store.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from mm_daemon.ipc.page import LeaseState

NS_PER_S: Final = 1_000_000_000
NEVER_NS: Final = (1 << 63) - 1
HOLD_NUMERATOR: Final = 3
HOLD_DENOMINATOR: Final = 5
"""A holder stops after three fifths of the ttl. The other two are what a new owner need not wait
again."""
CLOCK_RATE_DENOMINATOR: Final = 50
"""A new owner waits a fiftieth of the ttl more: clocks differ over how long a second is."""
ORDER_VALID_S_MAX: Final = 3.0
"""The longest `valid_until` of an order; quotes have theirs in the configuration."""
LIFE_BITS: Final = 16


def rest_of_ttl(ttl: float) -> float:
    """What of the ttl a holder leaves unused, in the same unit."""
    return ttl * (HOLD_DENOMINATOR - HOLD_NUMERATOR) / HOLD_DENOMINATOR


@dataclass(frozen=True, slots=True)
class LeaseTimes:
    """How long things last."""

    ttl_ns: int
    permit_ns: int
    """T1: how long one renewal lets the trader quote."""
    valid_ns: int
    """For how long the venue may still take in what a holder sent last, clock error included."""

    def __post_init__(self) -> None:
        assert self.ttl_ns > 0, self.ttl_ns
        assert self.permit_ns > 0, self.permit_ns
        assert self.valid_ns >= 0, self.valid_ns

    @property
    def hold_ns(self) -> int:
        """After asking, how long an answer is good for."""
        return self.ttl_ns * HOLD_NUMERATOR // HOLD_DENOMINATOR

    @property
    def rest_ns(self) -> int:
        """What of the ttl a holder leaves unused."""
        return self.ttl_ns - self.hold_ns

    def settle_ns(self, left_ns: int) -> int:
        """How long a new owner waits. `left_ns`: the most that the former one's lease still had.

        Its last renewal was carried out no later than `left` from now less a ttl, and asked for
        before that; it sent for `hold` from the asking, and what it sent may arrive for `valid`.
        """
        slack_ns = self.ttl_ns // CLOCK_RATE_DENOMINATOR
        return left_ns + max(0, self.valid_ns - self.rest_ns) + slack_ns


@dataclass(frozen=True, slots=True)
class Lease:
    """What one instance knows of its right. `tenure` 0: it holds none."""

    tenure: int = 0
    asked_ns: int = 0
    """When the last round trip that proved the lease was sent."""
    until_ns: int = 0
    quote_from_ns: int = 0
    is_superseded: bool = False
    """Another instance was granted the shard after us, and our trader may still run."""

    def __post_init__(self) -> None:
        assert self.tenure >= 0, self.tenure
        assert not (self.tenure and self.is_superseded)

    # -- what holds now -----------------------------------------------------------------------

    def state(self, now_ns: int) -> LeaseState:
        """Where it stands at this moment."""
        if self.tenure == 0:
            return LeaseState.SUPERSEDED if self.is_superseded else LeaseState.STANDBY
        if now_ns >= self.until_ns:
            return LeaseState.SUSPENDED
        return LeaseState.SETTLING if now_ns < self.quote_from_ns else LeaseState.HELD

    def fence(self, now_ns: int) -> int:
        """The tenure under which a trader may live, 0 where none."""
        return self.tenure if now_ns < self.until_ns else 0

    def permit_deadline_ns(self, now_ns: int, times: LeaseTimes) -> int:
        """Until when the trader may add risk; in the past where it may not."""
        if self.state(now_ns) is not LeaseState.HELD:
            return 0
        return min(self.asked_ns + times.permit_ns, self.until_ns)

    # -- what changes it ----------------------------------------------------------------------

    def granted(
        self, tenure: int, left_ns: int, *, asked_ns: int, now_ns: int, times: LeaseTimes
    ) -> Lease:
        """The store gave us the shard under a new tenure, at some time between asked and now."""
        assert tenure > self.tenure, (tenure, self.tenure)
        assert asked_ns <= now_ns, (asked_ns, now_ns)
        return Lease(
            tenure=tenure,
            asked_ns=asked_ns,
            until_ns=asked_ns + times.hold_ns,
            quote_from_ns=now_ns + times.settle_ns(left_ns),
        )

    def renewed(self, *, asked_ns: int, times: LeaseTimes) -> Lease:
        """The store still names us. An answer that took longer than `hold` proves nothing now."""
        assert self.tenure
        assert asked_ns >= self.asked_ns, (asked_ns, self.asked_ns)
        return replace(self, asked_ns=asked_ns, until_ns=asked_ns + times.hold_ns)

    def renewed_for_good(self, *, asked_ns: int) -> Lease:
        """A lock that dies with its holder was looked at: it needs no end."""
        assert self.tenure
        return replace(self, asked_ns=asked_ns, until_ns=NEVER_NS)

    def lost(self, *, to_another: bool) -> Lease:
        """The store no longer names us."""
        assert self.tenure
        return Lease(is_superseded=to_another)

    def stood_down(self) -> Lease:
        """Our trader has ended: we are one that waits, like any other."""
        return replace(self, is_superseded=False)


def life_epoch(tenure: int, life: int) -> int:
    """The epoch of one life of a trader: rises with every life and with every tenure.

    Lives are counted by a guard, which makes a fresh page; a fresh page begins a new tenure.
    """
    assert tenure > 0, tenure
    assert 0 < life < 1 << LIFE_BITS, life
    return tenure << LIFE_BITS | life
