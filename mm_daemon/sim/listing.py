"""Which instruments the simulated venue lists, and when: dailies, weeklies, months and quarters
around the spot.

Rules, not a recorded list, so that the venue can start at any instant and roll for ever: expiries
at 08:00 UTC for the next four days, the next Fridays, three month ends and four quarter ends;
strikes on a ladder that coarsens away from the spot and that for dailies widens with age, as
recorded. Also a perpetual an underlying and a dated future for each weekly or later expiry. It
opens nothing by itself: the caller lists what is returned.
"""

from __future__ import annotations

import calendar
import math
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from mm_daemon.sim.spec import (
    DAY_US,
    E8,
    HOUR_US,
    PERPETUAL_EXPIRY_US,
    SETTLEMENT_TIME_OF_DAY_US,
    InstrumentSpec,
    Kind,
    OptionType,
    TickStep,
    next_settlement_us,
)

DAILY_COUNT: Final = 4
WEEKLY_COUNT: Final = 3
WEEKLY_AHEAD_DAYS: Final = 22
"""A fourth Friday is listed once it is this near, just before the first one expires."""
MONTH_COUNT: Final = 3
QUARTER_COUNT: Final = 4
FRIDAY: Final = 4
QUARTER_MONTHS: Final = (3, 6, 9, 12)

DAY, WEEK, MONTH = "day", "week", "month"
"""The venue's settlement periods; quarters too are called month."""

DAILY_NEW_EACH_SIDE: Final = 4
DAILY_OLD_EACH_SIDE: Final = 10
DAILY_OUTER_EACH_SIDE: Final = 4
DAILY_LIFE_DAYS: Final = 4.0

EXTRA_STRIKES_EACH_SIDE: Final = 6

SPEED_BUMP_US: Final = 3_000


class Rung(msgspec.Struct, frozen=True):
    """Multiples of `step` between spot x (1 - below) and spot x (1 + above)."""

    step: float
    below: float
    above: float


Ladder = tuple[Rung, ...]


class UnderlyingTerms(msgspec.Struct, frozen=True, kw_only=True):
    """Contract terms and strike ladders of one underlying, in the venue's units."""

    name: str
    daily_steps: tuple[float, float]
    """Strike step near the spot, and of the outer strikes."""
    weekly: Ladder
    month_front: Ladder
    quarter_front: Ladder
    month_back: Ladder
    quarters_back: tuple[Ladder, ...]
    option_lot: float
    option_block: float
    perpetual_tick: float
    future_tick: float
    future_lot_usd: int
    future_block_usd: int

    @property
    def index_name(self) -> str:
        return f"{self.name.lower()}_usd"


BTC_TERMS: Final = UnderlyingTerms(
    name="BTC",
    daily_steps=(1_000.0, 2_000.0),
    weekly=(Rung(1_000.0, 0.20, 0.22), Rung(2_000.0, 0.28, 0.36), Rung(5_000.0, 0.28, 0.48)),
    month_front=(Rung(1_000.0, 0.16, 0.16), Rung(2_000.0, 0.34, 0.42), Rung(5_000.0, 0.50, 1.00),
        Rung(10_000.0, 0.60, 1.40)),
    quarter_front=(Rung(1_000.0, 0.12, 0.12), Rung(2_000.0, 0.38, 0.50), Rung(5_000.0, 0.55, 1.0),
                   Rung(10_000.0, 0.60, 1.75)),
    month_back=(Rung(2_000.0, 0.24, 0.25), Rung(5_000.0, 0.45, 0.60), Rung(10_000.0, 0.50, 0.95)),
    quarters_back=(
        (Rung(2_500.0, 0.20, 0.20), Rung(5_000.0, 0.60, 1.3), Rung(10_000.0, 0.70, 1.7)),
        (Rung(5_000.0, 0.60, 1.45), Rung(10_000.0, 0.75, 2.2)),
        (Rung(5_000.0, 0.60, 1.2), Rung(10_000.0, 0.72, 2.4)),
    ),
    option_lot=0.1,
    option_block=25.0,
    perpetual_tick=0.5,
    future_tick=2.5,
    future_lot_usd=10,
    future_block_usd=200_000,
)  # fmt: skip

ETH_TERMS: Final = UnderlyingTerms(
    name="ETH",
    daily_steps=(25.0, 100.0),
    weekly=(Rung(50.0, 0.22, 0.24), Rung(100.0, 0.55, 1.0),
            Rung(200.0, 0.55, 1.5)),
    month_front=(Rung(50.0, 0.14, 0.14), Rung(100.0, 0.64, 1.10), Rung(200.0, 0.64, 1.6),
                 Rung(500.0, 0.76, 3.6)),
    quarter_front=(Rung(50.0, 0.10, 0.10), Rung(100.0, 0.45, 0.85), Rung(200.0, 0.76, 2.4),
                   Rung(500.0, 0.76, 4.0), Rung(1_000.0, 0.76, 5.6)),
    month_back=(Rung(100.0, 0.44, 0.65), Rung(200.0, 0.44, 0.85), Rung(500.0, 0.50, 1.5)),
    quarters_back=(
        (Rung(100.0, 0.25, 0.25), Rung(200.0, 0.62, 1.9), Rung(500.0, 0.75, 3.4),
         Rung(1_000.0, 0.75, 5.6)),
        (Rung(100.0, 0.20, 0.20), Rung(200.0, 0.55, 1.9), Rung(500.0, 0.75, 3.4),
         Rung(1_000.0, 0.75, 6.2)),
        (Rung(200.0, 0.55, 1.6), Rung(500.0, 0.75, 2.6), Rung(1_000.0, 0.75, 4.2)),
    ),
    option_lot=1.0,
    option_block=250.0,
    perpetual_tick=0.05,
    future_tick=0.25,
    future_lot_usd=1,
    future_block_usd=100_000,
)  # fmt: skip

TERMS: Final = {"BTC": BTC_TERMS, "ETH": ETH_TERMS}


class Expiry(msgspec.Struct, frozen=True, order=True):
    """One listed expiry and how it settles; `is_extra` marks one that a scenario asked for."""

    expiry_us: int
    period: str
    is_extra: bool = False


class ListingBook:
    """Remembers what has been listed and answers what is missing now."""

    __slots__ = ("_extra", "_listed", "_next_id", "_terms")

    def __init__(
        self, *, terms: tuple[UnderlyingTerms, ...], extra_expiries_us: tuple[int, ...] = ()
    ) -> None:
        self._terms = terms
        self._extra = extra_expiries_us
        self._listed: dict[str, None] = {}
        self._next_id = 1

    def missing(self, now_us: int, spot: dict[str, float]) -> list[InstrumentSpec]:
        """Everything that the rules list at `now_us` and that has not been returned before."""
        found = []
        for terms in self._terms:
            specs = [_perpetual(terms, now_us)]
            for expiry in expiries(now_us, self._extra):
                if has_future(expiry):
                    specs.append(_future(terms, expiry, now_us))
                strikes = strike_ladder(terms, expiry, now_us, spot[terms.name])
                specs.extend(
                    _option(terms, expiry, strike, kind, now_us)
                    for strike in strikes
                    for kind in (OptionType.CALL, OptionType.PUT)
                )
            for spec in specs:
                if spec.name in self._listed:
                    continue
                self._listed[spec.name] = None
                found.append(msgspec.structs.replace(spec, instrument_id=self._next_id))
                self._next_id += 1
        return found


def has_future(expiry: Expiry) -> bool:
    """Dailies have none: their options refer to a synthetic underlying."""
    return expiry.period != DAY


def expiries(now_us: int, extra_us: tuple[int, ...] = ()) -> list[Expiry]:
    """What is listed at `now_us`, by time. A date has one expiry: an extra one displaces the
    regular.
    """
    first = next_settlement_us(now_us)
    found: dict[str, Expiry] = {}
    for expiry_us in extra_us:
        if expiry_us > now_us:
            found[date_code(expiry_us)] = Expiry(expiry_us, DAY, is_extra=True)
    monthly = _month_ends(now_us)
    weekly = [
        day
        for day in (first + k * DAY_US for k in range(WEEKLY_AHEAD_DAYS + 7))
        if _utc(day).weekday() == FRIDAY
    ]
    within = [day for day in weekly if day - now_us <= WEEKLY_AHEAD_DAYS * DAY_US]
    weekly = weekly[: max(WEEKLY_COUNT, len(within))]
    dailies = [first + k * DAY_US for k in range(DAILY_COUNT)]
    for days, period in ((monthly, MONTH), (weekly, WEEK), (dailies, DAY)):
        for day in days:
            found.setdefault(date_code(day), Expiry(day, period))
    return sorted(found.values())


def strike_ladder(terms: UnderlyingTerms, expiry: Expiry, now_us: int, spot: float) -> list[float]:
    """Strikes of one expiry at this spot; the listing keeps those it once returned."""
    days = (expiry.expiry_us - now_us) / DAY_US
    if expiry.is_extra:
        return _around(terms.daily_steps[0], EXTRA_STRIKES_EACH_SIDE, spot)
    if expiry.period == DAY:
        return _daily_strikes(terms, days, spot)
    if expiry.period == WEEK:
        return _on_ladder(terms.weekly, spot)
    months = _month_ends(now_us)
    quarters = [day for day in months if _utc(day).month in QUARTER_MONTHS]
    if expiry.expiry_us not in quarters:
        near = expiry.expiry_us == months[0]
        return _on_ladder(terms.month_front if near else terms.month_back, spot)
    rank = quarters.index(expiry.expiry_us)
    if rank == 0:
        return _on_ladder(terms.quarter_front, spot)
    return _on_ladder(terms.quarters_back[min(rank, len(terms.quarters_back)) - 1], spot)


def date_code(expiry_us: int) -> str:
    """The venue's date in names: 7AUG26, 27MAR26."""
    day = _utc(expiry_us)
    return f"{day.day}{calendar.month_abbr[day.month].upper()}{day.year % 100:02d}"


def synthetic_name(underlying: str, expiry_us: int) -> str:
    """What `underlying_index` says where an expiry has no listed future."""
    return f"SYN.{underlying}-{date_code(expiry_us)}"


def _utc(time_us: int) -> datetime:
    return datetime.fromtimestamp(time_us // 1_000_000, UTC)


def _month_ends(now_us: int) -> list[int]:
    """Last Fridays still ahead: of the next three months, and of the next four quarters."""
    start = _utc(now_us)
    ends = []
    for ahead in range(3 * QUARTER_COUNT + MONTH_COUNT):
        year, month = divmod(start.year * 12 + start.month - 1 + ahead, 12)
        last = datetime(year, month + 1, calendar.monthrange(year, month + 1)[1], tzinfo=UTC)
        last -= timedelta(days=(last.weekday() - FRIDAY) % 7)
        end_us = int(last.timestamp()) * 1_000_000 + SETTLEMENT_TIME_OF_DAY_US
        if end_us > now_us:
            ends.append(end_us)
    quarters = [end for end in ends if _utc(end).month in QUARTER_MONTHS][:QUARTER_COUNT]
    return sorted({*ends[:MONTH_COUNT], *quarters})


def _around(step: float, each_side: int, spot: float) -> list[float]:
    centre = round(spot / step)
    return [(centre + k) * step for k in range(-each_side, each_side + 1) if centre + k > 0]


def _daily_strikes(terms: UnderlyingTerms, days: float, spot: float) -> list[float]:
    """Nine strikes when new, about 28 on the last day; the outer ones ever farther apart."""
    age = min(max(1.0 - days / DAILY_LIFE_DAYS, 0.0), 1.0)
    near = DAILY_NEW_EACH_SIDE + round(age * (DAILY_OLD_EACH_SIDE - DAILY_NEW_EACH_SIDE))
    far = math.ceil(DAILY_OUTER_EACH_SIDE * age)
    gaps = [(k + 1) * (k + 2) // 2 - 1 for k in range(far)]
    fine, coarse = terms.daily_steps
    strikes = _around(fine, near, spot)
    below = math.floor(strikes[0] / coarse - 1e-9) * coarse
    above = math.ceil(strikes[-1] / coarse + 1e-9) * coarse
    outer = [below - gap * coarse for gap in gaps] + [above + gap * coarse for gap in gaps]
    return sorted({*strikes, *(k for k in outer if k > 0.0)})


def _on_ladder(ladder: Ladder, spot: float) -> list[float]:
    strikes: dict[float, None] = {}
    for rung in ladder:
        low = math.ceil(spot * (1.0 - rung.below) / rung.step)
        high = math.floor(spot * (1.0 + rung.above) / rung.step)
        strikes.update(dict.fromkeys(k * rung.step for k in range(max(low, 1), high + 1)))
    return sorted(strikes)


def _e8(value: float) -> int:
    return round(value * E8)


def _option(
    terms: UnderlyingTerms, expiry: Expiry, strike: float, kind: OptionType, now_us: int
) -> InstrumentSpec:
    side = "C" if kind is OptionType.CALL else "P"
    lot = _e8(terms.option_lot)
    return InstrumentSpec(
        name=f"{terms.name}-{date_code(expiry.expiry_us)}-{round(strike)}-{side}",
        instrument_id=0,
        kind=Kind.OPTION,
        currency=terms.name,
        base_currency=terms.name,
        quote_currency=terms.name,
        counter_currency="USD",
        settlement_currency=terms.name,
        price_index=terms.index_name,
        is_inverse=True,
        settlement_period=expiry.period,
        creation_us=_created_us(expiry, now_us),
        expiry_us=expiry.expiry_us,
        tick_size_e8=10_000,
        tick_steps=(TickStep(above_price_e8=500_000, tick_size_e8=50_000),),
        min_trade_amount_e8=lot,
        amount_step_e8=lot,
        contract_size_e8=E8,
        strike_e8=_e8(strike),
        option_type=kind,
        maker_commission_e8=30_000,
        taker_commission_e8=30_000,
        block_trade_commission_e8=30_000,
        block_trade_tick_size_e8=10_000,
        block_trade_min_trade_amount_e8=_e8(terms.option_block),
        delivery_commission_e8=15_000,
        band_ratio_e8=E8,
        band_abs_e8=_e8(0.05),
        speed_bump_us=SPEED_BUMP_US,
    )


def _perpetual(terms: UnderlyingTerms, now_us: int) -> InstrumentSpec:
    return _futures_spec(
        terms,
        name=f"{terms.name}-PERPETUAL",
        period="perpetual",
        expiry_us=PERPETUAL_EXPIRY_US,
        tick=terms.perpetual_tick,
        created_us=now_us,
    )


def _future(terms: UnderlyingTerms, expiry: Expiry, now_us: int) -> InstrumentSpec:
    return _futures_spec(
        terms,
        name=f"{terms.name}-{date_code(expiry.expiry_us)}",
        period=expiry.period,
        expiry_us=expiry.expiry_us,
        tick=terms.future_tick,
        created_us=_created_us(expiry, now_us),
    )


def _futures_spec(
    terms: UnderlyingTerms, *, name: str, period: str, expiry_us: int, tick: float, created_us: int
) -> InstrumentSpec:
    """An inverse future: amounts in USD, money in coin."""
    lot = terms.future_lot_usd * E8
    is_perpetual = period == "perpetual"
    return InstrumentSpec(
        name=name,
        instrument_id=0,
        kind=Kind.FUTURE,
        currency=terms.name,
        base_currency=terms.name,
        quote_currency="USD",
        counter_currency="USD",
        settlement_currency=terms.name,
        price_index=terms.index_name,
        is_inverse=True,
        settlement_period=period,
        creation_us=created_us,
        expiry_us=expiry_us,
        tick_size_e8=_e8(tick),
        min_trade_amount_e8=lot,
        amount_step_e8=lot,
        contract_size_e8=lot,
        max_leverage=50,
        max_liquidation_commission_e8=750_000,
        maker_commission_e8=0,
        taker_commission_e8=50_000,
        block_trade_commission_e8=25_000,
        block_trade_tick_size_e8=_e8(tick),
        block_trade_min_trade_amount_e8=terms.future_block_usd * E8,
        delivery_commission_e8=0 if is_perpetual else 25_000,
        band_ratio_e8=_e8(0.05),
        band_abs_e8=0,
        speed_bump_us=0 if is_perpetual else SPEED_BUMP_US,
    )


_LIFE_US: Final = {DAY: 4 * DAY_US, WEEK: 22 * DAY_US, MONTH: 90 * DAY_US}


def _created_us(expiry: Expiry, now_us: int) -> int:
    """The listing time its period implies, never in the future; extra expiries appear an hour
    ago.
    """
    if expiry.is_extra:
        return now_us - HOUR_US
    return min(expiry.expiry_us - _LIFE_US[expiry.period], now_us)
