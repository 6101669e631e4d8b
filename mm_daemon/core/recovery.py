"""What a restart takes over: the last checkpoint, the keys of a day's fills that are in it, and
the fills that the ledger holds since.

A checkpoint tells only of fills that are new since the one before. All keys are written now and
then, some at a time, so that no step writes megabytes and a restart reads half an hour of ledger.

The ledger survives the process; the venue says the rest in the reconcile that follows. Positions
and cash come back exact; surfaces and trips come back so that quoting need not start from nothing.
"""

from __future__ import annotations

import msgspec

from mm_daemon.core.fill_keys import FRESH_MAX, unplaced_of
from mm_daemon.core.portfolio import Booking
from mm_daemon.core.state import EngineState
from mm_daemon.domain.events import FillUnplaced
from mm_daemon.domain.inputs import Start
from mm_daemon.domain.outputs import (
    AdjustRecord,
    CheckpointRecord,
    FillRecord,
    KeysRecord,
    LedgerRecord,
    SavedTrade,
)
from mm_daemon.domain.units import NS_PER_S, Ns

CHECKPOINT_NS = 30 * NS_PER_S
ALL_KEYS_NS = 1_800 * NS_PER_S
KEYS_PER_RECORD = 1_000
"""A third of a millisecond to write."""
CHECKPOINT_BYTES_MAX = 4 << 20
"""Far above any book of ours, and what a segment of the ledger takes."""


class Saved(msgspec.Struct, frozen=True):
    """Checkpoint state: each part is its component's own bytes."""

    portfolio: bytes
    calibrator: bytes
    breaker: bytes
    accounting: bytes
    """Losses so far; empty in checkpoints of builds that did not keep them."""
    adjustments: bytes = b""


class Checkpoints:
    """Puts a checkpoint on the ledger at a pace, and at once after what no fill explains."""

    def __init__(self, state: EngineState) -> None:
        self._s = state
        self._due_ns = 0
        self._all_keys_due_ns = 0
        self._keys_left: list[SavedTrade] = []
        """Of all keys, as they were when their writing began, those that are not written yet."""

    def want_now(self) -> None:
        self._due_ns = 0

    def poll(self, now_ns: Ns) -> None:
        """Only from books that a reconcile found clean; never while keys are being written."""
        s = self._s
        if now_ns < self._due_ns or not s.portfolio.is_open or not s.modes.is_reconciled:
            return
        keys = s.portfolio.keys
        is_first = not self._keys_left and (
            now_ns >= self._all_keys_due_ns or len(keys.fresh) > FRESH_MAX
        )
        if is_first:
            self._all_keys_due_ns = now_ns + ALL_KEYS_NS
            s.portfolio.forget_keys(now_ns)
            self._keys_left = keys.saved()
            keys.fresh = []
        if is_first or self._keys_left:
            some = self._keys_left[:KEYS_PER_RECORD]
            del self._keys_left[:KEYS_PER_RECORD]
            s.outbox.put(KeysRecord(is_first=is_first, trades=some))
        if not self._keys_left:
            self._due_ns = now_ns + CHECKPOINT_NS
            self._put(checkpoint(s, trades=keys.fresh))

    def _put(self, record: CheckpointRecord) -> None:
        """One that is too large leaves its trades to the next, and the last one standing."""
        s = self._s
        if (size := len(record.state)) > CHECKPOINT_BYTES_MAX:
            s.outbox.log(
                "critical", "checkpoint_too_large", bytes=size, bytes_max=CHECKPOINT_BYTES_MAX
            )
            return
        s.outbox.put(record)
        s.portfolio.keys.fresh = []

    def digest_words(self) -> tuple[object, ...]:
        return self._due_ns, self._all_keys_due_ns, len(self._keys_left)


def checkpoint(state: EngineState, *, trades: list[SavedTrade] | None = None) -> CheckpointRecord:
    """The record to put on the ledger now; only once the books are open.

    trades: booked since the last one, where the ledger holds the keys of the others; None puts all
    into the record.
    """
    saved = Saved(
        portfolio=state.portfolio.checkpoint(with_keys=trades is None),
        calibrator=state.calibrator.checkpoint(),
        breaker=state.breaker.checkpoint(),
        accounting=state.breaker.checkpoint_losses(),
        adjustments=state.adjustments.checkpoint(),
    )
    return CheckpointRecord(
        next_sequence=max(state.client_ids.next_sequence, state.outbox.next_id),
        trades_since_venue_ns=dict(state.portfolio.newest_fill_ns),
        state=msgspec.msgpack.encode(saved),
        trades=trades,
    )


def book_known(state: EngineState) -> None:
    """Books the ledger's fills whose instruments are known."""
    for record in state.absent.take_known(state.catalog):
        if state.portfolio.book(record.fill) is Booking.APPLIED:
            state.adjustments.on_fill(record.fill, state.portfolio, state.catalog)


def restore(state: EngineState, start: Start) -> int:
    """Takes over what `start` brings; returns how many fills were applied from the ledger.

    Positions and fills of instruments that the catalogue does not have, because they ended while
    nobody was here, wait for it (`absent_listings`).
    """
    if not start.checkpoint:
        return 0
    saved = msgspec.msgpack.decode(start.checkpoint, type=Saved)
    state.portfolio.restore(saved.portfolio)
    state.calibrator.restore(saved.calibrator)
    state.breaker.restore(saved.breaker)
    if saved.accounting:
        state.breaker.restore_losses(saved.accounting)
    if saved.adjustments:
        state.adjustments.restore(saved.adjustments)
    waiting = [one.instrument for one in state.portfolio.parked if isinstance(one, FillUnplaced)]
    for name in (*state.portfolio.orphans, *waiting):
        if name not in state.catalog.id_of:
            state.absent.want(name)
    applied = 0
    for record in msgspec.msgpack.decode(start.ledger_tail, type=list[LedgerRecord]):
        if isinstance(record, FillRecord):
            if record.instrument not in state.catalog.id_of:
                # It stays in sight, and in the range of trades that is read, until it is booked.
                state.portfolio.park_unplaced(unplaced_of(record.fill, record.instrument))
            state.absent.keep(record)
            book_known(state)
            applied += 1
        elif isinstance(record, KeysRecord):
            state.portfolio.keys.take_up(record.trades)
        elif isinstance(record, AdjustRecord):
            state.adjustments.book(record, state.portfolio, state.catalog)
    return applied
