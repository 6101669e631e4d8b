"""What each fill was worth later: delta-hedged markouts at fixed horizons.

m(h) = side x [(theo(t+h) - price) - delta(t) x (forward(t+h) - forward(t))] x amount, in USD. The
part that a delta hedge would have paid is taken out, so that what remains is edge kept or lost to
better-informed takers. A horizon that comes while there is no theo waits a little and is then
counted as missed, never guessed.
"""

from __future__ import annotations

import hashlib
import math
from collections import deque

import msgspec

from mm_daemon.core.catalog import Floats
from mm_daemon.domain.units import NS_PER_S, Ns, Side

HORIZONS_S = (1, 5, 60, 300, 1_800)
PENDING_MAX = 20_000
LATE_SHARE = 0.2
"""A markout taken later than this share of its horizon (and a second) is not that horizon's."""


class Markout(msgspec.Struct, frozen=True):
    """One fill at one horizon, USD for the whole fill; horizon 0 is the edge at the fill."""

    trade_id: str
    instrument_id: int
    horizon_s: int
    usd: float


class _Pending(msgspec.Struct):
    due_ns: int
    filled_ns: int
    trade_id: str
    instrument_id: int
    signed_amount: float
    price_usd: float
    delta: float
    forward: float


class Markouts:
    """Markouts of all fills, and their sums by horizon."""

    def __init__(self) -> None:
        self._pending: tuple[deque[_Pending], ...] = tuple(
            deque(maxlen=PENDING_MAX) for _ in HORIZONS_S
        )
        self.sums_usd = [0.0] * len(HORIZONS_S)
        self.counts = [0] * len(HORIZONS_S)
        self.missed = [0] * len(HORIZONS_S)

    def on_fill(
        self,
        trade_id: str,
        instrument_id: int,
        side: Side,
        *,
        amount: float,
        price_usd: float,
        theo_usd: float,
        delta: float,
        forward: float,
        now_ns: Ns,
    ) -> Markout:
        """Begins to follow a fill; returns its edge at the fill.

        Prices and delta per unit of amount, delta in units of underlying.
        """
        signed = int(side) * amount
        for horizon_s, waiting in zip(HORIZONS_S, self._pending, strict=True):
            due_ns = now_ns + horizon_s * NS_PER_S
            waiting.append(
                _Pending(due_ns, now_ns, trade_id, instrument_id, signed, price_usd, delta, forward)
            )
        return Markout(trade_id, instrument_id, 0, signed * (theo_usd - price_usd))

    def take_due(self, theo_usd: Floats, forward: Floats, now_ns: Ns) -> list[Markout]:
        """The markouts whose time has come; arrays by instrument id."""
        taken: list[Markout] = []
        for row, (horizon_s, waiting) in enumerate(zip(HORIZONS_S, self._pending, strict=True)):
            while waiting and waiting[0].due_ns <= now_ns:
                one = waiting[0]
                moved = float(forward[one.instrument_id]) - one.forward
                gained = float(theo_usd[one.instrument_id]) - one.price_usd - one.delta * moved
                usd = one.signed_amount * gained
                late_ns = now_ns - one.due_ns
                limit_ns = int(LATE_SHARE * horizon_s * NS_PER_S) + NS_PER_S
                if late_ns > limit_ns:
                    self.missed[row] += 1
                elif not math.isfinite(usd):
                    break
                else:
                    self.sums_usd[row] += usd
                    self.counts[row] += 1
                    taken.append(Markout(one.trade_id, one.instrument_id, horizon_s, usd))
                waiting.popleft()
        return taken

    def next_due_ns(self) -> Ns | None:
        """When the next markout comes due."""
        due = [waiting[0].due_ns for waiting in self._pending if waiting]
        return Ns(min(due)) if due else None

    def digest(self) -> bytes:
        words = ([list(w) for w in self._pending], self.sums_usd, self.counts, self.missed)
        return hashlib.blake2b(msgspec.msgpack.encode(words), digest_size=16).digest()
