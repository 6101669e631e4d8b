"""The state controls at work: which quotes must go, what is latched, what may come back.

Two passes. `scan` judges the controls by instrument in one kernel call, each flush: what it blocks
must be pulled in that flush. `evaluate` runs the rows of the control table on one sample, at a pace
or when something happened. Both only say what holds; pulling, cancelling and latching are done by
others, and never wait here.

A trip of level venue or firm asks for a latch under the row's id and, where its reset is automatic,
for its clearing once the condition has stayed away for the hysteresis time. Trips by instrument,
expiry and underlying are kept here, because a latch knows no places; those that only a person may
lift survive a restart in the checkpoint.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec
import numpy as np

from mm_daemon.core.breaker_windows import FillWindow, LossWindow, RejectWindow, RepeatWindow
from mm_daemon.core.catalog import Bools, Catalog, Floats, Ints
from mm_daemon.core.controls import (
    CONTROLS,
    QUICK_CONTROLS,
    Action,
    Control,
    Level,
    QuickControl,
    Reset,
    Sample,
)
from mm_daemon.domain.outputs import LatchWanted
from mm_daemon.domain.params import Params
from mm_daemon.domain.units import NS_PER_MS, NS_PER_S, Ns, Side
from mm_daemon.pricing.arrays import kernel

WIDEN_FACTOR = 2.0
"""Width multiplier while a control widens."""
REPEAT_INSTRUMENTS_MAX = 3
"""C7 on more instruments of one underlying than this halts the underlying."""
HOLDING_NS = 2 * NS_PER_S
"""A condition that held this lately is not yet believed to be gone."""

_AGE = int(QuickControl.BOOK_AGE)
_INVALID = int(QuickControl.BOOK_INVALID)
_MOVED = int(QuickControl.PRICE_MOVED)
_CLOSED = int(QuickControl.CLOSED)
_REPEAT = int(QuickControl.REPEAT)


class Trip(msgspec.Struct):
    """One place of one control."""

    is_on: bool = False
    since_ns: int = 0
    bad_ns: int = 0
    """When the condition last held."""
    is_latched: bool = False
    """A latch was asked for and not yet asked to clear."""


class ScanInputs(msgspec.Struct, frozen=True):
    """What the controls by instrument look at; arrays by instrument id."""

    seen_ns: Ints
    """When anything of the instrument was last received."""
    book_valid: Bools
    is_open: Bools
    """Lifecycle open and its index not locked."""
    theo: Floats
    theo_sent: Floats
    """Theo when its quotes were last sent; NaN where none were."""
    edge_sent: Floats
    """Edge of those quotes, in the unit of theo."""
    live_bid_lots: Ints
    live_ask_lots: Ints


class ScanResult(msgspec.Struct, frozen=True):
    """Where nothing may be quoted, and what may not stay."""

    blocked_bid: Bools
    blocked_ask: Bools
    pull_bid: Ints
    """Instruments whose resting bid must be pulled in this flush."""
    pull_ask: Ints
    moved: Ints
    """Instruments whose resting quotes must be replaced or pulled in this flush (C14.price)."""


class Effects(msgspec.Struct, frozen=True):
    """What the table says should be in force now; tuples are by underlying of the parameters."""

    halted: tuple[str, ...]
    """Id of the row that keeps an underlying from quoting, empty where it may."""
    width: tuple[float, ...]
    wide_expiries: tuple[tuple[int, ...], ...]
    """Expiries (ns) that are quoted wider."""
    use_analytic: tuple[bool, ...]
    blocked_expiries: tuple[tuple[int, ...], ...]
    """Expiries (ns) that may not be quoted."""
    is_venue_pulled: bool
    latches: tuple[LatchWanted, ...]
    """Changes since the last evaluation."""
    tripped: tuple[str, ...]
    """Rows that tripped in this evaluation, for counters and logs."""


class Breaker:
    """All state controls of one account."""

    def __init__(self, catalog: Catalog, params: Params) -> None:
        self._params = params
        self._limits = params.breaker
        self._names = tuple(underlying.name for underlying in params.underlyings)
        self._trips: dict[str, list[Trip]] = {control.id: [] for control in CONTROLS}
        ids = [control.id for control in CONTROLS] + [row.id for row in QUICK_CONTROLS]
        self.counts: dict[str, int] = dict.fromkeys(ids, 0)
        """Trips so far, by row."""
        limits = params.breaker
        self.rejects = RejectWindow()
        self.losses = LossWindow()
        window_ns = int(limits.fills_window_s * NS_PER_S)
        self.fills = {name: FillWindow(window_ns) for name in self._names}
        """By underlying: the sample's fill numbers come from here."""
        self._repeats = RepeatWindow(
            int(limits.repeat_window_s * NS_PER_S), limits.repeat_fills_max
        )
        self._bits: Ints = np.zeros(0, dtype=np.int64)
        self._bad_ns: Ints = np.zeros(0, dtype=np.int64)
        self._side_blocks: list[tuple[bool, bool]] = [(False, False)] * len(self._names)
        self._repeat_halts: dict[str, None] = {}
        self.resize(catalog)

    def resize(self, catalog: Catalog) -> None:
        old = self._bits
        size = len(catalog)
        self._catalog = catalog
        self._bits = np.zeros(size, dtype=np.int64)
        self._bits[: old.size] = old
        grown = np.zeros(size, dtype=np.int64)
        grown[: old.size] = self._bad_ns
        self._bad_ns = grown
        stop_s = {u.name: u.quoting.stop_before_expiry_s for u in self._params.underlyings}
        self._stop_ns: Ints = np.array(
            [
                i.expiry_ns - int(stop_s.get(i.underlying, 0.0) * NS_PER_S) if i.expiry_ns else 0
                for i in catalog.instruments
            ],
            dtype=np.int64,
        )
        self._expiry_places = [
            (row, expiry.expiry_ns)
            for row, name in enumerate(self._names)
            for expiry in catalog.expiries.get(name, ())
        ]
        self._row_of: Ints = np.array(
            [
                self._names.index(i.underlying) if i.underlying in self._names else -1
                for i in catalog.instruments
            ],
            dtype=np.int64,
        )
        self._expiry_blocked: Bools = np.zeros(size, dtype=np.bool_)
        for control in CONTROLS:
            # A place is found again by position: expiries move when one ends or begins.
            if control.level is Level.EXPIRY:
                self._trips[control.id] = []
        self._counts_before: Ints = np.zeros(5, dtype=np.int64)

    def scan(self, inputs: ScanInputs, now_ns: Ns) -> ScanResult:
        """Judges every instrument now: before anything is quoted in a flush."""
        counts = np.zeros(5, dtype=np.int64)
        _scan(
            inputs.seen_ns,
            inputs.book_valid,
            inputs.is_open,
            self._stop_ns,
            inputs.theo,
            inputs.theo_sent,
            inputs.edge_sent,
            inputs.live_bid_lots,
            inputs.live_ask_lots,
            now_ns,
            self._limits.book_age_ms_max * NS_PER_MS,
            int(self._limits.hysteresis_s * NS_PER_S),
            self._pull_fractions(),
            self._row_of,
            self._bits,
            self._bad_ns,
            counts,
        )
        for row, bit in ((r, r.bit) for r in QUICK_CONTROLS if r.bit is not QuickControl.REPEAT):
            self.counts[row.id] += int(counts[_BIT_INDEX[bit]])
        blocked = ((self._bits & ~_MOVED) != 0) | self._expiry_blocked
        bid, ask = blocked.copy(), blocked
        for row_index, (buy, sell) in enumerate(self._side_blocks):
            if buy:
                bid |= self._row_of == row_index
            if sell:
                ask = ask | (self._row_of == row_index)
        return ScanResult(
            blocked_bid=bid,
            blocked_ask=ask,
            pull_bid=np.flatnonzero(bid & (inputs.live_bid_lots > 0)),
            pull_ask=np.flatnonzero(ask & (inputs.live_ask_lots > 0)),
            moved=np.flatnonzero((self._bits & _MOVED) != 0),
        )

    def on_fill(
        self,
        instrument_id: int,
        side: Side,
        lots: int,
        *,
        lot_delta: float,
        lot_vega_usd: float,
        now_ns: Ns,
    ) -> None:
        """Counts a fill of an option in the windows; C7 blocks its instrument at once."""
        row = int(self._row_of[instrument_id])
        if row < 0 or not self._catalog.is_option[instrument_id]:
            return
        self.fills[self._names[row]].add(
            instrument_id,
            side,
            lots,
            lot_delta=lot_delta,
            lot_vega_usd=lot_vega_usd,
            now_ns=now_ns,
        )
        if self._repeats.add(instrument_id, side, now_ns):
            self._block_repeated(instrument_id)

    def _block_repeated(self, instrument_id: int) -> None:
        if not self._bits[instrument_id] & _REPEAT:
            self._bits[instrument_id] |= _REPEAT
            self.counts["C7"] += 1
        row = int(self._row_of[instrument_id])
        same = (self._row_of == row) & ((self._bits & _REPEAT) != 0)
        if row >= 0 and int(same.sum()) > REPEAT_INSTRUMENTS_MAX:
            self._repeat_halts[self._names[row]] = None

    def evaluate(self, sample: Sample, now_ns: Ns) -> Effects:
        """Runs the whole table on one sample."""
        latches: list[LatchWanted] = []
        tripped: list[str] = []
        for control in CONTROLS:
            conditions = control.probe(sample, self._limits)
            if self._update(control, conditions, now_ns):
                tripped.append(control.id)
                self.counts[control.id] += 1
            latch = self._latch(control)
            if latch is not None:
                latches.append(latch)
        return self._effects(tuple(latches), tuple(tripped))

    def reset(self, sources: tuple[str, ...] | None = None) -> None:
        """A person lifted these rows (None: all): those whose reset is a person's. A condition
        that still holds trips again at the next evaluation."""
        for control in CONTROLS:
            if control.reset is not Reset.AUTO and (sources is None or control.id in sources):
                for trip in self._trips[control.id]:
                    trip.is_on = trip.is_latched = False
        if sources is None or "C7" in sources:
            self._bits &= ~_REPEAT
            self._repeat_halts.clear()
            self._repeats.clear()
        if sources is None or "C11" in sources:
            self.losses.restart()
        if sources is None or "C12" in sources:
            for window in self.fills.values():
                window.clear()
        if sources is None or "C13" in sources:
            self.rejects.clear()

    def active(self) -> tuple[tuple[str, str, int], ...]:
        """(row, place, since) of everything tripped now, for people."""
        found: list[tuple[str, str, int]] = []
        for control in CONTROLS:
            for place, trip in enumerate(self._trips[control.id]):
                if trip.is_on:
                    found.append((control.id, self._place_name(control, place), trip.since_ns))
        for id_ in np.flatnonzero(self._bits).tolist():
            name = self._catalog.instruments[id_].name
            bits = int(self._bits[id_])
            found.extend((row.id, name, 0) for row in QUICK_CONTROLS if bits & row.bit)
        return tuple(found)

    def holding(self, now_ns: Ns) -> tuple[tuple[str, str], ...]:
        """(row, place) of every row of the table whose condition holds, or did until just now."""
        return tuple(
            (control.id, self._place_name(control, place))
            for control in CONTROLS
            for place, trip in enumerate(self._trips[control.id])
            if trip.is_on and (control.reset is Reset.AUTO or now_ns - trip.bad_ns < HOLDING_NS)
        )

    def checkpoint(self) -> bytes:
        """What only a person may lift, for a restart."""
        held = [
            (control.id, self._place_name(control, place), trip.since_ns)
            for control in CONTROLS
            if control.reset is not Reset.AUTO
            for place, trip in enumerate(self._trips[control.id])
            if trip.is_on
        ]
        repeats = [
            self._catalog.instruments[id_].name
            for id_ in np.flatnonzero(self._bits & _REPEAT).tolist()
        ]
        return msgspec.msgpack.encode((held, repeats))

    def restore(self, saved: bytes) -> None:
        held, repeats = msgspec.msgpack.decode(
            saved, type=tuple[list[tuple[str, str, int]], list[str]]
        )
        for control in CONTROLS:
            places = len(self._names) if control.level is Level.UNDERLYING else 1
            for place in range(places):
                for control_id, name, since_ns in held:
                    if (control_id, name) == (control.id, self._place_name(control, place)):
                        trips = self._trips[control.id]
                        trips.extend(Trip() for _ in range(place + 1 - len(trips)))
                        trips[place] = Trip(True, since_ns, since_ns)
        for name in repeats:
            if name in self._catalog.id_of:
                self._block_repeated(self._catalog.id_of[name])

    def digest(self) -> bytes:
        state = hashlib.blake2b(self._bits.tobytes(), digest_size=16)
        state.update(self._bad_ns.tobytes())
        words = (
            self._trips,
            self.counts,
            self._side_blocks,
            list(self._repeat_halts),
            self.rejects.words(),
            self.losses.words(),
            [window.words() for window in self.fills.values()],
            self._repeats.words(),
        )
        state.update(msgspec.msgpack.encode(words))
        return state.digest()

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
                is_new = is_new or not trip.is_on
                trip.since_ns = trip.since_ns if trip.is_on else now_ns
                trip.is_on, trip.bad_ns = True, now_ns
            elif control.reset is Reset.AUTO and now_ns - trip.bad_ns >= hysteresis_s * NS_PER_S:
                trip.is_on = False
        return is_new

    def _latch(self, control: Control) -> LatchWanted | None:
        """A change of the latch that a row of venue or firm level wants, None for no change."""
        mask = control.action.mask
        if control.level not in (Level.VENUE, Level.FIRM) or mask is None:
            return None
        (trip,) = self._trips[control.id]
        if trip.is_on and not trip.is_latched:
            trip.is_latched = True
            return LatchWanted(
                control.id, mask.permission, mask.tasks, control.trigger, clear=False
            )
        if not trip.is_on and trip.is_latched:
            trip.is_latched = False
            return LatchWanted(control.id, mask.permission, mask.tasks, "clear again", clear=True)
        return None

    def _effects(self, latches: tuple[LatchWanted, ...], tripped: tuple[str, ...]) -> Effects:
        count = len(self._names)
        halted = ["C7" if name in self._repeat_halts else "" for name in self._names]
        width = [1.0] * count
        analytic = [False] * count
        blocked: list[list[int]] = [[] for _ in self._names]
        wide: list[list[int]] = [[] for _ in self._names]
        sides = [[False, False] for _ in self._names]
        is_pulled = False
        for control in CONTROLS:
            for place, trip in enumerate(self._trips[control.id]):
                if not trip.is_on:
                    continue
                if control.level in (Level.VENUE, Level.FIRM):
                    is_pulled = True
                elif control.level is Level.EXPIRY:
                    row, expiry_ns = self._expiry_places[place]
                    (wide if control.action is Action.WIDEN else blocked)[row].append(expiry_ns)
                elif control.action is Action.PULL_SIDE:
                    sides[place // 2][place % 2] = True
                elif control.action is Action.WIDEN:
                    width[place] = WIDEN_FACTOR
                elif control.action is Action.FALL_BACK:
                    analytic[place] = True
                else:
                    halted[place] = halted[place] or control.id
        self._side_blocks = [(buy, sell) for buy, sell in sides]
        self._expiry_blocked = np.zeros(len(self._catalog), dtype=np.bool_)
        for row, expiries in enumerate(blocked):
            for expiry_ns in expiries:
                self._expiry_blocked |= (self._catalog.expiry_ns == expiry_ns) & (
                    self._row_of == row
                )
        return Effects(
            halted=tuple(halted),
            width=tuple(width),
            wide_expiries=tuple(tuple(one) for one in wide),
            use_analytic=tuple(analytic),
            blocked_expiries=tuple(tuple(one) for one in blocked),
            is_venue_pulled=is_pulled,
            latches=latches,
            tripped=tripped,
        )

    def _pull_fractions(self) -> Floats:
        return np.array([u.quoting.pull_edge_fraction for u in self._params.underlyings])

    def _place_name(self, control: Control, place: int) -> str:
        if control.level is Level.EXPIRY:
            row, expiry_ns = self._expiry_places[place]
            return f"{self._names[row]} {expiry_ns}"
        if control.action is Action.PULL_SIDE:
            return f"{self._names[place // 2]} {'sells' if place % 2 else 'buys'}"
        if control.level is Level.UNDERLYING:
            return self._names[place]
        return str(control.level.value)


_BIT_INDEX = {
    QuickControl.REPEAT: 0,
    QuickControl.BOOK_AGE: 1,
    QuickControl.BOOK_INVALID: 2,
    QuickControl.PRICE_MOVED: 3,
    QuickControl.CLOSED: 4,
}


@kernel
def _scan(
    seen_ns: Ints,
    book_valid: Bools,
    is_open: Bools,
    stop_ns: Ints,
    theo: Floats,
    theo_sent: Floats,
    edge_sent: Floats,
    live_bid_lots: Ints,
    live_ask_lots: Ints,
    now_ns: int,
    age_ns_max: int,
    hysteresis_ns: int,
    pull_fraction: Floats,
    row_of: Ints,
    bits: Ints,
    bad_ns: Ints,
    counts: Ints,
) -> None:
    """Sets each instrument's bits anew, but C7's, which only a person lifts. A book that was too
    old stays blocked for the hysteresis time. counts (5,): bits newly set, in order of the bits."""
    for i in range(bits.size):
        row = row_of[i]
        if row < 0:
            continue
        found = bits[i] & _REPEAT
        if now_ns - seen_ns[i] > age_ns_max:
            bad_ns[i] = now_ns
            found |= _AGE
        elif bits[i] & _AGE and now_ns - bad_ns[i] < hysteresis_ns:
            found |= _AGE
        if not book_valid[i]:
            found |= _INVALID
        if not is_open[i] or 0 < stop_ns[i] <= now_ns:
            found |= _CLOSED
        if live_bid_lots[i] > 0 or live_ask_lots[i] > 0:
            # NaN on either side of the comparison pulls too.
            limit = pull_fraction[row] * edge_sent[i]
            if not abs(theo[i] - theo_sent[i]) <= limit:
                found |= _MOVED
        new = found & ~bits[i]
        if new != 0:
            for k in range(5):
                if new & (1 << k):
                    counts[k] += 1
        bits[i] = found
