"""What a control is made of: where it acts, what it does, how it is lifted, what it looks at.

A row of a table is all there is to a control: its probe reads one sample of ages and values and
says, for each place of its level, whether the condition holds now. Memory (when it tripped, when it
may clear) is the breaker's and the same for all rows, so a new control is a new row. Probes are
written so that NaN trips.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum, IntEnum

import msgspec

from mm_daemon.domain.params import BreakerParams
from mm_daemon.domain.permission import PERMISSION_NONE, PRESETS, TASKS_NONE, Mask
from mm_daemon.domain.units import NS_PER_MS, NS_PER_S


class Level(Enum):
    """Where a control acts; each place of the level trips by itself."""

    INSTRUMENT = "instrument"
    EXPIRY = "expiry"
    UNDERLYING = "underlying"
    VENUE = "venue"
    FIRM = "firm"


class Action(Enum):
    """What a trip does. Those from HALT_QUOTING on narrow the latch where a person must lift it:
    of the whole daemon, or of the underlying they are about."""

    REFUSE = "refuse"
    """The order or side does not leave; of what rests, it is pulled."""
    CANCEL = "cancel"
    PAGE = "page"
    """A person is called; nothing else changes."""
    HEDGE = "hedge"
    """Hedged with its own future, by the hedger; quoting goes on."""
    SLOW = "slow"
    """A quote moves only for a larger gain."""
    WIDEN = "widen"
    FALL_BACK = "fall_back"
    """Use the analytic policy instead of the models, and quote wider."""
    PULL_ADDING = "pull_adding"
    """Pull the sides that would ask for more margin; those that close what is held stay."""
    PULL_SIDE = "pull_side"
    """Pull bids or asks only; for pairs of (buy, sell) places."""
    PULL = "pull"
    """Pull the dependent quotes and place none; nothing is latched."""
    FREEZE = "freeze"
    """Pull, and hold hedges back too: the price they would be made at is in doubt."""
    HALT_QUOTING = "halt_quoting"
    CANCEL_ALL = "cancel_all"
    HEDGE_ONLY = "hedge_only"
    FLATTEN = "flatten"
    HARD_STOP = "hard_stop"
    HANDS_OFF = "hands_off"
    """Nothing leaves any more, and nothing is swept: what rests may be another instance's."""

    @property
    def mask(self) -> Mask | None:
        if self is Action.HANDS_OFF:
            return Mask(PERMISSION_NONE, TASKS_NONE)
        return PRESETS.get(self.value)


class Reset(IntEnum):
    """What lifts a trip."""

    AUTO = 0
    """The condition has been clear for the hysteresis time."""
    OPERATOR = 1
    TWO_PERSONS = 2
    """Two people together; the reason of its latch says so."""


class UnderlyingSample(msgspec.Struct, frozen=True, kw_only=True):
    """One underlying now. Ages are enormous where a thing was never seen."""

    index_age_ns: int
    index_divergence_bps: float
    """Largest difference between our sources of the spot: index, perpetual, parity."""
    surface_age_ns: int
    surface_rms_vp: float
    model_age_ns: int
    """Of the newest good answer of the model that is worst off; 0 where no model is in use."""
    model_faults: int
    """Answers of the models that were no use lately: failed, late, mostly NaN or out of range."""
    theo_outside: tuple[float, ...]
    """Share of core options whose theo is outside the market, by expiry of the catalogue."""
    expiry_delta_coin: tuple[float, ...]
    """Of what is held, by expiry that has a future of its own; 0 for others."""
    expiry_delta_coin_max: float
    own_loss_day_usd: float
    """Of the settlement currency, as are the next two."""
    own_loss_hour_usd: float
    own_drawdown_usd: float
    hedge_escalation: int
    """0 none, 1 widen, 2 stop, 3 page."""
    fills_lots: int
    """In the fill window, by `FillWindow`; as are the next two."""
    fills_delta_coin: float
    fills_vega_usd: float
    fills_drift: float
    """How far our own fills of one option walked its price, over what is allowed."""
    messages_per_fill: float
    is_pulled_by_venue: bool
    """Its own protection has pulled our quotes just now, or for a time that is not over."""
    streak: int
    """Signed length of the run of fills on one side over strikes."""
    unknown_orders: int
    unknown_age_ns: int
    margin_use: float
    """Initial margin as the venue states it, over the margin balance."""
    margin_stop_ratio: float


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the slow controls look at, at one moment."""

    underlyings: tuple[UnderlyingSample, ...]
    """In the order of the parameters."""
    rejects_10s: int
    """Refused by the venue."""
    size_refusals_10s: int
    """Refused here for their size."""
    clock_offset_ns: int
    """Wall clock less what the monotonic clock makes of it."""
    venue_offset_ns: int
    """Our clock less the venue's stamps, of the quickest message lately; 0 where none came."""
    loop_lag_ns: int
    loop_lag_held_ns: int
    """What 99 % of the loop's turns were late by at most, at its lowest in the last 2 s."""
    journal_lag_ns: int
    journal_failed: bool
    permit_age_ns: int
    """Since the last renewal that a lost permit may count from; 0 where no lease is required."""
    feed_silence_ns: int
    sessions_ready: bool
    settings_confirmed: bool
    trading_lost_ns: int
    """For how long the trading session has not been ready."""
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
    held_s_min: float = 0.0
    """A person may lift it only this long after the condition was last seen."""
    trips_per_hour_max: int = 0
    """From this many trips within an hour on, two people must lift it; 0 = never."""

    @property
    def is_latched(self) -> bool:
        """Whether a trip narrows the latch: a whole daemon's always, an underlying's where only a
        person lifts it, because what clears by itself is kept here."""
        if self.action.mask is None:
            return False
        is_wide = self.level in (Level.VENUE, Level.FIRM)
        return is_wide or (self.level is Level.UNDERLYING and self.reset is not Reset.AUTO)


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


class StandingRow(msgspec.Struct, frozen=True):
    """A row for a control that stands in the way of something and remembers nothing."""

    id: str
    trigger: str
    level: Level
    action: Action
    place: str
    """The module that holds it."""
    counted: str = "mm_risk_refusals_total"
    """Where its refusals are counted, by number; or where they are written down."""


def number_of(control_id: str) -> str:
    """The control of the published table that a row is part of: C14.book belongs to C14."""
    return control_id.partition(".")[0]


def each(probe: Callable[[UnderlyingSample, BreakerParams], bool]) -> Probe:
    """A probe by underlying."""
    return lambda sample, limits: [probe(one, limits) for one in sample.underlyings]


def one(probe: Callable[[Sample, BreakerParams], bool]) -> Probe:
    """A probe of a level with a single place."""
    return lambda sample, limits: [probe(sample, limits)]


def within_ms(age_ns: int, limit_ms: int) -> bool:
    return 0 <= age_ns <= limit_ms * NS_PER_MS


def within_s(age_ns: int, limit_s: float) -> bool:
    return 0 <= age_ns <= limit_s * NS_PER_S
