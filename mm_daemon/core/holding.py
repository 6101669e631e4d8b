"""One position of ours: its size, what it was opened at, and what it has made.

A holding keeps the value it was opened at instead of a price, so profit is a difference of values,
exact to 1e-18. A second basis restarts at each session settlement, as at the venue. Nothing here
knows cash.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from mm_daemon.core.money import div_half_even, value_e18
from mm_daemon.domain.instruments import Instrument
from mm_daemon.domain.units import NS_PER_DAY, NS_PER_S

SETTLEMENT_OF_DAY_NS = 8 * 3_600 * NS_PER_S


def session_of(ts_venue_ns: int) -> int:
    """The venue's daily session, 08:00 UTC to 08:00 UTC, by a number that rises by one a day."""
    return (ts_venue_ns - SETTLEMENT_OF_DAY_NS) // NS_PER_DAY


def session_start_ns(session: int) -> int:
    return session * NS_PER_DAY + SETTLEMENT_OF_DAY_NS


class Holding(msgspec.Struct):
    """One position; the session fields restart at each session settlement at a known price."""

    lots: int = 0
    cost_e18: int = 0
    realized_e18: int = 0
    session_cost_e18: int = 0
    session_realized_e18: int = 0
    session_funding_e18: int = 0
    funding_e18: int = 0
    """Funding of the venue's session `funding_session`, received positive: the figure that the
    venue states. It restarts at 08:00 UTC, whether or not we were told of the settlement."""
    funding_unit_e30: int = 0
    """The meter when this holding last looked at it."""
    fees_e8: int = 0
    funding_session: int = -1

    @property
    def is_carried(self) -> bool:
        """Whether anything of it is still in our equity besides cash."""
        return bool(self.lots or self.session_realized_e18 or self.session_funding_e18)

    def trade(self, instrument: Instrument, lots: int, price_e8: int) -> None:
        """Closes what opposes the position at its cost, then opens the rest at the price."""
        closing = 0
        if self.lots and (self.lots > 0) != (lots > 0):
            closing = min(abs(self.lots), abs(lots)) * (1 if lots > 0 else -1)
            proceeds = -value_e18(instrument, closing, price_e8)
            cost = div_half_even(self.cost_e18 * abs(closing), abs(self.lots))
            session = div_half_even(self.session_cost_e18 * abs(closing), abs(self.lots))
            self.lots += closing
            self.cost_e18 -= cost
            self.realized_e18 += proceeds - cost
            if not instrument.is_option:
                self.session_cost_e18 -= session
                self.session_realized_e18 += proceeds - session
        opening = lots - closing
        if opening:
            opened = value_e18(instrument, opening, price_e8)
            self.lots += opening
            self.cost_e18 += opened
            if not instrument.is_option:
                self.session_cost_e18 += opened

    def session_e18(self, instrument: Instrument, price_e8: int) -> int:
        """Realised, unrealised and funding since the last session settlement."""
        unrealized = 0
        if self.lots:
            unrealized = value_e18(instrument, self.lots, price_e8) - self.session_cost_e18
        return self.session_realized_e18 + unrealized + self.session_funding_e18

    def fund(self, received_e18: int) -> None:
        self.session_funding_e18 += received_e18
        self.funding_e18 += received_e18

    def without_result(self) -> Holding:
        """What the venue's next statement of funding is compared with, and nothing else."""
        return Holding(
            funding_e18=self.funding_e18,
            funding_session=self.funding_session,
            funding_unit_e30=self.funding_unit_e30,
        )

    @classmethod
    def restored(cls, parts: Sequence[str], settled_session: int) -> Holding:
        """Takes up what was saved. Books that were saved before sessions of funding were told apart
        state that of the session settled last."""
        held = cls(*map(int, parts))
        if len(parts) < len(cls.__struct_fields__):
            held.funding_session = settled_session
        return held

    def saved(self) -> list[str]:
        """Fields as decimal text: money in 1e-18 does not fit 64 bits. The meter of funding starts
        anew with the process, and so does where the holding has read it."""
        kept = msgspec.structs.replace(self, funding_unit_e30=0)
        return [str(part) for part in msgspec.structs.astuple(kept)]
