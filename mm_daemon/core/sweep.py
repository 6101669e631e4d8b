"""Taking everything of ours off the venue, and believing it only when the venue said so twice.

A sweep cancels wide, waits until nothing that left before it can still arrive (`valid_until`), and
reads all open orders until two complete reads a second apart are empty. Anything that shows up
starts the waiting again with another wide cancel. A failed read proves nothing.
"""

from __future__ import annotations

from enum import Enum

from mm_daemon.core.outbox import Outbox
from mm_daemon.domain.events import OpenOrdersRead
from mm_daemon.domain.intents import CancelAll, CancelQuotes, ReadOpenOrders
from mm_daemon.domain.units import NS_PER_S, Ns

GAP_NS = NS_PER_S
READ_RETRY_NS = NS_PER_S // 2
CANCEL_RETRY_NS = NS_PER_S


class SweepState(Enum):
    IDLE = "idle"
    RUNNING = "running"
    CONFIRMED = "confirmed"


class Sweep:
    """One sweep at a time; a newer one for a higher generation takes over."""

    def __init__(self) -> None:
        self.state = SweepState.IDLE
        self.generation = 0
        self.confirmed_generation = 0
        """The latch generation for which the venue was found empty twice."""
        self.open_orders = -1
        """What the last complete read showed; -1 = none yet."""
        self._settle_ns = 0
        self._cancelled_ns = 0
        self._asked_ns = 0
        self._read_id = 0
        self._empty_since_ns = 0

    def begin(self, generation: int, settle_ns: int, now_ns: Ns, outbox: Outbox) -> None:
        """Cancels wide at once. `settle_ns`: the last `valid_until` of anything that left."""
        self.state = SweepState.RUNNING
        self.generation = generation
        self._settle_ns = max(settle_ns, now_ns)
        self._empty_since_ns = 0
        self._read_id = 0
        self._cancel(now_ns, outbox)

    def stop(self) -> None:
        """The reason is gone: nothing more is cancelled."""
        self.state = SweepState.IDLE

    def poll(self, now_ns: Ns, can_read: bool, outbox: Outbox) -> None:
        """Sends the next read when it is due; repeats the cancel while orders still show."""
        if self.state is not SweepState.RUNNING or not can_read or now_ns < self._settle_ns:
            return
        if self.open_orders > 0 and now_ns - self._cancelled_ns >= CANCEL_RETRY_NS:
            self._cancel(now_ns, outbox)
        is_waiting = self._read_id != 0 and now_ns - self._asked_ns < 4 * READ_RETRY_NS
        due_ns = self._empty_since_ns + GAP_NS if self._empty_since_ns else self._asked_ns
        if is_waiting or now_ns < due_ns or now_ns - self._asked_ns < READ_RETRY_NS:
            return
        self._read_id = outbox.take_id()
        self._asked_ns = now_ns
        outbox.send(ReadOpenOrders(request_id=self._read_id))

    def on_read(self, read: OpenOrdersRead, now_ns: Ns) -> None:
        """A complete read; only one asked by this sweep counts."""
        if self.state is not SweepState.RUNNING or read.request_id != self._read_id:
            return
        self._read_id = 0
        self.open_orders = len(read.orders)
        if read.orders:
            self._empty_since_ns = 0
        elif not self._empty_since_ns:
            self._empty_since_ns = now_ns
        elif now_ns - self._empty_since_ns >= GAP_NS:
            self.state = SweepState.CONFIRMED
            self.confirmed_generation = self.generation

    def next_ns(self) -> Ns | None:
        """When `poll` should be called again."""
        if self.state is not SweepState.RUNNING:
            return None
        due_ns = max(self._settle_ns, self._asked_ns + READ_RETRY_NS)
        return Ns(max(due_ns, self._empty_since_ns + GAP_NS if self._empty_since_ns else 0))

    def digest_words(self) -> tuple[object, ...]:
        return (
            self.state.value,
            self.generation,
            self.confirmed_generation,
            self.open_orders,
            self._settle_ns,
            self._cancelled_ns,
            self._asked_ns,
            self._read_id,
            self._empty_since_ns,
        )

    def _cancel(self, now_ns: Ns, outbox: Outbox) -> None:
        self._cancelled_ns = now_ns
        outbox.send(CancelAll(request_id=outbox.take_id(), currency="", freeze=True))
        outbox.send(
            CancelQuotes(request_id=outbox.take_id(), currency="", instrument_id=-1, freeze=True)
        )
