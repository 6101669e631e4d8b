"""The speed bump: aggressing requests that wait before they may meet the book.

At most one request waits per order. A cancel in that time does not stop it but makes it
immediate-or-cancel (`ioc_reason`), and a newer edit of the same order replaces it. The queue is
bounded; a full queue refuses with 10047 before anything else happened.
"""

from collections.abc import Sequence
from copy import copy
from heapq import heappop, heappush

import msgspec

from mm_daemon.sim.exchange_errors import Code, VenueError
from mm_daemon.sim.exchange_types import (
    Caller,
    CancelReason,
    MassQuoteReply,
    Order,
    QuoteError,
    UserTrade,
)


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What an order, edit or quote side asks for, checked.

    `amount_e8` is what may still trade; an edit also says the `total_e8` with what was filled.
    """

    price_e8: int | None
    amount_e8: int
    total_e8: int | None = None
    post_only: bool = False
    reject_post_only: bool = False


class QuoteBatch:
    """The sides of one mass quote that are answered together when the last leaves the bump."""

    __slots__ = ("caller", "errors", "orders", "outstanding", "promised", "ticket", "trades")

    def __init__(self, caller: Caller, ticket: int) -> None:
        self.caller = caller
        self.ticket = ticket
        self.orders: list[Order] = []
        self.trades: list[UserTrade] = []
        self.errors: list[QuoteError] = []
        self.outstanding = 0
        self.promised = False

    def succeeded(self, order: Order, trades: Sequence[UserTrade]) -> None:
        self.orders.append(copy(order))
        self.trades.extend(trades)

    def failed(self, instrument: str, sign: int, refusal: VenueError) -> None:
        self.errors.append(
            QuoteError(
                instrument=instrument,
                sign=sign,
                code=int(refusal.code),
                message=refusal.message,
            )
        )

    def reply(self) -> MassQuoteReply:
        return MassQuoteReply(
            orders=tuple(self.orders),
            trades=tuple(self.trades),
            errors=tuple(self.errors),
            pending_requests=self.outstanding,
        )


class Waiting(msgspec.Struct, kw_only=True, eq=False):
    """One aggressor in the bump. `is_new` says that its order never rested."""

    due_us: int
    ticket: int
    order: Order
    terms: Terms
    is_new: bool
    batch: QuoteBatch | None = None
    ioc_reason: CancelReason = CancelReason.NONE
    dropped: bool = False


class PendingQueue:
    """Waiting aggressors in order of release."""

    def __init__(self, waiting_max: int) -> None:
        self._waiting_max = waiting_max
        self._heap: list[tuple[int, int, Waiting]] = []
        self._by_order: dict[int, Waiting] = {}
        self._seq = 0

    def add(self, waiting: Waiting) -> None:
        if len(self._by_order) >= self._waiting_max:
            raise VenueError(Code.MATCHING_ENGINE_QUEUE_FULL)
        assert waiting.order.seq not in self._by_order
        self._seq += 1
        heappush(self._heap, (waiting.due_us, self._seq, waiting))
        self._by_order[waiting.order.seq] = waiting

    def of_order(self, order: Order) -> Waiting | None:
        return self._by_order.get(order.seq)

    def drop(self, waiting: Waiting) -> None:
        """Forgets a request that was replaced; its slot in the heap is skipped when due."""
        waiting.dropped = True
        del self._by_order[waiting.order.seq]

    def next_due_us(self) -> int | None:
        while self._heap and self._heap[0][2].dropped:
            heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def pop_due(self, now_us: int) -> Waiting | None:
        """The next request whose bump is over, or None."""
        due_us = self.next_due_us()
        if due_us is None or due_us > now_us:
            return None
        waiting = heappop(self._heap)[2]
        del self._by_order[waiting.order.seq]
        return waiting

    def waiting(self) -> list[Waiting]:
        """All that wait, by order of arrival."""
        return list(self._by_order.values())
