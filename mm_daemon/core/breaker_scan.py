"""The controls by instrument: one kernel pass a flush says what may not be quoted and what may not
stay.

Each instrument has a word of bits, one for each row of `QUICK_CONTROLS`. All but C7's are found
anew in every pass; C7's stays until a person lifts it. C7 on several instruments of an underlying
holds the whole underlying back.
"""

from __future__ import annotations

import msgspec
import numpy as np

from mm_daemon.core.breaker_windows import RepeatWindow
from mm_daemon.core.catalog import Bools, Catalog, Floats, Ints
from mm_daemon.core.control_rows_market import QUICK_CONTROLS
from mm_daemon.core.control_types import QuickControl
from mm_daemon.domain.params import Params
from mm_daemon.domain.units import NS_PER_MS, NS_PER_S, Ns, Side
from mm_daemon.pricing.arrays import kernel

REPEAT_INSTRUMENTS_MAX = 3
"""C7 on more instruments of one underlying than this halts the underlying."""

_AGE = int(QuickControl.BOOK_AGE)
_INVALID = int(QuickControl.BOOK_INVALID)
_MOVED = int(QuickControl.PRICE_MOVED)
_CLOSED = int(QuickControl.CLOSED)
_REPEAT = int(QuickControl.REPEAT)


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


class InstrumentControls:
    """Bits of every instrument, and what the breaker's rows block beside them."""

    def __init__(self, catalog: Catalog, params: Params, counts: dict[str, int]) -> None:
        self._params = params
        self._limits = params.breaker
        self._counts = counts
        self._names = tuple(u.name for u in params.underlyings)
        self._repeats = RepeatWindow(
            int(self._limits.repeat_window_s * NS_PER_S), self._limits.repeat_fills_max
        )
        self.repeat_halts: dict[str, None] = {}
        """Underlyings that C7 holds back."""
        self._bits: Ints = np.zeros(0, dtype=np.int64)
        self._bad_ns: Ints = np.zeros(0, dtype=np.int64)
        self._side_blocks: list[tuple[bool, bool]] = [(False, False)] * len(self._names)
        self.resize(catalog)

    def resize(self, catalog: Catalog) -> None:
        size = len(catalog)
        self._catalog = catalog
        bits, bad_ns = np.zeros(size, dtype=np.int64), np.zeros(size, dtype=np.int64)
        bits[: self._bits.size], bad_ns[: self._bad_ns.size] = self._bits, self._bad_ns
        self._bits, self._bad_ns = bits, bad_ns
        stop_s = {u.name: u.quoting.stop_before_expiry_s for u in self._params.underlyings}
        self._stop_ns: Ints = np.array(
            [
                i.expiry_ns - int(stop_s.get(i.underlying, 0.0) * NS_PER_S) if i.expiry_ns else 0
                for i in catalog.instruments
            ],
            dtype=np.int64,
        )
        self.row_of: Ints = np.array(
            [
                self._names.index(i.underlying) if i.underlying in self._names else -1
                for i in catalog.instruments
            ],
            dtype=np.int64,
        )
        self._expiry_blocked: Bools = np.zeros(size, dtype=np.bool_)

    def block(self, sides: list[tuple[bool, bool]], expiries: list[list[int]]) -> None:
        """What the rows of the table block now: (bids, asks) and expiries (ns), by underlying."""
        self._side_blocks = sides
        self._expiry_blocked = np.zeros(len(self._catalog), dtype=np.bool_)
        for row, blocked in enumerate(expiries):
            for expiry_ns in blocked:
                self._expiry_blocked |= (self._catalog.expiry_ns == expiry_ns) & (
                    self.row_of == row
                )

    def scan(self, inputs: ScanInputs, now_ns: Ns) -> ScanResult:
        """Judges every instrument now: before anything is quoted in a flush."""
        counts = np.zeros(len(_BIT_INDEX), dtype=np.int64)
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
            np.array([u.quoting.pull_edge_fraction for u in self._params.underlyings]),
            self.row_of,
            self._bits,
            self._bad_ns,
            counts,
        )
        for row, bit in ((r, r.bit) for r in QUICK_CONTROLS if r.bit is not QuickControl.REPEAT):
            self._counts[row.id] += int(counts[_BIT_INDEX[bit]])
        blocked = ((self._bits & ~_MOVED) != 0) | self._expiry_blocked
        bid, ask = blocked.copy(), blocked
        for row_index, (buy, sell) in enumerate(self._side_blocks):
            if buy:
                bid |= self.row_of == row_index
            if sell:
                ask = ask | (self.row_of == row_index)
        return ScanResult(
            blocked_bid=bid,
            blocked_ask=ask,
            pull_bid=np.flatnonzero(bid & (inputs.live_bid_lots > 0)),
            pull_ask=np.flatnonzero(ask & (inputs.live_ask_lots > 0)),
            moved=np.flatnonzero((self._bits & _MOVED) != 0),
        )

    def on_fill(self, instrument_id: int, side: Side, now_ns: Ns) -> None:
        """C7 blocks an instrument at the fill that is the one too many."""
        if self._repeats.add(instrument_id, side, now_ns):
            self._block_repeated(instrument_id)

    def lift_repeats(self, scope: str) -> None:
        """A person lifted C7, of one underlying or (empty) of all."""
        if not scope:
            self._bits &= ~_REPEAT
            self._repeats.clear()
            self.repeat_halts.clear()
            return
        self._bits[self.row_of == self._names.index(scope)] &= ~_REPEAT
        mine = [i.id for i in self._catalog.instruments if i.underlying == scope]
        self._repeats.clear(mine)
        self.repeat_halts.pop(scope, None)

    def active(self) -> list[tuple[str, str, int]]:
        """(row, instrument, 0) of every bit that is set."""
        found: list[tuple[str, str, int]] = []
        for id_ in np.flatnonzero(self._bits).tolist():
            name, bits = self._catalog.instruments[id_].name, int(self._bits[id_])
            found.extend((row.id, name, 0) for row in QUICK_CONTROLS if bits & row.bit)
        return found

    def repeated(self) -> list[str]:
        """Names of the instruments that C7 holds back."""
        ids = np.flatnonzero(self._bits & _REPEAT).tolist()
        return [self._catalog.instruments[id_].name for id_ in ids]

    def restore_repeated(self, names: list[str]) -> None:
        for name in names:
            if name in self._catalog.id_of:
                self._block_repeated(self._catalog.id_of[name])

    def digest_words(self) -> tuple[object, ...]:
        return (
            self._bits.tobytes(),
            self._bad_ns.tobytes(),
            self._side_blocks,
            list(self.repeat_halts),
            self._repeats.words(),
        )

    def _block_repeated(self, instrument_id: int) -> None:
        if not self._bits[instrument_id] & _REPEAT:
            self._bits[instrument_id] |= _REPEAT
            self._counts["C7"] += 1
        row = int(self.row_of[instrument_id])
        same = (self.row_of == row) & ((self._bits & _REPEAT) != 0)
        if row >= 0 and int(same.sum()) > REPEAT_INSTRUMENTS_MAX:
            self.repeat_halts[self._names[row]] = None


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
