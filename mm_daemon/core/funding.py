"""Funding of a perpetual as the venue accrues it, so that its figure can be checked and foretold.

premium = (mark - index) / index; the rate of eight hours is max(c, premium) + min(-c, premium) with
c = 0.025 %, so that a small premium costs nothing. It accrues continuously on the notional; what
one unit of position pays is kept in 1e-30 and a holding takes the rise since it last looked. The
venue's own running total corrects ours whenever it is read; nothing here moves cash.
"""

from __future__ import annotations

import msgspec

from mm_daemon.core.money import E8, E18, div_half_even

# The venue counts time in microseconds here; so do we, because the rounding depends on it.
PERIOD_US = 8 * 3_600 * 1_000_000
DEAD_ZONE_E18 = 25 * 10**13
UNIT_TO_E18 = 10**20
"""1e-30 a unit times a 1e-8 amount is 1e-38; this brings it to 1e-18."""
NS_PER_US = 1_000
_E12 = 10**12


class FundingMeter(msgspec.Struct):
    """What one unit of position (a USD, or a coin if linear) has paid since the meter began."""

    is_inverse: bool
    rate_e18: int = 0
    index_e8: int = 0
    updated_us: int = 0
    cumulative_e30: int = 0

    def advance(self, now_us: int) -> None:
        """Accrues to `now_us` at the known rate, on the notional at the known index."""
        elapsed_us = now_us - self.updated_us
        if elapsed_us <= 0:
            return
        self.updated_us = now_us
        if self.rate_e18 == 0 or self.index_e8 <= 0:
            return
        share = self.rate_e18 * elapsed_us * _E12
        if self.is_inverse:
            self.cumulative_e30 += div_half_even(share * E8, PERIOD_US * self.index_e8)
        else:
            self.cumulative_e30 += div_half_even(share * self.index_e8, PERIOD_US * E8)

    def update(self, mark_e8: int, index_e8: int, now_us: int) -> None:
        """Accrues to `now_us` as it was, then goes on with this mark and index."""
        self.advance(now_us)
        if index_e8 > 0 and mark_e8 > 0:
            self.index_e8 = index_e8
            self.rate_e18 = rate_e18(mark_e8, index_e8)


def rate_e18(mark_e8: int, index_e8: int) -> int:
    """The rate of eight hours at a mark and an index."""
    premium = div_half_even((mark_e8 - index_e8) * E18, index_e8)
    return max(DEAD_ZONE_E18, premium) + min(-DEAD_ZONE_E18, premium)
