"""The state controls as a table: what trips each, at which level, what it does, how it resets.

A row is all there is to a control: its probe reads one sample of ages and values and says, for each
place of its level, whether the condition holds now. Memory (when it tripped, when it may clear) is
the breaker's and the same for all rows, so a new control is a new row. Probes are written so that
NaN trips.

The pre-trade controls (C1, C2, C4 to C6, C8, C9, C31 to C33) belong to the gate, C34 to the hedger.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum, IntEnum

import msgspec

from mm_daemon.domain.params import BreakerParams
from mm_daemon.domain.permission import PRESETS, Mask
from mm_daemon.domain.units import NS_PER_MS, NS_PER_S

COUNTER = "mm_breaker_trips_total"
"""The metric of every row, labelled with `number_of` its id."""


class Level(Enum):
    """Where a control acts; each place of the level trips by itself."""

    INSTRUMENT = "instrument"
    EXPIRY = "expiry"
    UNDERLYING = "underlying"
    VENUE = "venue"
    FIRM = "firm"


class Action(Enum):
    """What a trip does. The last five narrow the latch at venue and firm level."""

    WIDEN = "widen"
    FALL_BACK = "fall_back"
    """Use the analytic policy instead of the models."""
    PULL_SIDE = "pull_side"
    """Pull bids or asks only; for pairs of (buy, sell) places."""
    PULL = "pull"
    """Pull the dependent quotes and place none; nothing is latched."""
    HALT_QUOTING = "halt_quoting"
    CANCEL_ALL = "cancel_all"
    HEDGE_ONLY = "hedge_only"
    FLATTEN = "flatten"
    HARD_STOP = "hard_stop"

    @property
    def mask(self) -> Mask | None:
        return PRESETS.get(self.value)


class Reset(IntEnum):
    """What lifts a trip."""

    AUTO = 0
    """The condition has been clear for the hysteresis time."""
    OPERATOR = 1
    TWO_PERSONS = 2
    """An operator's reset that two people signed; here the same as one, told apart in the view."""


class UnderlyingSample(msgspec.Struct, frozen=True):
    """One underlying now. Ages are enormous where a thing was never seen."""

    index_age_ns: int
    index_divergence_bps: float
    """Largest difference between our sources of the spot: index, perpetual, parity."""
    surface_age_ns: int
    surface_rms_vp: float
    model_age_ns: int
    model_faults: int
    """Answers of the models refused lately: non-finite, out of range, late, drifted."""
    theo_outside: tuple[float, ...]
    """Share of core options whose theo is outside the market, by expiry of the catalogue."""
    hedge_escalation: int
    """0 none, 1 widen, 2 stop, 3 page."""
    fills_lots: int
    """In the fill window, by `FillWindow`; as are the next two."""
    fills_delta_coin: float
    fills_vega_usd: float
    streak: int
    """Signed length of the run of fills on one side over strikes."""
    unknown_orders: int
    unknown_age_ns: int
    margin_use: float


class Sample(msgspec.Struct, frozen=True):
    """Everything the slow controls look at, at one moment."""

    underlyings: tuple[UnderlyingSample, ...]
    """In the order of the parameters."""
    rejects_10s: int
    clock_offset_ns: int
    loop_lag_ns: int
    journal_lag_ns: int
    journal_failed: bool
    permit_age_ns: int
    """Since the permit was last known to run; what is past its deadline counts as age."""
    feed_silence_ns: int
    sessions_ready: bool
    settings_confirmed: bool
    reconcile_broken: bool
    reconcile_broken_ns: int
    """For how long it has been broken."""
    foreign_orders: int
    newer_epoch_seen: bool
    loss_day_usd: float
    loss_hour_usd: float
    drawdown_usd: float
    margin_reduce_ratios: tuple[float, ...]
    """By underlying, from its limits."""


Probe = Callable[[Sample, BreakerParams], Sequence[bool]]


class Control(msgspec.Struct, frozen=True):
    """One row. `probe` gives one bool for each place of the level."""

    id: str
    trigger: str
    level: Level
    action: Action
    reset: Reset
    probe: Probe
    hysteresis_s: float | None = None
    """None: the configured hysteresis."""


def number_of(control_id: str) -> str:
    """The control of the published table that a row is part of: C14.book belongs to C14."""
    return control_id.partition(".")[0]


def _each(probe: Callable[[UnderlyingSample, BreakerParams], bool]) -> Probe:
    return lambda sample, limits: [probe(one, limits) for one in sample.underlyings]


def _one(probe: Callable[[Sample, BreakerParams], bool]) -> Probe:
    return lambda sample, limits: [probe(sample, limits)]


def _within_ms(age_ns: int, limit_ms: int) -> bool:
    return 0 <= age_ns <= limit_ms * NS_PER_MS


def _within_s(age_ns: int, limit_s: float) -> bool:
    return 0 <= age_ns <= limit_s * NS_PER_S


def _outside(sample: Sample, limit: float) -> list[bool]:
    return [not share <= limit for one in sample.underlyings for share in one.theo_outside]


def _sides(sample: Sample, limits: BreakerParams) -> list[bool]:
    """(buy, sell) by underlying: a run of our buys pulls the bids."""
    tripped: list[bool] = []
    for one in sample.underlyings:
        tripped.append(one.streak >= limits.same_side_streak_max)
        tripped.append(-one.streak >= limits.same_side_streak_max)
    return tripped


def _margin(sample: Sample, limits: BreakerParams) -> list[bool]:
    pairs = zip(sample.underlyings, sample.margin_reduce_ratios, strict=True)
    return [any(not one.margin_use <= ratio for one, ratio in pairs)]


RECONCILE_BROKEN_S = 30.0
MODEL_FAULTS_STOP = 10
INDEX_CLEAR_S = 60.0

CONTROLS: tuple[Control, ...] = (
    Control(
        "C5",
        "initial margin over the reduce ratio of the margin balance",
        Level.VENUE,
        Action.HEDGE_ONLY,
        Reset.AUTO,
        _margin,
    ),
    Control(
        "C11",
        "loss of the day, of the rolling hour, or from the peak over its limit; NaN is a breach",
        Level.FIRM,
        Action.HEDGE_ONLY,
        Reset.TWO_PERSONS,
        _one(
            lambda s, p: (
                not (
                    s.loss_day_usd <= p.loss_day_usd_max
                    and s.loss_hour_usd <= p.loss_hour_usd_max
                    and s.drawdown_usd <= p.drawdown_usd_max
                )
            )
        ),
    ),
    Control(
        "C12",
        "lots, |delta| or |vega| filled in the window over its limit (own MMP twin)",
        Level.UNDERLYING,
        Action.HALT_QUOTING,
        Reset.OPERATOR,
        _each(
            lambda u, p: (
                not (
                    u.fills_lots <= p.fills_window_lots_max
                    and abs(u.fills_delta_coin) <= p.fills_window_delta_coin_max
                    and abs(u.fills_vega_usd) <= p.fills_window_vega_usd_max
                )
            )
        ),
    ),
    Control(
        "C12.streak",
        "a run of fills on one side over strikes",
        Level.UNDERLYING,
        Action.PULL_SIDE,
        Reset.AUTO,
        _sides,
    ),
    Control(
        "C13",
        "venue rejects in ten seconds over the limit",
        Level.VENUE,
        Action.HALT_QUOTING,
        Reset.OPERATOR,
        _one(lambda s, p: s.rejects_10s > p.rejects_per_10s_max),
    ),
    Control(
        "C14.index",
        "index price too old",
        Level.UNDERLYING,
        Action.PULL,
        Reset.AUTO,
        _each(lambda u, p: not _within_ms(u.index_age_ns, p.index_age_ms_max)),
    ),
    Control(
        "C14.surface",
        "vol surface too old or too rough",
        Level.UNDERLYING,
        Action.PULL,
        Reset.AUTO,
        _each(
            lambda u, p: (
                not (
                    _within_s(u.surface_age_ns, p.surface_age_s_max)
                    and u.surface_rms_vp <= p.surface_rms_vp_max
                )
            )
        ),
        hysteresis_s=0.0,
    ),
    Control(
        "C14.theo_widen",
        "theo outside the market on more than the widen share of core options",
        Level.EXPIRY,
        Action.WIDEN,
        Reset.AUTO,
        lambda s, p: _outside(s, p.theo_outside_widen_ratio),
    ),
    Control(
        "C14.theo_halt",
        "theo outside the market on more than the halt share of core options",
        Level.EXPIRY,
        Action.PULL,
        Reset.AUTO,
        lambda s, p: _outside(s, p.theo_outside_halt_ratio),
    ),
    Control(
        "C16",
        "sources of the spot differ by more than the limit",
        Level.UNDERLYING,
        Action.HALT_QUOTING,
        Reset.AUTO,
        _each(lambda u, p: not u.index_divergence_bps <= p.index_divergence_bps_max),
        hysteresis_s=INDEX_CLEAR_S,
    ),
    Control(
        "C17",
        "model outputs too old, or refused",
        Level.UNDERLYING,
        Action.FALL_BACK,
        Reset.AUTO,
        _each(lambda u, p: not _within_s(u.model_age_ns, p.model_age_s_max) or u.model_faults > 0),
    ),
    Control(
        "C17.repeated",
        "model outputs refused again and again",
        Level.UNDERLYING,
        Action.HALT_QUOTING,
        Reset.OPERATOR,
        _each(lambda u, p: u.model_faults >= MODEL_FAULTS_STOP),
    ),
    Control(
        "C18",
        "our clock and the venue's differ by more than the limit",
        Level.VENUE,
        Action.HALT_QUOTING,
        Reset.AUTO,
        _one(lambda s, p: not abs(s.clock_offset_ns) <= p.clock_offset_ms_max * NS_PER_MS),
    ),
    Control(
        "C19",
        "a session is not ready, its feed is silent, or a setting was not read back",
        Level.VENUE,
        Action.PULL,
        Reset.AUTO,
        _one(
            lambda s, p: (
                not (
                    s.sessions_ready
                    and s.settings_confirmed
                    and _within_ms(s.feed_silence_ns, p.feed_silence_ms_max)
                )
            )
        ),
        hysteresis_s=0.0,
    ),
    Control(
        "C20",
        "reconcile found orders, fills, positions or cash that differ",
        Level.VENUE,
        Action.HALT_QUOTING,
        Reset.AUTO,
        _one(lambda s, p: s.reconcile_broken),
        hysteresis_s=0.0,
    ),
    Control(
        "C20.lasting",
        "a break of the reconcile that lasts",
        Level.VENUE,
        Action.CANCEL_ALL,
        Reset.OPERATOR,
        _one(
            lambda s, p: (
                s.reconcile_broken and s.reconcile_broken_ns > RECONCILE_BROKEN_S * NS_PER_S
            )
        ),
    ),
    Control(
        "C21",
        "orders without a known outcome: too many, or too old",
        Level.UNDERLYING,
        Action.HALT_QUOTING,
        Reset.AUTO,
        _each(
            lambda u, p: (
                not (
                    u.unknown_orders <= p.unknown_orders_max
                    and _within_s(u.unknown_age_ns, p.unknown_age_s_max)
                )
            )
        ),
        hysteresis_s=0.0,
    ),
    Control(
        "C22",
        "loop lag over its limit",
        Level.VENUE,
        Action.HALT_QUOTING,
        Reset.AUTO,
        _one(lambda s, p: not _within_ms(s.loop_lag_ns, p.loop_lag_ms_max)),
    ),
    Control(
        "C23",
        "the journal fails or lags: nothing may be sent without it",
        Level.VENUE,
        Action.CANCEL_ALL,
        Reset.AUTO,
        _one(
            lambda s, p: s.journal_failed or not _within_ms(s.journal_lag_ns, p.journal_lag_ms_max)
        ),
    ),
    Control(
        "C24.quote",
        "permit older than T1",
        Level.VENUE,
        Action.PULL,
        Reset.AUTO,
        _one(lambda s, p: not _within_s(s.permit_age_ns, p.permit_quote_age_s_max)),
        hysteresis_s=0.0,
    ),
    Control(
        "C24.order",
        "permit older than T2",
        Level.VENUE,
        Action.CANCEL_ALL,
        Reset.AUTO,
        _one(lambda s, p: not _within_s(s.permit_age_ns, p.permit_order_age_s_max)),
    ),
    Control(
        "C25",
        "an order of a newer epoch of ours is at the venue: we have lost the fence",
        Level.FIRM,
        Action.HARD_STOP,
        Reset.TWO_PERSONS,
        _one(lambda s, p: s.newer_epoch_seen),
    ),
    Control(
        "C28.widen",
        "hedging fails or delta stays out of its band",
        Level.UNDERLYING,
        Action.WIDEN,
        Reset.AUTO,
        _each(lambda u, p: u.hedge_escalation >= 1),
        hysteresis_s=0.0,
    ),
    Control(
        "C28",
        "hedging keeps failing or delta stays out of its band for long",
        Level.UNDERLYING,
        Action.HALT_QUOTING,
        Reset.OPERATOR,
        _each(lambda u, p: u.hedge_escalation >= 2),
    ),
    Control(
        "C30",
        "open orders on our account that are not ours",
        Level.VENUE,
        Action.HALT_QUOTING,
        Reset.OPERATOR,
        _one(lambda s, p: s.foreign_orders > 0),
    ),
)


class QuickControl(IntEnum):
    """Controls by instrument, judged in one kernel pass each flush; the value is their bit."""

    REPEAT = 1
    BOOK_AGE = 2
    BOOK_INVALID = 4
    PRICE_MOVED = 8
    CLOSED = 16


class QuickRow(msgspec.Struct, frozen=True):
    """A row of the table for a control that the kernel judges."""

    id: str
    trigger: str
    action: Action
    reset: Reset
    bit: QuickControl


QUICK_CONTROLS: tuple[QuickRow, ...] = (
    QuickRow(
        "C7",
        "the same side of one instrument filled again and again without a person's word",
        Action.HALT_QUOTING,
        Reset.OPERATOR,
        QuickControl.REPEAT,
    ),
    QuickRow(
        "C14.book",
        "no word on the instrument for too long",
        Action.PULL,
        Reset.AUTO,
        QuickControl.BOOK_AGE,
    ),
    QuickRow(
        "C14.price",
        "theo has moved by too large a share of the edge since the quote was sent, or is gone",
        Action.PULL,
        Reset.AUTO,
        QuickControl.PRICE_MOVED,
    ),
    QuickRow(
        "C15",
        "book crossed, gapped, garbage or lost",
        Action.PULL,
        Reset.AUTO,
        QuickControl.BOOK_INVALID,
    ),
    QuickRow(
        "C27",
        "instrument not open, index locked, or too near its expiry",
        Action.PULL,
        Reset.AUTO,
        QuickControl.CLOSED,
    ),
)
