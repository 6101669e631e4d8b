"""What the state controls remember of the recent past: rejects, requests, fills, runs, losses.

Bounded queues of what happened with its time; reading a window first drops what has left it.
Nothing here trips anything: the breaker puts these numbers into its sample.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable

import msgspec

from mm_daemon.domain.units import NS_PER_DAY, NS_PER_S, Ns, Side

REJECT_WINDOW_NS = 10 * NS_PER_S
REJECTS_MAX = 10_000
FILLS_MAX = 10_000
EQUITY_STEP_NS = 10 * NS_PER_S
"""Equity is remembered at this pace: 361 values span the rolling hour."""
HOUR_NS = 3_600 * NS_PER_S


class RejectWindow:
    """Rejects by the venue within ten seconds."""

    def __init__(self) -> None:
        self._at: deque[int] = deque(maxlen=REJECTS_MAX)

    def add(self, now_ns: Ns) -> None:
        self._at.append(now_ns)

    def clear(self) -> None:
        """A person has looked: what was before no longer counts."""
        self._at.clear()

    def count(self, now_ns: Ns) -> int:
        while self._at and self._at[0] <= now_ns - REJECT_WINDOW_NS:
            self._at.popleft()
        return len(self._at)

    def words(self) -> list[int]:
        return list(self._at)


class MessageWindow:
    """Requests sent and fills of one underlying, by whole seconds."""

    def __init__(self, window_ns: int) -> None:
        self._window_s = max(1, window_ns // NS_PER_S)
        self._seconds: deque[list[int]] = deque()
        self._sums = [0, 0]

    def add_message(self, now_ns: Ns) -> None:
        self._at(now_ns)[1] += 1
        self._sums[0] += 1

    def add_fill(self, now_ns: Ns) -> None:
        self._at(now_ns)[2] += 1
        self._sums[1] += 1

    def ratio(self, now_ns: Ns) -> float:
        """Requests for each fill; all of them where nothing was filled."""
        self._drop(now_ns // NS_PER_S)
        return self._sums[0] / max(1, self._sums[1])

    def words(self) -> list[list[int]]:
        return list(self._seconds)

    def _at(self, now_ns: Ns) -> list[int]:
        second = now_ns // NS_PER_S
        if not self._seconds or self._seconds[-1][0] != second:
            self._drop(second)
            self._seconds.append([second, 0, 0])
        return self._seconds[-1]

    def _drop(self, second: int) -> None:
        while self._seconds and self._seconds[0][0] <= second - self._window_s:
            _, messages, fills = self._seconds.popleft()
            self._sums[0] -= messages
            self._sums[1] -= fills


class FillTotals(msgspec.Struct, frozen=True):
    """Sums over the window of one underlying; delta and vega are signed net sums."""

    lots: int
    delta_coin: float
    vega_usd: float
    streak: int
    """Length of the run of fills on one side over at least two strikes, + for buys."""


class FillWindow:
    """Option fills of one underlying: the window of our own MMP twin and the run of one side."""

    def __init__(self, window_ns: int) -> None:
        self._window_ns = window_ns
        self._fills: deque[tuple[int, int, int, int, float, float]] = deque(maxlen=FILLS_MAX)

    def add(
        self,
        instrument_id: int,
        side: Side,
        lots: int,
        *,
        lot_delta: float,
        lot_vega_usd: float,
        now_ns: Ns,
    ) -> None:
        """Counts one fill with the greeks of one lot frozen at its time."""
        signed = int(side) * lots
        entry = (now_ns, instrument_id, int(side), lots, signed * lot_delta, signed * lot_vega_usd)
        self._fills.append(entry)

    def totals(self, now_ns: Ns) -> FillTotals:
        fills = self._fills
        while fills and fills[0][0] <= now_ns - self._window_ns:
            fills.popleft()
        lots = 0
        delta = vega = 0.0
        for _, _, _, count, fill_delta, fill_vega in fills:
            lots += count
            delta += fill_delta
            vega += fill_vega
        return FillTotals(lots, delta, vega, self._streak())

    def clear(self) -> None:
        """A person has looked: what was before no longer counts."""
        self._fills.clear()

    def words(self) -> list[tuple[int, int, int, int, float, float]]:
        return list(self._fills)

    def _streak(self) -> int:
        run = 0
        first_id = -1
        has_strikes = False
        last_side = self._fills[-1][2] if self._fills else 0
        for _, id_, side, _, _, _ in reversed(self._fills):
            if side != last_side:
                break
            run += 1
            first_id = id_ if first_id < 0 else first_id
            has_strikes = has_strikes or id_ != first_id
        return run * last_side if has_strikes else 0


class RepeatWindow:
    """Fills of the same side of one instrument since a person last acted (C7)."""

    def __init__(self, window_ns: int, fills_max: int) -> None:
        self._window_ns = window_ns
        self._fills_max = fills_max
        self._at: dict[tuple[int, int], deque[int]] = {}

    def add(self, instrument_id: int, side: Side, now_ns: Ns) -> bool:
        """Counts one fill; True where it is the one too many."""
        times = self._at.setdefault((instrument_id, int(side)), deque(maxlen=self._fills_max + 1))
        times.append(now_ns)
        while times[0] <= now_ns - self._window_ns:
            times.popleft()
        return len(times) >= self._fills_max

    def clear(self, instrument_ids: Iterable[int] | None = None) -> None:
        """A person has looked, at these instruments or (None) at all."""
        if instrument_ids is None:
            self._at.clear()
            return
        for id_ in instrument_ids:
            for side in Side:
                self._at.pop((id_, int(side)), None)

    def words(self) -> list[tuple[tuple[int, int], list[int]]]:
        return [(key, list(times)) for key, times in self._at.items()]


class Lost(msgspec.Struct, frozen=True):
    """What one life had lost by its newest equity, for the next: differences alone, because each
    life measures equity from an origin of its own."""

    day: int
    day_usd: float
    drawdown_usd: float
    hour: tuple[tuple[int, float], ...]
    """When equity was how far above the newest, of the values that no later one exceeds."""


class LossWindow:
    """Loss of the day (from 08:00 UTC), of the rolling hour, and from the peak, in USD.

    NaN equity makes every loss NaN, which the control takes for a breach: but only until a finite
    value comes, because an unknown equity is no loss that happened. What an earlier life lost is
    laid above the first equity of this one; what the market did in between is in neither.
    """

    DAY_START_NS = 8 * 3_600 * NS_PER_S

    def __init__(self) -> None:
        self._before: Lost | None = None
        """Until the first equity."""
        self._newest = math.nan
        """The newest equity that was a number."""
        self._day = -1
        self._day_open = math.nan
        self._peak = -math.inf
        self._now = 0.0
        self._is_known = False
        self._hour: deque[tuple[int, float]] = deque()

    def add(self, equity_usd: float, now_ns: Ns) -> None:
        """Takes the desk's equity without deposits and withdrawals."""
        self._now = equity_usd
        self._is_known = True
        if not math.isfinite(equity_usd):
            return
        self._newest = equity_usd
        if self._before is not None:
            self._resume(self._before, equity_usd)
        day = (now_ns - self.DAY_START_NS) // NS_PER_DAY
        if day != self._day:
            self._day, self._day_open = day, equity_usd
        self._peak = max(self._peak, equity_usd)
        if not self._hour or now_ns - self._hour[-1][0] >= EQUITY_STEP_NS:
            self._hour.append((now_ns, equity_usd))
        while self._hour[0][0] < now_ns - HOUR_NS:
            self._hour.popleft()

    def losses(self) -> tuple[float, float, float]:
        """(day, hour, drawdown), positive = lost; zeros before the first equity."""
        if not self._is_known:
            return 0.0, 0.0, 0.0
        if not math.isfinite(self._now):
            return math.nan, math.nan, math.nan
        hour_best = max((value for _, value in self._hour), default=self._now)
        return self._day_open - self._now, hour_best - self._now, self._peak - self._now

    def restart(self) -> None:
        """A person has reset the loss limit: the peak and the hour start anew, the day does not."""
        self._peak = self._now if math.isfinite(self._now) else -math.inf
        self._hour.clear()
        if self._before is not None:
            self._before = msgspec.structs.replace(self._before, drawdown_usd=0.0, hour=())

    def checkpoint(self) -> Lost | None:
        """None before the first equity of the first life."""
        if self._before is not None or not math.isfinite(self._newest):
            return self._before
        newest = best = self._newest
        hour: list[tuple[int, float]] = []
        for at_ns, value in reversed(self._hour):
            if value > best:
                best = value
                hour.append((at_ns, value - newest))
        return Lost(
            day=self._day,
            day_usd=self._day_open - newest,
            drawdown_usd=max(0.0, self._peak - newest),
            hour=tuple(reversed(hour)),
        )

    def restore(self, lost: Lost) -> None:
        self._before = lost

    def _resume(self, lost: Lost, equity_usd: float) -> None:
        self._before = None
        self._day, self._day_open = lost.day, equity_usd + lost.day_usd
        self._peak = max(self._peak, equity_usd + lost.drawdown_usd)
        self._hour.extend((at_ns, equity_usd + above) for at_ns, above in lost.hour)

    def words(self) -> tuple[object, ...]:
        hour = list(self._hour)
        lost = None if self._before is None else msgspec.structs.astuple(self._before)
        marks = (self._day, self._day_open, self._peak, self._now, self._newest)
        return (*marks, self._is_known, hour, lost)
