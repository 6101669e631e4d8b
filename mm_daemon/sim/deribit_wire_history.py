"""What the venue remembers of its own past for charts: bars of trades, indices and funding.

Bars are built from the events the venue published, so a chart can never show what no feed
carried; before the venue began there is nothing, and the answers say so.  Every table is bounded.
"""

import itertools
import math
from collections import OrderedDict
from typing import Final

import msgspec

from mm_daemon.sim.exchange_types import PublicTrade
from mm_daemon.sim.spec import DAY_US, E8, HOUR_US, MINUTE_US, SECOND_US

BARS_MAX: Final = 2_880
HOURS_PER_YEAR: Final = 365 * 24
MINUTES_PER_HOUR: Final = 60


class Bar(msgspec.Struct):
    """Open, high, low, close of one span, with what was traded in it."""

    start_us: int
    open: float
    high: float
    low: float
    close: float
    volume: float = 0.0
    cost: float = 0.0

    def add(self, price: float, volume: float = 0.0, cost: float = 0.0) -> None:
        """Fold one observation in."""
        self.high = max(self.high, price)
        self.low = min(self.low, price)
        self.close = price
        self.volume += volume
        self.cost += cost

    def join(self, later: "Bar") -> None:
        """Fold the bar that follows in."""
        self.high = max(self.high, later.high)
        self.low = min(self.low, later.low)
        self.close = later.close
        self.volume += later.volume
        self.cost += later.cost


class _Track:
    """Bars of one span length, the oldest forgotten first."""

    def __init__(self, span_us: int) -> None:
        self._span_us = span_us
        self._bars: OrderedDict[int, Bar] = OrderedDict()

    def add(self, ts_us: int, price: float, volume: float = 0.0, cost: float = 0.0) -> Bar:
        start_us = ts_us - ts_us % self._span_us
        bar = self._bars.get(start_us)
        if bar is None:
            bar = self._bars[start_us] = Bar(
                start_us=start_us, open=price, high=price, low=price, close=price
            )
            if len(self._bars) > BARS_MAX:
                self._bars.popitem(last=False)
        bar.add(price, volume, cost)
        return bar

    def bars(self, start_us: int, end_us: int, span_us: int) -> list[Bar]:
        """Bars of a longer span within bounds, oldest first; spans without any are left out."""
        joined: OrderedDict[int, Bar] = OrderedDict()
        for bar in self._bars.values():
            if not start_us - span_us < bar.start_us <= end_us:
                continue
            slot_us = bar.start_us - bar.start_us % span_us
            held = joined.get(slot_us)
            if held is None:
                joined[slot_us] = msgspec.structs.replace(bar, start_us=slot_us)
            else:
                held.join(bar)
        return list(joined.values())


class FundingHour(msgspec.Struct, frozen=True):
    """The funding of one perpetual over one hour, at the hour's end."""

    ts_us: int
    interest_8h: float
    interest_1h: float
    index_price: float
    prev_index_price: float


class _Funding:
    """Interest of one perpetual, integrated over time and cut into hours."""

    def __init__(self) -> None:
        self.hours: list[FundingHour] = []
        self.points: list[tuple[int, float, float]] = []
        self._hour_us = 0
        self._accrued = 0.0
        self._opening_index = 0.0

    def add(self, ts_us: int, interest_8h: float, index_price: float) -> None:
        hour_us = ts_us - ts_us % HOUR_US
        if self.points:
            last_us, last_interest, last_index = self.points[-1]
            self._accrued += last_interest * (ts_us - last_us) / (8 * HOUR_US)
            if hour_us != self._hour_us:
                self.hours.append(
                    FundingHour(
                        ts_us=hour_us,
                        interest_8h=last_interest,
                        interest_1h=self._accrued,
                        index_price=last_index,
                        prev_index_price=self._opening_index,
                    )
                )
                del self.hours[:-BARS_MAX]
                self._accrued, self._opening_index = 0.0, index_price
        else:
            self._opening_index = index_price
        self._hour_us = hour_us
        self.points.append((ts_us, interest_8h, index_price))
        del self.points[:-BARS_MAX]


class History:
    """Bars and rates by name."""

    def __init__(self) -> None:
        self._trades: dict[str, _Track] = {}
        self._indices: dict[str, _Track] = {}
        self._vol_minutes: dict[str, _Track] = {}
        self._vol_seconds: dict[str, _Track] = {}
        self._funding: dict[str, _Funding] = {}

    def traded(self, trade: PublicTrade, cost: float) -> Bar:
        """One print; returns its minute's bar."""
        track = self._trades.setdefault(trade.instrument, _Track(MINUTE_US))
        return track.add(trade.ts_us, trade.price_e8 / E8, trade.amount_e8 / E8, cost)

    def index_moved(self, index_name: str, price: float, ts_us: int) -> None:
        """One price of one index."""
        self._indices.setdefault(index_name, _Track(MINUTE_US)).add(ts_us, price)

    def volatility_moved(self, index_name: str, percent: float, ts_us: int) -> None:
        """One value of one volatility index."""
        self._vol_minutes.setdefault(index_name, _Track(MINUTE_US)).add(ts_us, percent)
        self._vol_seconds.setdefault(index_name, _Track(SECOND_US)).add(ts_us, percent)

    def funding_moved(
        self, instrument: str, interest_8h: float, index_price: float, ts_us: int
    ) -> None:
        """One funding rate of one perpetual."""
        self._funding.setdefault(instrument, _Funding()).add(ts_us, interest_8h, index_price)

    def trade_bars(self, instrument: str, start_us: int, end_us: int, span_us: int) -> list[Bar]:
        """Bars of one instrument without holes: an empty span repeats the last close."""
        track = self._trades.get(instrument)
        bars = track.bars(start_us, end_us, span_us) if track is not None else []
        whole: list[Bar] = []
        for bar in bars:
            while whole and whole[-1].start_us + span_us < bar.start_us:
                close = whole[-1].close
                whole.append(Bar(whole[-1].start_us + span_us, close, close, close, close))
                if len(whole) > BARS_MAX:
                    break
            whole.append(bar)
        return whole[-BARS_MAX:]

    def index_bars(self, index_name: str, start_us: int, end_us: int, span_us: int) -> list[Bar]:
        """Bars of one index."""
        track = self._indices.get(index_name)
        return track.bars(start_us, end_us, span_us) if track is not None else []

    def volatility_bars(
        self, index_name: str, start_us: int, end_us: int, span_us: int
    ) -> list[Bar]:
        """Bars of one volatility index; seconds are kept for less time than minutes."""
        table = self._vol_minutes if span_us >= MINUTE_US else self._vol_seconds
        track = table.get(index_name)
        return track.bars(start_us, end_us, span_us) if track is not None else []

    def index_range(self, index_name: str, now_us: int) -> tuple[float, float, float] | None:
        """(change, high, low) of one index over the last day."""
        bars = self.index_bars(index_name, now_us - DAY_US, now_us, MINUTE_US)
        if not bars:
            return None
        return (
            bars[-1].close - bars[0].open,
            max(bar.high for bar in bars),
            min(bar.low for bar in bars),
        )

    def realised_volatility(self, index_name: str, now_us: int) -> list[tuple[int, float]]:
        """(hour_us, percent a year) from minute closes, for every whole hour that was seen."""
        bars = self.index_bars(index_name, 0, now_us, MINUTE_US)
        hours: OrderedDict[int, list[float]] = OrderedDict()
        for earlier, later in itertools.pairwise(bars):
            hour_us = later.start_us - later.start_us % HOUR_US
            step = math.log(later.close / earlier.close)
            hours.setdefault(hour_us, []).append(step)
        return [
            (hour_us, 100.0 * math.sqrt(math.fsum(s * s for s in steps) * HOURS_PER_YEAR))
            for hour_us, steps in hours.items()
            if len(steps) >= MINUTES_PER_HOUR
        ]

    def funding_hours(self, instrument: str, start_us: int, end_us: int) -> list[FundingHour]:
        """Whole hours of funding within bounds, oldest first."""
        track = self._funding.get(instrument)
        hours = track.hours if track is not None else []
        return [hour for hour in hours if start_us <= hour.ts_us <= end_us]

    def funding_points(
        self, instrument: str, start_us: int, end_us: int
    ) -> list[tuple[int, float, float]]:
        """(ts_us, interest_8h, index price) within bounds, oldest first."""
        track = self._funding.get(instrument)
        points = track.points if track is not None else []
        return [point for point in points if start_us <= point[0] <= end_us]

    def funding_sum(self, instrument: str, start_us: int, end_us: int) -> float:
        """Interest accrued between two moments, as far as the venue saw it."""
        points = self.funding_points(instrument, start_us, end_us)
        accrued = 0.0
        for (start, interest, _), (end, _, _) in itertools.pairwise(points):
            accrued += interest * (end - start) / (8 * HOUR_US)
        return accrued
