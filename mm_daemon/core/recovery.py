"""What a restart takes over: the last checkpoint and the fills that the ledger holds since.

The ledger survives the process; the venue says the rest in the reconcile that follows. Positions
and cash come back exact; surfaces and trips come back so that quoting need not start from nothing.
"""

from __future__ import annotations

import msgspec

from mm_daemon.core.portfolio import Booking
from mm_daemon.core.state import EngineState
from mm_daemon.domain.inputs import Start
from mm_daemon.domain.outputs import AdjustRecord, CheckpointRecord, FillRecord, LedgerRecord
from mm_daemon.domain.units import NS_PER_S, Ns

CHECKPOINT_NS = 30 * NS_PER_S


class Saved(msgspec.Struct, frozen=True):
    """Checkpoint state: each part is its component's own bytes."""

    portfolio: bytes
    calibrator: bytes
    breaker: bytes
    accounting: bytes
    adjustments: bytes = b""


class Checkpoints:
    """Puts a checkpoint on the ledger at a pace, and at once after what no fill explains."""

    def __init__(self, state: EngineState) -> None:
        self._s = state
        self._due_ns = 0

    def want_now(self) -> None:
        self._due_ns = 0

    def poll(self, now_ns: Ns) -> None:
        """Only from books that a reconcile found clean."""
        s = self._s
        if now_ns >= self._due_ns and s.portfolio.is_open and s.modes.is_reconciled:
            self._due_ns = now_ns + CHECKPOINT_NS
            s.portfolio.forget_keys(now_ns)
            s.outbox.put(checkpoint(s))

    def digest_words(self) -> tuple[object, ...]:
        return (self._due_ns,)


def checkpoint(state: EngineState) -> CheckpointRecord:
    """The record to put on the ledger now; only once the books are open."""
    saved = Saved(
        portfolio=state.portfolio.checkpoint(),
        calibrator=state.calibrator.checkpoint(),
        breaker=state.breaker.checkpoint(),
        accounting=b"",
        adjustments=state.adjustments.checkpoint(),
    )
    return CheckpointRecord(
        next_sequence=max(state.client_ids.next_sequence, state.outbox.next_id),
        trades_since_venue_ns=dict(state.portfolio.newest_fill_ns),
        state=msgspec.msgpack.encode(saved),
    )


def restore(state: EngineState, start: Start) -> int:
    """Takes over what `start` brings; returns how many fills were applied from the ledger.

    Fills of instruments that are gone are kept by the portfolio as parked.
    """
    if not start.checkpoint:
        return 0
    saved = msgspec.msgpack.decode(start.checkpoint, type=Saved)
    state.portfolio.restore(saved.portfolio)
    state.calibrator.restore(saved.calibrator)
    state.breaker.restore(saved.breaker)
    if saved.adjustments:
        state.adjustments.restore(saved.adjustments)
    applied = 0
    for record in msgspec.msgpack.decode(start.ledger_tail, type=list[LedgerRecord]):
        if isinstance(record, FillRecord):
            instrument_id = state.catalog.id_of.get(record.instrument, -1)
            fill = msgspec.structs.replace(record.fill, instrument_id=instrument_id)
            if state.portfolio.book(fill) is Booking.APPLIED:
                state.adjustments.on_fill(fill, state.portfolio, state.catalog)
            applied += 1
        elif isinstance(record, AdjustRecord):
            state.adjustments.book(record, state.portfolio, state.catalog)
    return applied
