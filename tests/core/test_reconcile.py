"""One consistent picture of the venue, whatever it takes; and what differs from it is said."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mm_daemon.core.client_ids import ClientIds
from mm_daemon.core.portfolio import Booking, Portfolio
from mm_daemon.core.reconcile import PAGE_TRADES, REPEATS_MAX, Cut, Reconciler, Task
from mm_daemon.core.reconcile_verdict import (
    Books,
    Break,
    Conclusion,
    adjustments,
    cancels,
    judge,
    targeted_reads,
)
from mm_daemon.core.working_orders import WorkingOrders
from mm_daemon.domain.events import (
    AccountsRead,
    OpenOrdersRead,
    PositionsRead,
    QueryFailed,
    RequestDone,
    TradesRead,
)
from mm_daemon.domain.intents import (
    MassQuote,
    PlaceOrder,
    QuoteEntry,
    ReadAccounts,
    ReadOpenOrders,
    ReadPositions,
    ReadTrades,
)
from mm_daemon.domain.orders import (
    AccountEvidence,
    FillEvidence,
    OrderEvidence,
    PositionEvidence,
    Purpose,
    RejectReason,
    TimeInForce,
    VenueStatus,
)
from mm_daemon.domain.units import NS_PER_DAY, NS_PER_MS, NS_PER_S, CoinE8, Lots, Ns, Side, Ticks
from tests.core.account_params import params
from tests.core.account_world import (
    CALL,
    GROUP,
    PUT,
    T0,
    fill_evidence,
    order_evidence,
    small_catalog,
)

CATALOG = small_catalog()
START_NS = Ns(T0 + 1_000 * NS_PER_S)


class Venue:
    """Answers reads truthfully; a test may let trades happen between two of them."""

    def __init__(self) -> None:
        self.fills: list[FillEvidence] = []
        self.orders: list[OrderEvidence] = []
        self.lots = dict.fromkeys(range(len(CATALOG)), 0)
        self.cash_e8 = 100 * 10**8
        self.page = PAGE_TRADES
        self.ts_ns = START_NS
        self.asked: list[Any] = []

    def trade(self, trade_id: str, side: Side, lots: int, ts: int, **more: Any) -> FillEvidence:
        fill = fill_evidence(trade_id, "q1", CALL, side, lots, ts=ts, **more)
        self.fills.append(fill)
        self.lots[CALL] += int(side) * lots
        self.cash_e8 -= int(side) * lots * 500_000
        return fill

    def answer(self, intent: Any) -> Any:
        self.asked.append(intent)
        id_ = intent.request_id
        if isinstance(intent, ReadOpenOrders):
            return OpenOrdersRead(id_, tuple(self.orders), Ns(0))
        if isinstance(intent, ReadTrades):
            mine = [
                fill
                for fill in sorted(self.fills, key=lambda fill: fill.ts_venue_ns)
                if CATALOG.instruments[fill.instrument_id].settle_currency == intent.currency
                and fill.ts_venue_ns >= intent.since_venue_ns // NS_PER_MS * NS_PER_MS
            ]
            return TradesRead(id_, intent.currency, tuple(mine[: self.page]), len(mine) > self.page)
        if isinstance(intent, ReadPositions):
            return PositionsRead(
                id_,
                tuple(
                    PositionEvidence(i, Lots(n), 5_000_000, 5_000_000, CoinE8(0), START_NS)
                    for i, n in self.lots.items()
                    if n
                ),
            )
        assert isinstance(intent, ReadAccounts)
        stated = account("BTC", self.cash_e8, self.ts_ns), account("USDC", 0, self.ts_ns)
        return AccountsRead(id_, stated)


def account(currency: str, balance_e8: int, ts_ns: Ns = START_NS) -> AccountEvidence:
    zero = CoinE8(0)
    return AccountEvidence(
        currency=currency,
        equity_e8=CoinE8(balance_e8),
        balance_e8=CoinE8(balance_e8),
        margin_balance_e8=CoinE8(balance_e8),
        available_e8=CoinE8(balance_e8),
        initial_margin_e8=zero,
        maintenance_margin_e8=zero,
        session_upl_e8=zero,
        session_rpl_e8=zero,
        options_value_e8=zero,
        delta_total=0.0,
        portfolio_margin=True,
        ts_venue_ns=ts_ns,
    )


class Desk:
    """Books, a reconciler and the venue that they are reconciled with."""

    def __init__(self) -> None:
        self.venue = Venue()
        self.reconciler = Reconciler(params(), ("BTC", "USDC"))
        self.working = WorkingOrders(CATALOG)
        self.portfolio = Portfolio(CATALOG)
        self.books = Books(CATALOG, self.working, self.portfolio, ClientIds("sa", 7, 0), (GROUP,))
        self.now = int(START_NS)
        self.ids = 100
        self.last_cut: Cut | None = None

    def next_id(self) -> int:
        self.ids += 1
        return self.ids

    def ask(self, now: int | None = None) -> list[Any]:
        at = Ns(self.now if now is None else now)
        return list(self.reconciler.poll(self.portfolio, self.next_id, at, can_read=True))

    def step(self, spoil: Any = None) -> Cut | None:
        """Asks and answers one question; `spoil` may replace the answer."""
        intents = self.ask()
        self.now += 10 * NS_PER_MS
        for intent in intents:
            answer = self.venue.answer(intent)
            if spoil is not None:
                answer = spoil(intent, answer)
            return self.reconciler.on_answer(answer, Ns(self.now))
        return None

    def run(self, task: Task) -> Conclusion:
        """Asks until the task is complete, and judges it."""
        self.reconciler.request(task, Ns(self.now))
        for _ in range(200):
            cut = self.step()
            if cut is not None:
                self.last_cut = cut
                return judge(cut, self.books, Ns(self.now))
        raise AssertionError("the task never completed")

    def stream(self, fill: FillEvidence) -> None:
        if self.portfolio.book(fill) is Booking.APPLIED:
            self.working.on_fill(fill, Ns(self.now))


@pytest.fixture
def desk() -> Desk:
    opened = Desk()
    assert opened.run(Task.START).is_clean
    return opened


def test_the_start_takes_positions_and_cash_of_which_there_are_no_books() -> None:
    desk = Desk()
    fill = desk.venue.trade("t1", Side.BUY, 7, 900 * NS_PER_S)
    conclusion = desk.run(Task.START)
    assert conclusion.is_clean
    assert conclusion.fills_applied == ()
    assert int(desk.portfolio.position_lots[CALL]) == 7
    desk.stream(fill)
    assert int(desk.portfolio.position_lots[CALL]) == 7, "it is part of the adopted position"
    desk.stream(desk.venue.trade("t2", Side.SELL, 3, 2_000 * NS_PER_S))
    assert int(desk.portfolio.position_lots[CALL]) == 4
    assert desk.run(Task.FULL).is_clean


def test_the_start_holds_the_streams_until_its_picture_is_complete() -> None:
    desk = Desk()
    assert not desk.reconciler.is_holding
    desk.reconciler.request(Task.START, Ns(desk.now))
    assert desk.reconciler.is_holding
    desk.reconciler.hold(desk.venue.trade("t1", Side.BUY, 7, 900 * NS_PER_S))
    assert desk.run(Task.START).is_clean
    assert not desk.reconciler.is_holding
    (held,) = desk.reconciler.take_held()
    assert isinstance(held, FillEvidence)
    desk.stream(held)
    assert int(desk.portfolio.position_lots[CALL]) == 7


def test_a_fill_that_the_stream_lost_is_booked_and_no_break(desk: Desk) -> None:
    lost = desk.venue.trade("t1", Side.BUY, 7, 2_000 * NS_PER_S)
    conclusion = desk.run(Task.FULL)
    assert conclusion.fills_applied == (lost,)
    assert conclusion.is_clean
    assert conclusion.breaks == ()
    assert desk.run(Task.FULL).fills_applied == ()


def test_a_ghost_fill_is_a_break_with_its_numbers(desk: Desk) -> None:
    desk.stream(fill_evidence("ghost", "q", PUT, Side.BUY, 4, ts=900 * NS_PER_S))
    conclusion = desk.run(Task.POSITIONS)
    assert not conclusion.is_clean
    assert Break("position", "BTC-N-P", 4, 0) in conclusion.breaks
    assert Break("cash", "BTC", 99_98000000, 100_00000000) in conclusion.breaks


def test_a_position_that_our_books_do_not_know_is_a_break_with_its_numbers(desk: Desk) -> None:
    desk.venue.lots[PUT] = -3
    conclusion = desk.run(Task.POSITIONS)
    assert not conclusion.is_clean
    assert conclusion.breaks == (Break("position", "BTC-N-P", 0, -3),)


def test_cash_alone_is_reported_and_not_broken(desk: Desk) -> None:
    desk.venue.cash_e8 += 5
    conclusion = desk.run(Task.FULL)
    assert conclusion.is_clean
    assert conclusion.breaks == (Break("cash", "BTC", 100_00000000, 100_00000005),)


def test_a_settlement_moves_session_result_into_cash_once_a_day(desk: Desk) -> None:
    """The venue says only its balance; equity stays what it was."""
    marks = [0] * len(CATALOG)
    before = desk.portfolio.equity("BTC", marks).equity_e8
    desk.venue.cash_e8 += 700
    desk.venue.ts_ns = Ns(START_NS + NS_PER_DAY)
    conclusion = desk.run(Task.FULL)
    assert dict(conclusion.settled) == {"BTC": 700, "USDC": 0}
    assert conclusion.breaks == ()
    assert desk.portfolio.equity("BTC", marks).equity_e8 == before
    assert desk.portfolio.cash_e8["BTC"] == desk.venue.cash_e8
    desk.venue.cash_e8 += 1
    conclusion = desk.run(Task.FULL)
    assert conclusion.settled == ()
    assert [one.kind for one in conclusion.breaks] == ["cash"]


def test_a_settlement_is_not_taken_while_a_position_differs(desk: Desk) -> None:
    """A delivery that is still to be booked would be counted twice: now, and when it is."""
    desk.venue.cash_e8 += 700
    desk.venue.lots[CALL] += 3
    desk.venue.ts_ns = Ns(START_NS + NS_PER_DAY)
    assert desk.run(Task.FULL).settled == ()
    desk.venue.lots[CALL] -= 3
    assert dict(desk.run(Task.FULL).settled) == {"BTC": 700, "USDC": 0}


def test_a_settlement_waits_for_the_delivery_of_what_is_over(desk: Desk) -> None:
    """Positions were read just before eight and balances just after: the payment is in these."""
    desk.stream(desk.venue.trade("t1", Side.BUY, 2, int(START_NS)))
    over = Ns(CATALOG.instruments[CALL].expiry_ns + NS_PER_DAY)
    desk.venue.cash_e8 += 700
    desk.venue.ts_ns = over
    assert desk.run(Task.FULL).settled == ()
    paid = desk.portfolio.deliver(CALL, 60_000 * 10**8)
    desk.venue.lots[CALL] = 0
    desk.venue.cash_e8 += paid
    assert dict(desk.run(Task.FULL).settled) == {"BTC": 700, "USDC": 0}


def test_a_fill_after_the_picture_is_no_break(desk: Desk) -> None:
    desk.reconciler.request(Task.POSITIONS, Ns(desk.now))
    cut = None
    while cut is None:
        cut = desk.step()
    desk.stream(desk.venue.trade("t9", Side.BUY, 2, 3_000 * NS_PER_S))
    conclusion = judge(cut, desk.books, Ns(desk.now))
    assert [one for one in conclusion.breaks if one.kind == "position"] == []


def test_trades_while_reading_repeat_the_cut(desk: Desk) -> None:
    """A trade lands between the first reading of trades and the positions."""
    desk.reconciler.request(Task.FULL, Ns(desk.now))
    desk.step()
    desk.step()
    desk.venue.trade("t1", Side.BUY, 3, 2_000 * NS_PER_S)
    cut = None
    while cut is None:
        cut = desk.step()
    assert (cut.repeats, cut.is_consistent) == (1, True)
    assert judge(cut, desk.books, Ns(desk.now)).is_clean


def test_a_cut_that_never_comes_to_rest_is_given_up_and_tried_later(desk: Desk) -> None:
    count = 0

    def busy(intent: Any, answer: Any) -> Any:
        nonlocal count
        if isinstance(intent, ReadTrades):
            count += 1
            desk.venue.trade(f"b{count}", Side.BUY, 1, 2_000 * NS_PER_S + count * NS_PER_MS)
        return answer

    desk.reconciler.request(Task.FULL, Ns(desk.now))
    cut = None
    while cut is None:
        cut = desk.step(busy)
    assert (cut.repeats, cut.is_consistent) == (REPEATS_MAX, False)
    conclusion = judge(cut, desk.books, Ns(desk.now))
    assert not conclusion.is_clean
    assert not [one for one in conclusion.breaks if one.kind == "position"], "nothing compared"
    deadline = desk.reconciler.next_deadline_ns()
    assert deadline is not None
    desk.now = deadline
    assert desk.run(Task.FULL).is_clean


def test_a_failed_query_is_repeated_and_never_empty(desk: Desk) -> None:
    desk.venue.trade("t1", Side.BUY, 3, 2_000 * NS_PER_S)
    desk.reconciler.request(Task.FULL, Ns(desk.now))
    failures = iter([True, True, False, True, False, False, True, False, False, False, False])

    def flaky(intent: Any, answer: Any) -> Any:
        if next(failures, False):
            return QueryFailed(intent.request_id, 10_040, "retry")
        return answer

    cut = None
    while cut is None:
        cut = desk.step(flaky)
    assert desk.reconciler.queries_failed == 4
    conclusion = judge(cut, desk.books, Ns(desk.now))
    assert conclusion.is_clean
    assert len(conclusion.fills_applied) == 1


def test_a_failed_query_waits_longer_each_time() -> None:
    desk = Desk()
    desk.reconciler.request(Task.ORDERS, Ns(desk.now))
    waits = []
    for _ in range(7):
        (intent,) = desk.ask()
        desk.reconciler.on_answer(QueryFailed(intent.request_id, 0, ""), Ns(desk.now))
        due = desk.reconciler.next_deadline_ns()
        assert due is not None
        waits.append((due - desk.now) // NS_PER_MS)
        assert desk.ask(due - 1) == []
        desk.now = due
    longest = (250, 500, 1_000, 2_000, 4_000, 5_000, 5_000)
    for wait, most in zip(waits, longest, strict=True):
        assert 0.75 * most - 1 <= wait <= most


def test_instances_that_failed_together_do_not_come_back_together() -> None:
    waits = []
    for seed in range(8):
        reconciler = Reconciler(params(), ("BTC",), seed)
        reconciler.request(Task.ORDERS, T0)
        (intent,) = reconciler.poll(Portfolio(CATALOG), lambda: 1, T0, can_read=True)
        reconciler.on_answer(QueryFailed(intent.request_id, 0, ""), T0)
        waits.append(reconciler.next_deadline_ns())
    assert len(set(waits)) == len(waits)


def test_an_overdue_query_is_asked_again_and_its_late_answer_dropped() -> None:
    desk = Desk()
    desk.reconciler.request(Task.ORDERS, Ns(desk.now))
    (first,) = desk.ask()
    desk.now += 4 * NS_PER_S
    assert desk.ask() == []
    desk.now += NS_PER_S
    (second,) = desk.ask()
    assert second.request_id != first.request_id
    assert desk.reconciler.on_answer(desk.venue.answer(first), Ns(desk.now)) is None
    assert desk.reconciler.on_answer(desk.venue.answer(second), Ns(desk.now)) is not None


def test_nothing_is_asked_without_a_session() -> None:
    desk = Desk()
    desk.reconciler.request(Task.START, Ns(desk.now))
    assert desk.reconciler.poll(desk.portfolio, desk.next_id, Ns(desk.now), can_read=False) == []


def test_trades_are_paged_with_overlap_until_the_end(desk: Desk) -> None:
    for k in range(25):
        desk.venue.trade(f"p{k}", Side.BUY, 1, 2_000 * NS_PER_S + (k // 3) * NS_PER_MS)
    desk.venue.page = 10
    conclusion = desk.run(Task.TRADES)
    assert len(conclusion.fills_applied) == 25
    first = next(one for one in reversed(desk.venue.asked) if isinstance(one, ReadTrades))
    assert first.since_venue_ns <= START_NS - 300 * NS_PER_S or first.currency == "USDC"


def test_a_page_of_one_millisecond_does_not_hang(desk: Desk) -> None:
    for k in range(8):
        desk.venue.trade(f"p{k}", Side.BUY, 1, 2_000 * NS_PER_S)
    desk.venue.page = 5
    conclusion = desk.run(Task.POSITIONS)
    assert len(conclusion.fills_applied) == 5
    assert Break("position", "BTC-N-C", 5, 8) in conclusion.breaks, "what was lost is seen"


def test_the_start_goes_back_to_the_newest_booked_trade() -> None:
    desk = Desk()
    desk.portfolio.open_books((account("BTC", 0),), (), Ns(0))
    desk.stream(fill_evidence("old", "q", CALL, Side.BUY, 1, ts=0))
    desk.reconciler.request(Task.START, Ns(desk.now))
    (intent,) = desk.ask()
    assert isinstance(intent, ReadTrades)
    assert intent.since_venue_ns == T0 - 300 * NS_PER_S


def follow(desk: Desk, duration_ns: int) -> None:
    """Lets the tasks come round by themselves, with a checkpoint's forgetting after each."""
    end = desk.now + duration_ns
    while (due := desk.reconciler.next_deadline_ns()) is not None and due <= end:
        desk.now = max(desk.now, due)
        desk.venue.ts_ns = Ns(desk.now)
        cut = desk.step()
        if cut is None:
            continue
        conclusion = judge(cut, desk.books, Ns(desk.now))
        assert (conclusion.is_clean, conclusion.breaks) == (True, ()), desk.portfolio.parked
        desk.portfolio.forget_keys(Ns(desk.now))
    desk.now = end


def slow_desk() -> Desk:
    """Two days go by in few questions: the paces are a thousandth of the usual ones."""
    desk = Desk()
    hours = {
        "reconcile_orders_s": 40_000.0,
        "reconcile_trades_s": 3_600.0,
        "reconcile_positions_s": 20_000.0,
    }
    desk.reconciler = Reconciler(msgspec.structs.replace(params(), **hours), ("BTC", "USDC"))
    return desk


def test_two_quiet_days_do_not_make_the_last_fill_a_strange_one() -> None:
    """Its key is forgotten after a day; the venue would tell it again, were it asked."""
    desk = slow_desk()
    assert desk.run(Task.START).is_clean
    desk.now += NS_PER_S
    last = desk.venue.trade("last", Side.BUY, 7, desk.now - T0)
    desk.stream(last)
    follow(desk, 2 * NS_PER_DAY)
    assert desk.portfolio.keys.from_ns > last.ts_venue_ns
    new = desk.venue.trade("new", Side.SELL, 3, desk.now - T0)
    desk.now += NS_PER_S
    assert desk.run(Task.FULL).fills_applied == (new,), "a loss after the quiet time is found"
    follow(desk, NS_PER_S)


@pytest.mark.parametrize("is_traded_meanwhile", [False, True])
def test_a_desk_that_stood_for_days_knows_its_last_fill(is_traded_meanwhile: bool) -> None:
    desk = slow_desk()
    assert desk.run(Task.START).is_clean
    desk.stream(desk.venue.trade("last", Side.BUY, 7, desk.now - T0))
    follow(desk, 2 * NS_PER_DAY)
    again = slow_desk()
    again.venue, again.now = desk.venue, desk.now + 3 * NS_PER_DAY
    again.venue.asked.clear()
    lost = desk.venue.trade("lost", Side.SELL, 2, desk.now - T0) if is_traded_meanwhile else None
    again.portfolio.restore(desk.portfolio.checkpoint())
    conclusion = again.run(Task.START)
    assert conclusion.is_clean
    assert conclusion.fills_applied == (() if lost is None else (lost,))
    follow(again, 2 * NS_PER_DAY)


@pytest.mark.parametrize("ages_s", [(400,), (299, 301), (240, 420, 590), (301, 599)])
def test_trades_from_just_before_the_opening_stay_part_of_it(ages_s: tuple[int, ...]) -> None:
    """The first reading goes back five minutes, and so does the next one from the oldest of it."""
    desk = slow_desk()
    desk.now += 123_456
    for k, age_s in enumerate(ages_s):
        desk.venue.trade(f"t{k}", Side.BUY, 2, desk.now - T0 - age_s * NS_PER_S)
    assert desk.run(Task.START).is_clean
    for task in (Task.TRADES, Task.FULL):
        conclusion = desk.run(task)
        assert (conclusion.breaks, conclusion.fills_applied) == ((), ())
    follow(desk, 2 * NS_PER_DAY)
    assert int(desk.portfolio.position_lots[CALL]) == 2 * len(ages_s)


def test_a_trade_of_the_millisecond_where_the_keys_begin_is_known() -> None:
    """The venue is asked in milliseconds: it tells what is a little older than was meant."""
    desk = slow_desk()
    desk.now += 123_456
    first_ms = (desk.now - 300 * NS_PER_S) // NS_PER_MS
    desk.venue.trade("edge", Side.BUY, 2, first_ms * NS_PER_MS - T0)
    assert desk.run(Task.START).is_clean
    assert desk.run(Task.FULL).breaks == ()
    desk.portfolio.forget_keys(Ns(first_ms * NS_PER_MS + NS_PER_DAY + 5))
    assert desk.run(Task.FULL).breaks == ()


def test_the_more_urgent_task_goes_first_and_the_other_is_not_forgotten() -> None:
    desk = Desk()
    desk.reconciler.request(Task.ORDERS, Ns(desk.now))
    desk.ask()
    assert desk.run(Task.START).task is Task.START
    due = desk.reconciler.next_deadline_ns()
    assert due is not None
    assert due > desk.now, "the start included what the orders task would have read"


def test_timers_come_round_by_themselves(desk: Desk) -> None:
    seen: dict[Task, int] = {}
    end = desk.now + 301 * NS_PER_S
    while True:
        due = desk.reconciler.next_deadline_ns()
        assert due is not None
        if due > end:
            break
        desk.now = max(desk.now, due)
        cut = desk.step()
        if cut is not None:
            seen[cut.task] = seen.get(cut.task, 0) + 1
            assert judge(cut, desk.books, Ns(desk.now)).is_clean
    assert seen[Task.FULL] == 1
    assert 7 <= seen[Task.POSITIONS] <= 10
    assert seen[Task.TRADES] + seen[Task.POSITIONS] >= 25
    assert seen[Task.ORDERS] >= 25


def place(desk: Desk, client_id: str) -> PlaceOrder:
    return PlaceOrder(
        request_id=desk.next_id(),
        client_id=client_id,
        instrument_id=CALL,
        side=Side.BUY,
        price_ticks=Ticks(500),
        lots=Lots(5),
        time_in_force=TimeInForce.GTC,
        post_only=False,
        reduce_only=False,
        mmp=False,
        purpose=Purpose.QUOTE,
        valid_until_ns=Ns(desk.now + NS_PER_S),
    )


def open_order(order_id: str, client_id: str) -> OrderEvidence:
    return order_evidence(
        order_id, CALL, Side.BUY, VenueStatus.OPEN, 500, 5, ts=1, client_id=client_id,
        is_quote=False,
    )  # fmt: skip


def test_an_order_lost_without_trace_is_settled_in_two_looks(desk: Desk) -> None:
    order = place(desk, desk.books.client_ids.issue())
    desk.working.register(order, Ns(desk.now))
    unknown = RequestDone(order.request_id, RejectReason.UNKNOWN_OUTCOME, 0, "", Ns(0))
    desk.working.on_request_done(unknown, Ns(desk.now))
    assert int(desk.working.worst_buy_lots[CALL]) == 5
    concluded = 0
    for _ in range(3):
        desk.now += 5 * NS_PER_S
        concluded += desk.run(Task.FULL).concluded
    assert concluded == 1
    assert int(desk.working.worst_buy_lots[CALL]) == 0


def test_an_order_that_went_unanswered_but_lives_is_found(desk: Desk) -> None:
    client_id = desk.books.client_ids.issue()
    order = place(desk, client_id)
    desk.working.register(order, Ns(desk.now))
    unknown = RequestDone(order.request_id, RejectReason.UNKNOWN_OUTCOME, 0, "", Ns(0))
    desk.working.on_request_done(unknown, Ns(desk.now))
    desk.now += 5 * NS_PER_S
    ((read, about),) = targeted_reads(desk.books, desk.next_id, Ns(desk.now))
    assert (read.client_id, about.client_id) == (client_id, client_id)
    desk.venue.orders.append(open_order("o1", client_id))
    conclusion = desk.run(Task.ORDERS)
    assert conclusion.is_clean
    assert desk.working.unknowns().count == 0
    assert int(desk.working.worst_buy_lots[CALL]) == 5


def test_c30_tells_rogue_old_and_newer_orders_apart(desk: Desk) -> None:
    old = ClientIds("sa", 6, 0).issue()
    desk.venue.orders += [
        open_order("mine", desk.books.client_ids.issue()),
        open_order("rogue", "somebody"),
        open_order("nameless", ""),
        open_order("old", old),
    ]
    conclusion = desk.run(Task.ORDERS)
    assert conclusion.foreign == ("rogue", "nameless")
    assert conclusion.cancels == (("old", old, "BTC"),)
    (cancel,) = cancels(conclusion, desk.next_id)
    assert cancel.order_id == "old"
    assert not conclusion.newer_epoch_seen
    assert int(desk.working.worst_buy_lots[CALL]) == 20, "they all count"
    desk.venue.orders.append(open_order("newer", ClientIds("sa", 8, 0).issue()))
    conclusion = desk.run(Task.ORDERS)
    assert conclusion.newer_epoch_seen
    assert not conclusion.is_clean


def test_the_start_is_not_clean_before_our_leftovers_are_gone() -> None:
    desk = Desk()
    desk.venue.orders.append(
        order_evidence("q-old", CALL, Side.SELL, VenueStatus.OPEN, 520, 5, ts=1)
    )
    conclusion = desk.run(Task.START)
    assert conclusion.cancel_quotes
    assert not conclusion.is_clean
    desk.venue.orders.clear()
    desk.now += 5 * NS_PER_S
    assert desk.run(Task.START).is_clean


@pytest.mark.parametrize(
    ("client_id", "is_known"),
    [
        (ClientIds("sa", 6, 0).issue(), True),
        (ClientIds("sa", 7, 40).issue(), True),
        (ClientIds("sa", 8, 0).issue(), False),
        ("somebody", False),
        ("", False),
    ],
)
def test_a_trade_by_a_label_of_an_earlier_life_is_ours_before_its_order_is_read(
    desk: Desk, client_id: str, is_known: bool
) -> None:
    """A hedge that filled as its sender died leaves a trade and no open order."""
    desk.venue.trade("t1", Side.BUY, 5, START_NS + 1, client_id=client_id, is_quote=False)
    conclusion = desk.run(Task.START)
    assert conclusion.is_clean == is_known
    assert conclusion.breaks == (() if is_known else (Break("order", "q1", 0, 5),))


def test_a_start_that_stays_unclean_looks_again_later_each_time() -> None:
    desk = Desk()
    desk.reconciler.request(Task.START, Ns(desk.now))
    begun: list[int] = []
    for _ in range(4):
        while not desk.ask():
            desk.now += 10 * NS_PER_MS
        begun.append(desk.now)
        desk.reconciler._run = None
        desk.reconciler.request(Task.ORDERS, Ns(desk.now))
        desk.reconciler.again(Task.START, Ns(desk.now))
    waits_ms = [(b - a) // NS_PER_MS for a, b in itertools.pairwise(begun)]
    assert waits_ms == [0, 250, 500], "nothing else is asked meanwhile"
    desk.reconciler._run = None
    desk.reconciler.is_over()
    desk.reconciler.again(Task.START, Ns(desk.now))
    assert desk.ask()


def test_a_quote_in_a_strange_group_is_rogue_and_ours_is_not(desk: Desk) -> None:
    entry = QuoteEntry(CALL, Ticks(480), Lots(5), None, None)
    quote = MassQuote(desk.next_id(), GROUP, "q", (entry,), Ns(desk.now + NS_PER_S))
    desk.working.register(quote, Ns(desk.now))
    mine = order_evidence("q1", CALL, Side.BUY, VenueStatus.OPEN, 480, 5, ts=1)
    strange = order_evidence("q2", PUT, Side.BUY, VenueStatus.OPEN, 480, 5, ts=1, group="other")
    desk.venue.orders += [mine, strange]
    conclusion = desk.run(Task.ORDERS)
    assert conclusion.foreign == ("q2",)
    assert not conclusion.cancel_quotes


def test_a_final_order_without_its_trades_is_a_break_after_the_grace(desk: Desk) -> None:
    client_id = desk.books.client_ids.issue()
    order = place(desk, client_id)
    desk.working.register(order, Ns(desk.now))
    filled = order_evidence(
        "o1", CALL, Side.BUY, VenueStatus.FILLED, 500, 5, ts=1, filled=5, client_id=client_id,
        is_quote=False,
    )  # fmt: skip
    desk.working.on_order(filled, Ns(desk.now))
    desk.working.on_request_done(RequestDone(order.request_id, None, 0, "", Ns(0)), Ns(desk.now))
    assert desk.run(Task.TRADES).is_clean
    desk.now += 3 * NS_PER_S
    conclusion = desk.run(Task.TRADES)
    assert conclusion.breaks == (Break("fill", "o1", 0, 5),)
    fill = fill_evidence(
        "t1", "o1", CALL, Side.BUY, 5, ts=2_000 * NS_PER_S, client_id=client_id, is_quote=False
    )
    desk.venue.fills.append(fill)
    assert desk.run(Task.TRADES).is_clean


def test_a_parked_fill_is_a_break_until_its_instrument_is_known(desk: Desk) -> None:
    assert desk.portfolio.book(fill_evidence("t", "q", 99, Side.BUY, 1)) is (
        Booking.PARKED_INSTRUMENT
    )
    assert desk.run(Task.TRADES).breaks == (Break("fill", "t", 0, 1),)


def test_what_would_adopt_the_venue_is_the_same_however_often_it_is_asked(desk: Desk) -> None:
    desk.stream(fill_evidence("ghost", "q", PUT, Side.BUY, 4, ts=900 * NS_PER_S))
    conclusion = desk.run(Task.POSITIONS)
    assert desk.last_cut is not None
    (record,) = adjustments(conclusion, desk.last_cut, desk.books)
    assert (record.instrument, record.lots) == ("BTC-N-P", -4)
    assert adjustments(conclusion, desk.last_cut, desk.books) == [record]
    desk.portfolio.adjust_position(PUT, record.lots, record.price_e8)
    again = desk.run(Task.POSITIONS)
    assert again.is_clean
    assert again.breaks == (), "at the price paid cash is right again"


@given(
    st.lists(st.tuples(st.integers(1, 9), st.booleans(), st.booleans()), max_size=40),
    st.integers(1, 7),
)
@settings(max_examples=60)
def test_any_loss_and_repetition_of_fills_ends_clean(
    trades: list[tuple[int, bool, bool]], page: int
) -> None:
    """Trades reach the stream or not, twice or once; after one full pass the books are the
    venue's."""
    desk = Desk()
    assert desk.run(Task.START).is_clean
    desk.venue.page = page
    for k, (lots, is_buy, is_seen) in enumerate(trades):
        ts = 2_000 * NS_PER_S + k * NS_PER_MS
        fill = desk.venue.trade(f"t{k}", Side.BUY if is_buy else Side.SELL, lots, ts)
        if is_seen:
            desk.stream(fill)
            desk.stream(msgspec.structs.replace(fill, source="reply"))
    conclusion = desk.run(Task.FULL)
    assert conclusion.is_clean
    assert conclusion.breaks == ()
    assert len(conclusion.fills_applied) == sum(1 for _, _, is_seen in trades if not is_seen)


def test_equal_histories_have_equal_digests() -> None:
    first, second = Desk(), Desk()
    for desk in (first, second):
        desk.reconciler.request(Task.FULL, Ns(desk.now))
        desk.step()
    assert first.reconciler.digest() == second.reconciler.digest()
    second.step()
    assert first.reconciler.digest() != second.reconciler.digest()
