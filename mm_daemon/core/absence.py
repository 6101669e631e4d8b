"""What reads of the venue prove about orders that are not in them.

Absence is not cancellation. A read says something of an order only if it was begun after every
request that may act on the order had run out (`valid_until`) and after the grace that the venue's
own stores need to agree. Two such looks a grace apart, and own trades read after the last of them,
together stand in for the final word; one alone never does. A present order answers itself.
"""

from __future__ import annotations

from collections.abc import Iterator

from mm_daemon.core.order_state import QuoteRequest, Verdict, WorkingOrder
from mm_daemon.core.working_orders import WorkingOrders
from mm_daemon.domain.events import OpenOrdersRead, OrderRead
from mm_daemon.domain.orders import OrderEvidence
from mm_daemon.domain.units import NS_PER_S, Ns

GRACE_NS = 2 * NS_PER_S
"""A read says nothing of what acted less than this before it was begun."""
VALID_UNTIL_MARGIN_NS = NS_PER_S
"""Allowance for the difference between the venue's clock and ours on `valid_until`."""
LOOKS = 2


def note_open_orders(working: WorkingOrders, read: OpenOrdersRead, sent_ns: Ns, now_ns: Ns) -> None:
    """Takes a complete read of open orders that was begun at `sent_ns`."""
    present: dict[str, None] = {}
    for evidence in read.orders:
        present[evidence.order_id] = None
        _answer_by_read(working, evidence, sent_ns, now_ns)
    for state in working.sides():
        is_changed = False
        for order in state.orders:
            if order.order_id not in present and _is_telling(order, sent_ns):
                _mark_absent(order, sent_ns)
                is_changed = is_changed or order.rests
                order.rests = False
        for request in state.requests:
            if request.is_unknown and sent_ns > request.valid_until_ns + VALID_UNTIL_MARGIN_NS:
                # Whether its quote shows or not, the request can do nothing more: what it may
                # have filled is in the trades.
                _mark_absent(request, sent_ns)
        if is_changed:
            working.refresh(state)


def note_order(
    working: WorkingOrders, order: WorkingOrder, read: OrderRead, sent_ns: Ns, now_ns: Ns
) -> None:
    """Takes a targeted read of `order` that was begun at `sent_ns`."""
    if read.order is None:
        if _is_telling(order, sent_ns):
            _mark_absent(order, sent_ns)
        return
    _answer_by_read(working, read.order, sent_ns, now_ns)


def conclude(working: WorkingOrders, trades_sent_ns: Ns, now_ns: Ns) -> int:
    """Ends what is proved gone, once own trades begun to be read at `trades_sent_ns` are booked;
    returns how many."""
    gone = [order for order in working.open_orders() if _is_gone(order, trades_sent_ns)]
    for order in gone:
        working.conclude_absent(order, now_ns)
    dropped = 0
    for state in list(working.sides()):
        for request in [r for r in state.requests if _is_gone(r, trades_sent_ns)]:
            working.drop_request(state, request)
            dropped += 1
    return len(gone) + dropped


def suspects(working: WorkingOrders, now_ns: Ns) -> Iterator[WorkingOrder]:
    """Orders that deserve a read of their own: contradicted, absent, or long without an answer."""
    for order in working.open_orders():
        if order.pending or now_ns < order.active_ns + GRACE_NS:
            continue
        if now_ns < order.valid_until_ns + VALID_UNTIL_MARGIN_NS:
            continue
        if not order.order_id and not order.client_id:
            continue
        is_live = not order.status.is_terminal
        if is_live and (order.is_suspect or order.is_unknown or order.absent_reads):
            yield order


def _answer_by_read(
    working: WorkingOrders, evidence: OrderEvidence, sent_ns: int, now_ns: Ns
) -> None:
    verdict = working.on_order(evidence, now_ns)
    order = working.by_order_id[evidence.order_id]
    order.is_suspect = False
    if order.claims and sent_ns > order.valid_until_ns + VALID_UNTIL_MARGIN_NS:
        working.settle_unknown(order, now_ns)
    is_tied = order.tied_ns > 0 and verdict is not Verdict.STALE and order.pending == 0
    if is_tied and sent_ns >= order.tied_ns + GRACE_NS:
        working.settle_tie(order, evidence)


def _is_telling(order: WorkingOrder, sent_ns: int) -> bool:
    """Whether a read begun at `sent_ns` must show this order if it is open."""
    return (
        not order.status.is_terminal
        and order.pending == 0
        and sent_ns >= order.active_ns + GRACE_NS
        and sent_ns > order.valid_until_ns + VALID_UNTIL_MARGIN_NS
    )


def _mark_absent(absentee: WorkingOrder | QuoteRequest, sent_ns: int) -> None:
    if absentee.absent_reads and sent_ns < absentee.absent_last_ns + GRACE_NS:
        return
    if absentee.absent_reads == 0:
        absentee.absent_since_ns = sent_ns
    absentee.absent_reads += 1
    absentee.absent_last_ns = sent_ns


def _is_gone(absentee: WorkingOrder | QuoteRequest, trades_sent_ns: int) -> bool:
    return absentee.absent_reads >= LOOKS and trades_sent_ns >= absentee.absent_last_ns
