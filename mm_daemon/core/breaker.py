"""The state controls at work: which quotes must go, what is latched, what may come back.

Two passes. `scan` judges the controls by instrument in one kernel call, each flush: what it blocks
must be pulled in that flush. `evaluate` runs the rows of the control table on one sample, at a pace
or when something happened. Both only say what holds; pulling, cancelling and latching are done by
others, and never wait here.

A trip of level venue or firm asks for a latch under the row's id and, where its reset is automatic,
for its clearing once the condition has stayed away for the hysteresis time. A trip of an underlying
that only a person may lift asks for a latch of that underlying. All else is kept here: a latch
knows no expiries and no instruments. What only a person may lift survives a restart in the
checkpoint, and an automatic latch that outlived its process is let go when its condition is clear.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec

from mm_daemon.core.breaker_clocks import LagWindow, OffsetWindow
from mm_daemon.core.breaker_drift import DriftWindow, FillPoint
from mm_daemon.core.breaker_scan import InstrumentControls, ScanInputs, ScanResult
from mm_daemon.core.breaker_windows import (
    FillWindow,
    LossWindow,
    Lost,
    MessageWindow,
    RejectWindow,
)
from mm_daemon.core.catalog import Catalog
from mm_daemon.core.controls import CONTROLS, QUICK_CONTROLS, Action, Control, Level, Reset, Sample
from mm_daemon.domain.outputs import LatchWanted
from mm_daemon.domain.params import Params
from mm_daemon.domain.permission import TWO_PERSONS_MARK
from mm_daemon.domain.units import NS_PER_S, Ns, Side

WIDEN_FACTOR = 2.0
"""Width multiplier while a control widens."""
ANALYTIC_WIDTH = 1.5
"""Width multiplier while the analytic policy stands in for a model that cannot be trusted."""
HOLDING_NS = 2 * NS_PER_S
"""A condition that held this lately is not yet believed to be gone."""
HOUR_NS = 3_600 * NS_PER_S
TRIPS_KEPT = 8


class Trip(msgspec.Struct):
    """One place of one control."""

    is_on: bool = False
    since_ns: int = 0
    bad_ns: int = 0
    """When the condition last held."""
    is_latched: bool = False
    """A latch was asked for and not yet asked to clear."""
    trips_ns: list[int] = []
    """When it tripped within the last hour, the newest few."""


class Effects(msgspec.Struct, frozen=True):
    """What the table says should be in force now; tuples are by underlying of the parameters."""

    halted: tuple[str, ...]
    """Id of the row that keeps an underlying from quoting, empty where it may."""
    frozen: tuple[str, ...]
    """Id of the row that keeps an underlying from hedging, empty where it may."""
    width: tuple[float, ...]
    wide_expiries: tuple[tuple[int, ...], ...]
    """Expiries (ns) that are quoted wider."""
    use_analytic: tuple[bool, ...]
    is_slow: tuple[bool, ...]
    is_adding_barred: tuple[bool, ...]
    blocked_expiries: tuple[tuple[int, ...], ...]
    """Expiries (ns) that may not be quoted."""
    latches: tuple[LatchWanted, ...]
    """Changes since the last evaluation."""
    tripped: tuple[str, ...]
    """Rows that tripped in this evaluation, for counters and logs."""


class Breaker:
    """All state controls of one account."""

    def __init__(self, catalog: Catalog, params: Params, *, is_latched: bool = False) -> None:
        """`is_latched`: the process starts under some latch, which may be one of a control's that
        clears by itself and whose process is gone."""
        self._limits = limits = params.breaker
        self._names = tuple(u.name for u in params.underlyings)
        self.counts = dict.fromkeys(
            [*(row.id for row in CONTROLS), *(row.id for row in QUICK_CONTROLS)], 0
        )
        """Trips by row."""
        self._trips: dict[str, list[Trip]] = {
            control.id: [Trip(is_latched=True)] if is_latched and _outlives(control) else []
            for control in CONTROLS
        }
        self.rejects = RejectWindow()
        self.size_refusals = RejectWindow()
        self.losses = LossWindow()
        self.losses_of = {name: LossWindow() for name in self._names}
        """By underlying: of its settlement currency."""
        self.lag = LagWindow()
        self.venue_offset = OffsetWindow()
        self.fills = {
            name: FillWindow(int(limits.fills_window_s * NS_PER_S)) for name in self._names
        }
        """By underlying: the sample's fill numbers come from here and the next two."""
        self.drifts = {
            name: DriftWindow(
                int(limits.fills_drift_window_s * NS_PER_S),
                limits.fills_drift_ratio_max,
                limits.fills_drift_ticks_max,
            )
            for name in self._names
        }
        self.messages = {
            name: MessageWindow(int(limits.messages_window_s * NS_PER_S)) for name in self._names
        }
        self._instruments = InstrumentControls(catalog, params, self.counts)
        self.resize(catalog)

    def resize(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._instruments.resize(catalog)
        self._expiry_places = [
            (row, expiry.expiry_ns)
            for row, name in enumerate(self._names)
            for expiry in catalog.expiries.get(name, ())
        ]
        for control in CONTROLS:
            # A place is found again by position: expiries move when one ends or begins.
            if control.level is Level.EXPIRY:
                self._trips[control.id] = []

    def scan(self, inputs: ScanInputs, now_ns: Ns) -> ScanResult:
        """Judges every instrument now: before anything is quoted in a flush."""
        return self._instruments.scan(inputs, now_ns)

    def on_fill(
        self,
        instrument_id: int,
        side: Side,
        lots: int,
        *,
        lot_delta: float,
        lot_vega_usd: float,
        point: FillPoint | None = None,
        now_ns: Ns,
    ) -> None:
        """Counts a fill of an option in the windows; C7 blocks its instrument at once. Without a
        `point` its price is not followed."""
        row = int(self._instruments.row_of[instrument_id])
        if row < 0 or not self._catalog.is_option[instrument_id]:
            return
        name = self._names[row]
        self.fills[name].add(
            instrument_id,
            side,
            lots,
            lot_delta=lot_delta,
            lot_vega_usd=lot_vega_usd,
            now_ns=now_ns,
        )
        self.messages[name].add_fill(now_ns)
        if point is not None:
            self.drifts[name].add(instrument_id, side, point, now_ns)
        self._instruments.on_fill(instrument_id, side, now_ns)

    def evaluate(self, sample: Sample, now_ns: Ns) -> Effects:
        """Runs the whole table on one sample."""
        latches: list[LatchWanted] = []
        tripped: list[str] = []
        for control in CONTROLS:
            conditions = control.probe(sample, self._limits)
            if self._update(control, conditions, now_ns):
                tripped.append(control.id)
                self.counts[control.id] += 1
            latches += self._latches(control)
        return self._effects(tuple(latches), tuple(tripped))

    def reset(
        self, now_ns: Ns, sources: tuple[str, ...] | None = None, scope: str = ""
    ) -> tuple[str, ...]:
        """A person lifted these rows (None: all), of one underlying or (empty) everywhere: those
        whose reset is a person's. A condition that still holds trips again at the next evaluation.

        Returns the rows that it is too early to lift: they stay, and ask for their latch again.
        """
        early: list[str] = []
        for control in CONTROLS:
            if control.reset is Reset.AUTO or (sources is not None and control.id not in sources):
                continue
            for place, trip in enumerate(self._trips[control.id]):
                if not trip.is_on or not self._is_in(control, place, scope):
                    continue
                trip.is_latched = False
                if now_ns - trip.bad_ns >= control.held_s_min * NS_PER_S:
                    trip.is_on = False
                    self._forget(control, place)
                else:
                    early.append(control.id)
        if sources is None or "C7" in sources:
            self._instruments.lift_repeats(scope)
        return tuple(early)

    def active(self) -> tuple[tuple[str, str, int], ...]:
        """(row, place, since) of everything tripped now, for people."""
        found: list[tuple[str, str, int]] = []
        for control in CONTROLS:
            for place, trip in enumerate(self._trips[control.id]):
                if trip.is_on:
                    found.append((control.id, self._place_name(control, place), trip.since_ns))
        return (*found, *self._instruments.active())

    def holding(self, now_ns: Ns) -> tuple[tuple[str, str], ...]:
        """(row, place) of every row of the table whose condition holds, did until just now, or may
        not be lifted yet."""
        return tuple(
            (control.id, self._place_name(control, place))
            for control in CONTROLS
            for place, trip in enumerate(self._trips[control.id])
            if trip.is_on
            and (
                control.reset is Reset.AUTO
                or now_ns - trip.bad_ns < max(HOLDING_NS, int(control.held_s_min * NS_PER_S))
            )
        )

    def checkpoint(self) -> bytes:
        """What only a person may lift, for a restart."""
        held = [
            (control.id, self._place_name(control, place), trip.since_ns, trip.trips_ns)
            for control in CONTROLS
            if control.reset is not Reset.AUTO
            for place, trip in enumerate(self._trips[control.id])
            if trip.is_on or trip.trips_ns
        ]
        on = [(row, place) for row, place, _ in self.active()]
        kept = [(*one, one[:2] in on) for one in held]
        return msgspec.msgpack.encode((kept, self._instruments.repeated()))

    def restore(self, saved: bytes) -> None:
        kept, repeats = msgspec.msgpack.decode(
            saved, type=tuple[list[tuple[str, str, int, list[int], bool]], list[str]]
        )
        for control in CONTROLS:
            if control.reset is Reset.AUTO:
                continue
            places = len(self._names) if control.level is Level.UNDERLYING else 1
            for place in range(places):
                for control_id, name, since_ns, trips_ns, is_on in kept:
                    if (control_id, name) == (control.id, self._place_name(control, place)):
                        trips = self._trips[control.id]
                        trips.extend(Trip() for _ in range(place + 1 - len(trips)))
                        trips[place] = Trip(is_on, since_ns, since_ns, trips_ns=trips_ns)
        self._instruments.restore_repeated(repeats)

    def checkpoint_losses(self) -> bytes:
        """What counts towards the loss limits, in all and by underlying: a life that ends must not
        give the next a fresh allowance."""
        windows = {"": self.losses, **self.losses_of}
        kept = {name: window.checkpoint() for name, window in windows.items()}
        return msgspec.msgpack.encode(kept)

    def restore_losses(self, saved: bytes) -> None:
        kept = msgspec.msgpack.decode(saved, type=dict[str, Lost | None])
        for name, window in {"": self.losses, **self.losses_of}.items():
            lost = kept.get(name)
            if lost is not None:
                window.restore(lost)

    def digest(self) -> bytes:
        words = (
            self._trips,
            self.counts,
            self._instruments.digest_words(),
            self.rejects.words(),
            self.size_refusals.words(),
            self.losses.words(),
            self.lag.words(),
            self.venue_offset.words(),
            [
                (
                    self.fills[name].words(),
                    self.drifts[name].words(),
                    self.messages[name].words(),
                    self.losses_of[name].words(),
                )
                for name in self._names
            ],
        )
        return hashlib.blake2b(msgspec.msgpack.encode(words), digest_size=16).digest()

    def _update(self, control: Control, conditions: Sequence[bool], now_ns: int) -> bool:
        """Moves the memory of one row; True where a place of it tripped now."""
        trips = self._trips[control.id]
        if control.level is Level.EXPIRY:
            assert len(conditions) == len(self._expiry_places), (control.id, len(conditions))
        if len(trips) < len(conditions):
            trips.extend(Trip() for _ in range(len(conditions) - len(trips)))
        hysteresis_s = control.hysteresis_s
        if hysteresis_s is None:
            hysteresis_s = self._limits.hysteresis_s
        is_new = False
        for trip, condition in zip(trips, conditions, strict=False):
            if condition:
                if not trip.is_on:
                    is_new = True
                    trip.since_ns = now_ns
                    if control.trips_per_hour_max:
                        recent = [at for at in trip.trips_ns if at > now_ns - HOUR_NS]
                        trip.trips_ns = [*recent[1 - TRIPS_KEPT :], now_ns]
                trip.is_on, trip.bad_ns = True, now_ns
            elif control.reset is Reset.AUTO and now_ns - trip.bad_ns >= hysteresis_s * NS_PER_S:
                trip.is_on = False
        return is_new

    def _latches(self, control: Control) -> list[LatchWanted]:
        """Changes of the latch that a row wants."""
        mask = control.action.mask
        if not control.is_latched or mask is None:
            return []
        wanted: list[LatchWanted] = []
        for place, trip in enumerate(self._trips[control.id]):
            if trip.is_on == trip.is_latched:
                continue
            trip.is_latched = trip.is_on
            wanted.append(
                LatchWanted(
                    control.id,
                    mask.permission,
                    mask.tasks,
                    _reason(control, trip) if trip.is_on else "clear again",
                    clear=not trip.is_on,
                    scope=self._names[place] if control.level is Level.UNDERLYING else "",
                    is_hard_stop=control.action is Action.HARD_STOP,
                )
            )
        return wanted

    def _effects(self, latches: tuple[LatchWanted, ...], tripped: tuple[str, ...]) -> Effects:
        count = len(self._names)
        repeats = self._instruments.repeat_halts
        halted = ["C7" if name in repeats else "" for name in self._names]
        frozen = [""] * count
        width = [1.0] * count
        analytic, slow, barred = [False] * count, [False] * count, [False] * count
        blocked: list[list[int]] = [[] for _ in self._names]
        wide: list[list[int]] = [[] for _ in self._names]
        sides = [[False, False] for _ in self._names]
        for control in CONTROLS:
            for place, trip in enumerate(self._trips[control.id]):
                if not trip.is_on or control.action in (Action.HEDGE, Action.PAGE):
                    continue
                if control.level in (Level.VENUE, Level.FIRM):
                    halted = [one or control.id for one in halted]
                elif control.level is Level.EXPIRY:
                    row, expiry_ns = self._expiry_places[place]
                    (wide if control.action is Action.WIDEN else blocked)[row].append(expiry_ns)
                elif control.action is Action.PULL_SIDE:
                    sides[place // 2][place % 2] = True
                elif control.action is Action.WIDEN:
                    width[place] = WIDEN_FACTOR
                elif control.action is Action.PULL_ADDING:
                    barred[place] = True
                elif control.action is Action.SLOW:
                    slow[place] = True
                elif control.action is Action.FALL_BACK:
                    analytic[place] = True
                    width[place] = max(width[place], ANALYTIC_WIDTH)
                else:
                    halted[place] = halted[place] or control.id
                    if control.action is Action.FREEZE:
                        frozen[place] = control.id
        self._instruments.block([(buy, sell) for buy, sell in sides], blocked)
        return Effects(
            halted=tuple(halted),
            frozen=tuple(frozen),
            width=tuple(width),
            wide_expiries=tuple(tuple(one) for one in wide),
            use_analytic=tuple(analytic),
            is_slow=tuple(slow),
            is_adding_barred=tuple(barred),
            blocked_expiries=tuple(tuple(one) for one in blocked),
            latches=latches,
            tripped=tripped,
        )

    def _is_in(self, control: Control, place: int, scope: str) -> bool:
        """Whether a reset of this scope is about this place."""
        if not scope:
            return True
        return control.level is Level.UNDERLYING and self._names[place] == scope

    def _forget(self, control: Control, place: int) -> None:
        """What was seen before a person looked no longer counts."""
        if control.id == "C11":
            self.losses.restart()
        elif control.id == "C11.underlying":
            self.losses_of[self._names[place]].restart()
        elif control.id == "C13":
            self.rejects.clear()
        elif control.id == "C13.size":
            self.size_refusals.clear()
        elif control.id == "C12":
            self.fills[self._names[place]].clear()
        elif control.id == "C3":
            self.drifts[self._names[place]].clear()

    def _place_name(self, control: Control, place: int) -> str:
        if control.level is Level.EXPIRY:
            row, expiry_ns = self._expiry_places[place]
            return f"{self._names[row]} {expiry_ns}"
        if control.action is Action.PULL_SIDE:
            return f"{self._names[place // 2]} {'sells' if place % 2 else 'buys'}"
        if control.level is Level.UNDERLYING:
            return self._names[place]
        return str(control.level.value)


def _outlives(control: Control) -> bool:
    """Whether a latch of this row may have outlived its process without anybody to let it go."""
    return control.is_latched and control.reset is Reset.AUTO


def _reason(control: Control, trip: Trip) -> str:
    """Why it is latched; begins with a mark where one person's reset is not enough."""
    is_repeated = 0 < control.trips_per_hour_max <= len(trip.trips_ns)
    mark = TWO_PERSONS_MARK if control.reset is Reset.TWO_PERSONS or is_repeated else ""
    return f"{mark}{control.trigger}"
