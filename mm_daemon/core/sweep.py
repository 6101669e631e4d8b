"""Taking everything of ours off the venue, and believing it only when the venue said so twice.

A sweep cancels wide, waits until nothing that left before it can still arrive (`valid_until`), and
reads all open orders until two complete reads a second apart are empty. Anything that shows up
starts the waiting again with another wide cancel. A failed read proves nothing.

A sweep has targets: the whole account, or the currencies (where a currency holds several
underlyings, the indices) of some underlyings. What is judged open is its owner's to say, because
instruments are not known here.
"""

from __future__ import annotations

from enum import Enum

import msgspec

from mm_daemon.core.outbox import Outbox
from mm_daemon.domain.intents import CancelAll, CancelQuotes, ReadOpenOrders
from mm_daemon.domain.units import NS_PER_S, Ns

GAP_NS = NS_PER_S
READ_RETRY_NS = NS_PER_S // 2
CANCEL_RETRY_NS = NS_PER_S
OVERDUE_NS = 12 * NS_PER_S
"""Without a confirmation after this a sweep is unconfirmed: it goes on, and a person is told."""


class SweepTarget(msgspec.Struct, frozen=True):
    """What one cancel and one read cover; all empty = the whole account."""

    currency: str = ""
    price_index: str = ""
    """Set where the currency is shared: cancels go by index, reads by currency."""


EVERYTHING = (SweepTarget(),)


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
        """What the last complete reading showed; -1 = none yet."""
        self.targets: tuple[SweepTarget, ...] = EVERYTHING
        self._begun_ns = 0
        self._settle_ns = 0
        self._cancelled_ns = 0
        self._asked_ns = 0
        self._unread: dict[int, None] = {}
        """Reads of this reading that are not answered yet, by request id."""
        self._counted = 0
        """Orders that the answered reads of this reading showed."""
        self._empty_since_ns = 0

    def begin(
        self,
        generation: int,
        settle_ns: int,
        now_ns: Ns,
        outbox: Outbox,
        targets: tuple[SweepTarget, ...] = EVERYTHING,
    ) -> None:
        """Cancels wide at once. `settle_ns`: the last `valid_until` of anything that left."""
        assert targets
        is_again = self.state is SweepState.RUNNING and targets == self.targets
        self._begun_ns = self._begun_ns if is_again else now_ns
        self.state = SweepState.RUNNING
        self.generation = generation
        self.targets = targets
        self._settle_ns = max(settle_ns, now_ns)
        self._empty_since_ns = 0
        self._unread.clear()
        self._cancel(now_ns, outbox)

    def extend(self, generation: int) -> None:
        """The sweep under way is what a later generation asks for too. It goes on and does not
        begin anew, or generations that keep coming would keep it from ever being confirmed."""
        assert self.state is SweepState.RUNNING
        self.generation = max(self.generation, generation)

    def carry(self, generation: int) -> None:
        """What was confirmed holds for a later generation too: it changed nothing here."""
        assert self.state is not SweepState.RUNNING
        self.confirmed_generation = max(self.confirmed_generation, generation)

    def stop(self) -> None:
        """The reason is gone: nothing more is cancelled."""
        self.state = SweepState.IDLE

    def is_overdue(self, now_ns: int) -> bool:
        """Running for so long that a person must know."""
        return self.state is SweepState.RUNNING and now_ns - self._begun_ns >= OVERDUE_NS

    def poll(self, now_ns: Ns, can_read: bool, outbox: Outbox) -> None:
        """Sends the next reading when it is due; repeats the cancel while orders still show."""
        if self.state is not SweepState.RUNNING or not can_read or now_ns < self._settle_ns:
            return
        if self.open_orders > 0 and now_ns - self._cancelled_ns >= CANCEL_RETRY_NS:
            self._cancel(now_ns, outbox)
        is_waiting = bool(self._unread) and now_ns - self._asked_ns < 4 * READ_RETRY_NS
        due_ns = self._empty_since_ns + GAP_NS if self._empty_since_ns else self._asked_ns
        if is_waiting or now_ns < due_ns or now_ns - self._asked_ns < READ_RETRY_NS:
            return
        self._unread.clear()
        self._counted = 0
        self._asked_ns = now_ns
        for currency in dict.fromkeys(target.currency for target in self.targets):
            request_id = outbox.take_id()
            self._unread[request_id] = None
            outbox.send(ReadOpenOrders(request_id=request_id, currency=currency))

    def is_asking(self, request_id: int) -> bool:
        """Whether this read is one that the sweep waits for."""
        return self.state is SweepState.RUNNING and request_id in self._unread

    def on_read(self, request_id: int, open_orders: int, now_ns: Ns) -> None:
        """A complete read that `is_asking` names; the reading counts when all its reads are in."""
        del self._unread[request_id]
        self._counted += open_orders
        if self._unread:
            return
        self.open_orders = self._counted
        if self.open_orders:
            self._empty_since_ns = 0
        elif not self._empty_since_ns:
            self._empty_since_ns = now_ns
        elif now_ns - self._empty_since_ns >= GAP_NS:
            self.state = SweepState.CONFIRMED
            self.confirmed_generation = max(self.confirmed_generation, self.generation)

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
            self.targets,
            self._begun_ns,
            self._settle_ns,
            self._cancelled_ns,
            self._asked_ns,
            [*self._unread],
            self._counted,
            self._empty_since_ns,
        )

    def _cancel(self, now_ns: Ns, outbox: Outbox) -> None:
        self._cancelled_ns = now_ns
        for target in self.targets:
            currency = "" if target.price_index else target.currency
            outbox.send(
                CancelAll(
                    request_id=outbox.take_id(),
                    currency=currency,
                    freeze=True,
                    price_index=target.price_index,
                )
            )
            outbox.send(
                CancelQuotes(
                    request_id=outbox.take_id(),
                    currency=currency,
                    instrument_id=-1,
                    freeze=True,
                    price_index=target.price_index,
                )
            )
