"""The judging half of a reconcile: one consistent picture of the venue against our books.

Trades are booked first, then orders take the newest evidence, and only then anything is compared,
so that what a stream lost is repaired and not reported. What still differs is a break with its
numbers. Nothing is adjusted here: `adjustments` says what would be, and is asked only on a person's
word.

Orders of ours from an earlier epoch are nobody's any more and are to be cancelled; orders that are
not ours count as rogue; an order of a newer epoch means that we have lost the fence.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np

from mm_daemon.core import absence
from mm_daemon.core.adjustments import adjustment_of
from mm_daemon.core.catalog import Catalog, Ints
from mm_daemon.core.client_ids import ClientIds, Owner
from mm_daemon.core.fill_keys import key_of
from mm_daemon.core.order_state import WorkingOrder
from mm_daemon.core.portfolio import Booking, Portfolio
from mm_daemon.core.reconcile import Cut, Task
from mm_daemon.core.working_orders import WorkingOrders
from mm_daemon.domain.intents import CancelOrder, ReadOrder
from mm_daemon.domain.orders import FillEvidence, OrderEvidence, VenueStatus
from mm_daemon.domain.outputs import AdjustRecord
from mm_daemon.domain.units import CoinE8, Ns

TARGETED_READS_MAX = 5
"""Orders read one by one after each pass over open orders."""


class Break(msgspec.Struct, frozen=True):
    """One difference: lots of a position or of missing trades, 1e-8 of a currency for cash."""

    kind: str
    """order | fill | position | cash"""
    name: str
    ours: int
    venue: int


class Conclusion(msgspec.Struct, frozen=True):
    """What a cut came to."""

    task: Task
    is_clean: bool
    """No break of orders, fills or positions, and the cut was consistent. Cash is reported apart:
    the venue moves it for reasons of its own (settlement, transfers)."""
    breaks: tuple[Break, ...]
    fills_applied: tuple[FillEvidence, ...]
    foreign: tuple[str, ...]
    """Venue ids of open orders that are not ours (C30)."""
    newer_epoch_seen: bool
    cancels: tuple[tuple[str, str, str], ...]
    """(order id, client id, currency) of our own leftovers."""
    cancel_quotes: bool
    """Quotes that no message of this run has made still rest: all quotes are to be cancelled."""
    settled: tuple[tuple[str, CoinE8], ...]
    """(currency, amount) that the day's settlement moved from session result into cash."""
    concluded: int
    """Orders and requests ended because reads proved them gone."""
    repeats: int


class Books(msgspec.Struct, frozen=True):
    """What a reconcile works on."""

    catalog: Catalog
    working: WorkingOrders
    portfolio: Portfolio
    client_ids: ClientIds
    groups: tuple[str, ...]
    """MMP groups that are ours."""


def judge(cut: Cut, books: Books, now_ns: Ns) -> Conclusion:
    """Applies a cut to the books, then compares them."""
    portfolio, working = books.portfolio, books.working
    is_opening = cut.task is Task.START and not portfolio.is_open
    applied: list[FillEvidence] = []
    if is_opening and cut.is_consistent:
        _open_books(cut, portfolio)
    elif not is_opening:
        applied = _apply_fills(cut, books, now_ns)
    owned = _Owned()
    if cut.orders is not None:
        unseen = _unseen_quotes(cut, working)
        absence.note_open_orders(working, cut.orders, Ns(cut.orders_sent_ns), now_ns)
        for evidence in cut.orders.orders:
            _own(evidence, books, unseen, owned)
    concluded = 0
    if cut.trades_sent_ns:
        concluded = absence.conclude(working, Ns(cut.trades_sent_ns), now_ns)
    breaks = _fill_breaks(cut, books) if portfolio.is_open else []
    settled: dict[str, CoinE8] = {}
    if cut.is_consistent and portfolio.is_open:
        breaks += _position_breaks(cut, books)
        if cut.accounts is not None and not breaks:
            # A delivery or a trade that is still to be booked would be taken for a settlement.
            settled = portfolio.settle_if_due(cut.accounts.accounts)
        breaks += _cash_breaks(cut, portfolio)
    is_broken = any(one.kind != "cash" for one in breaks)
    has_leftovers = bool(owned.cancels or owned.has_old_quotes)
    return Conclusion(
        task=cut.task,
        is_clean=cut.is_consistent
        and portfolio.is_open
        and not is_broken
        and not (has_leftovers and cut.task is Task.START)
        and not owned.newer_epoch_seen,
        breaks=tuple(breaks),
        fills_applied=tuple(applied),
        foreign=tuple(owned.foreign),
        newer_epoch_seen=owned.newer_epoch_seen,
        cancels=tuple(owned.cancels),
        cancel_quotes=owned.has_old_quotes and cut.task is Task.START,
        settled=tuple(settled.items()),
        concluded=concluded,
        repeats=cut.repeats,
    )


def targeted_reads(
    books: Books, next_id: Callable[[], int], now_ns: Ns
) -> list[tuple[ReadOrder, WorkingOrder]]:
    """Reads of single orders that deserve one, each with the order that its answer is about."""
    reads: list[tuple[ReadOrder, WorkingOrder]] = []
    for order in absence.suspects(books.working, now_ns):
        currency = _currency_of(order.instrument_id, books)
        reads.append((ReadOrder(next_id(), order.order_id, order.client_id, currency), order))
        if len(reads) == TARGETED_READS_MAX:
            break
    return reads


def cancels(conclusion: Conclusion, next_id: Callable[[], int]) -> list[CancelOrder]:
    """Cancels of our own leftovers."""
    return [
        CancelOrder(next_id(), order_id, client_id, currency)
        for order_id, client_id, currency in conclusion.cancels
    ]


def adjustments(conclusion: Conclusion, cut: Cut, books: Books) -> list[AdjustRecord]:
    """What would take our positions to the venue's, valued at the venue's mark.

    The last resort, on a person's word only: the venue is right and we do not know why. Cash is
    left alone: the day's settlement takes the venue's.
    """
    if cut.positions is None or cut.accounts is None or not cut.is_consistent:
        return []
    marks = {one.instrument_id: one.mark_price_e8 for one in cut.positions.positions}
    ts_venue_ns = max((one.ts_venue_ns for one in cut.accounts.accounts), default=0)
    wanted = []
    for one in conclusion.breaks:
        if one.kind == "position" and one.name in books.catalog.id_of:
            id_ = books.catalog.id_of[one.name]
            price_e8 = marks.get(id_) or books.portfolio.average_price_e8(id_)
            wanted.append(
                adjustment_of(
                    one.name,
                    ours=one.ours,
                    venue=one.venue,
                    price_e8=price_e8,
                    ts_venue_ns=ts_venue_ns,
                )
            )
    return wanted


def fills_since(cut: Cut, books: Books) -> list[FillEvidence]:
    """What has been booked since the picture was begun and is not in it."""
    newer = books.portfolio.booked - cut.booked_before
    recent = list(books.portfolio.recent)[-newer:] if newer > 0 else []
    instruments = books.catalog.instruments
    return [one for one in recent if key_of(instruments[one.instrument_id], one) not in cut.keys]


class _Owned(msgspec.Struct):
    foreign: list[str] = []
    cancels: list[tuple[str, str, str]] = []
    newer_epoch_seen: bool = False
    has_old_quotes: bool = False


def _open_books(cut: Cut, portfolio: Portfolio) -> None:
    """The first picture of an account that we have no books of: the trades in it are already part
    of its positions."""
    assert cut.accounts is not None
    assert cut.positions is not None
    for fill in cut.fills:
        portfolio.mark_seen(fill)
    since_ns = Ns(max(cut.since_ns.values(), default=0))
    portfolio.open_books(cut.accounts.accounts, cut.positions.positions, since_ns)


def _apply_fills(cut: Cut, books: Books, now_ns: Ns) -> list[FillEvidence]:
    applied: list[FillEvidence] = []
    for fill in [*cut.fills]:
        if books.portfolio.book(fill) is Booking.APPLIED:
            books.working.on_fill(fill, now_ns)
            applied.append(fill)
    for fill in books.portfolio.retry_parked():
        books.working.on_fill(fill, now_ns)
        applied.append(fill)
    return applied


def _unseen_quotes(cut: Cut, working: WorkingOrders) -> dict[str, None]:
    """Quotes of the read that nothing of this run can have made: no record, no open request."""
    assert cut.orders is not None
    unseen: dict[str, None] = {}
    for evidence in cut.orders.orders:
        if evidence.is_quote and evidence.order_id not in working.by_order_id:
            state = working.side(evidence.instrument_id, 0 if evidence.side > 0 else 1)
            if not state.requests:
                unseen[evidence.order_id] = None
    return unseen


def _own(evidence: OrderEvidence, books: Books, unseen: dict[str, None], owned: _Owned) -> None:
    """Whose order this is, and what follows from it."""
    if evidence.is_quote:
        if evidence.mmp_group not in books.groups:
            owned.foreign.append(evidence.order_id)
        elif evidence.order_id in unseen:
            owned.has_old_quotes = True
        return
    owner = books.client_ids.owner(evidence.client_id)
    if owner is Owner.FOREIGN:
        owned.foreign.append(evidence.order_id)
    elif owner is Owner.NEWER_EPOCH:
        owned.newer_epoch_seen = True
    elif owner is Owner.OLDER_EPOCH:
        currency = _currency_of(evidence.instrument_id, books)
        owned.cancels.append((evidence.order_id, evidence.client_id, currency))


def _currency_of(instrument_id: int, books: Books) -> str:
    """Empty where the instrument is not in the catalogue yet: its orders go by venue id."""
    if not 0 <= instrument_id < len(books.catalog):
        return ""
    return books.catalog.instruments[instrument_id].settle_currency


def _fill_breaks(cut: Cut, books: Books) -> list[Break]:
    """Trades that cannot be booked, and final orders whose trades are not all there although they
    were read after the order had ended."""
    breaks = [
        Break("fill", fill.trade_id, 0, fill.lots if isinstance(fill, FillEvidence) else 1)
        for fill in books.portfolio.parked
    ]
    for order in books.working.open_orders():
        is_trades_only = order.is_foreign and order.status is VenueStatus.UNSEEN
        if not (is_trades_only and order.booked_lots):
            continue
        if books.client_ids.owner(order.client_id) in (Owner.FOREIGN, Owner.NEWER_EPOCH):
            # Until it was read by itself, nobody knows what it is doing on our account.
            breaks.append(Break("order", order.order_id, 0, order.booked_lots))
    if not cut.trades_sent_ns:
        return breaks
    for order in books.working.open_orders():
        is_over = order.status.is_terminal and order.pending == 0
        is_old = order.active_ns + absence.GRACE_NS <= cut.trades_sent_ns
        if is_over and is_old and order.booked_lots < order.venue_filled_lots:
            name = order.order_id or order.client_id
            breaks.append(Break("fill", name, order.booked_lots, order.venue_filled_lots))
    return breaks


def _position_breaks(cut: Cut, books: Books) -> list[Break]:
    if cut.positions is None:
        return []
    venue: dict[int, int] = {}
    breaks: list[Break] = []
    for position in cut.positions.positions:
        if 0 <= position.instrument_id < len(books.catalog):
            venue[position.instrument_id] = position.lots
        elif position.lots:
            breaks.append(Break("position", "unknown instrument", 0, position.lots))
    ours = books.portfolio.position_lots - _lots_since(cut, books)
    for instrument in books.catalog.instruments:
        held = int(ours[instrument.id])
        stated = venue.get(instrument.id, 0)
        if held != stated:
            breaks.append(Break("position", instrument.name, held, stated))
    for name, holding in books.portfolio.orphans.items():
        if holding.lots:
            breaks.append(Break("position", name, holding.lots, 0))
    return breaks


def _lots_since(cut: Cut, books: Books) -> Ints:
    """What has been booked since the picture was begun and is not in it."""
    lots = np.zeros(len(books.catalog), dtype=np.int64)
    for fill in fills_since(cut, books):
        lots[fill.instrument_id] += int(fill.side) * fill.lots
    return lots


def _cash_breaks(cut: Cut, portfolio: Portfolio) -> list[Break]:
    if cut.accounts is None:
        return []
    return [
        Break("cash", account.currency, ours, account.balance_e8)
        for account in cut.accounts.accounts
        if (ours := portfolio.cash_e8.get(account.currency, 0)) != account.balance_e8
    ]
