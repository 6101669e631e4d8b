"""Adjustments: the last resort, booked once, said aloud, and taken back by the trade itself."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_daemon.core.absent_listings import ASK_AGAIN_NS, READINGS_MAX
from mm_daemon.core.adjustments import Adjustments, adjustment_of
from mm_daemon.core.adoption import ADOPT_AFTER_NS, WISH_VALID_NS
from mm_daemon.core.gauges import set_gauges
from mm_daemon.core.holding import Holding
from mm_daemon.core.outbox import Outbox
from mm_daemon.core.portfolio import Portfolio
from mm_daemon.core.recovery import checkpoint, restore
from mm_daemon.core.state import EngineState
from mm_daemon.core.view_builder import build_view
from mm_daemon.domain.codec import decode_ledger, encode_ledger, is_ledger_record
from mm_daemon.domain.events import (
    AccountsRead,
    FillUnplaced,
    InstrumentsRead,
    PositionsRead,
)
from mm_daemon.domain.inputs import AdoptVenue, OperatorReset
from mm_daemon.domain.intents import ReadAccounts, ReadInstruments, ReadPositions
from mm_daemon.domain.metrics import page_slots
from mm_daemon.domain.orders import AccountEvidence, PositionEvidence
from mm_daemon.domain.outputs import AdjustRecord, Log
from mm_daemon.domain.units import NS_PER_MS, NS_PER_S, CoinE8, Lots, Ns, Side
from mm_daemon.domain.views import AdoptionView, PositionDifference, StatusView
from tests.core.account_world import CALL, PUT, T0, fill_evidence, small_catalog
from tests.core.test_engine import fill_of
from tests.node.engine_world import Bench

CATALOG = small_catalog()
NOW_S = 1_000
NO_DIFFERENCE = "no position differs from the venue's"
TAKEN_OVER = "books_taken_over"


def adjustment(ours: int, venue: int, instrument: str = "BTC-N-C") -> AdjustRecord:
    return adjustment_of(
        instrument, ours=ours, venue=venue, price_e8=5_000_000, ts_venue_ns=T0 + NOW_S * NS_PER_S
    )


class Account:
    def __init__(self) -> None:
        self.portfolio = Portfolio(CATALOG)
        self.portfolio.is_open = True
        self.adjustments = Adjustments()

    def adjust(self, record: AdjustRecord) -> bool:
        return self.adjustments.book(record, self.portfolio, CATALOG)

    def fill(self, trade_id: str, side: Side, lots: int, at_s: int, id_: int = CALL) -> int:
        fill = fill_evidence(trade_id, "o", id_, side, lots, ts=at_s * NS_PER_S)
        self.portfolio.book(fill)
        return self.adjustments.on_fill(fill, self.portfolio, CATALOG)

    @property
    def lots(self) -> int:
        return int(self.portfolio.position_lots[CALL])


def test_an_adjustment_told_twice_is_booked_once() -> None:
    account = Account()
    assert account.adjust(adjustment(0, 5))
    assert not account.adjust(adjustment(0, 5))
    assert account.lots == 5


def test_the_trade_that_it_stood_for_takes_it_back() -> None:
    account = Account()
    cash = dict(account.portfolio.cash_e8)
    account.adjust(adjustment(0, 5))
    assert account.fill("late", Side.BUY, 3, 900) == 3
    assert (account.lots, account.adjustments.lots_standing) == (5, 2)
    assert account.fill("later", Side.BUY, 4, 950) == 2
    assert (account.lots, account.adjustments.lots_standing) == (7, 0)
    paid = account.portfolio.cash_e8["BTC"] - cash.get("BTC", 0)
    assert paid == -7 * 500_000, "as if it had never been"


@pytest.mark.parametrize(
    ("side", "at_s", "id_"),
    [(Side.SELL, 900, CALL), (Side.BUY, NOW_S + 1, CALL), (Side.BUY, 900, PUT)],
)
def test_other_trades_leave_it_alone(side: Side, at_s: int, id_: int) -> None:
    account = Account()
    account.adjust(adjustment(0, 5))
    assert account.fill("t", side, 5, at_s, id_) == 0
    assert account.adjustments.lots_standing == 5


def test_an_unknown_instrument_is_not_adjusted() -> None:
    assert not Account().adjust(adjustment(0, 5, "BTC-NEW-C"))


def test_it_is_a_record_of_the_ledger() -> None:
    record = adjustment(0, 5)
    assert is_ledger_record(record)
    assert decode_ledger(encode_ledger(record)) == record


@given(
    st.lists(st.tuples(st.sampled_from([1, -1]), st.integers(1, 6), st.integers(900, 1_100))),
    st.integers(-9, 9),
)
def test_a_restart_from_checkpoint_and_ledger_has_the_same_books(
    trades: list[tuple[int, int, int]], venue: int
) -> None:
    """However much of it the ledger tells again."""
    first = Account()
    first.adjust(adjustment(0, venue))
    saved = first.adjustments.checkpoint(), first.portfolio.checkpoint()
    second = Account()
    second.portfolio.is_open = False
    second.portfolio.restore(saved[1])
    second.adjustments.restore(saved[0])
    for account in (first, second):
        account.adjust(adjustment(0, venue))
        for number, (side, lots, at_s) in enumerate(trades):
            account.fill(f"t{number}", Side(side), lots, at_s)
    assert first.lots == second.lots
    assert first.adjustments.digest() == second.adjustments.digest()
    assert first.portfolio.checkpoint() == second.portfolio.checkpoint()


class Haunted:
    """A bench whose venue states a position that no trade explains."""

    def __init__(self) -> None:
        self.bench = Bench().quoting()
        self.lots = 7
        answer = self.bench._answer

        def haunted(intent: object) -> list[object]:
            if isinstance(intent, ReadPositions) and self.lots:
                ghost = PositionEvidence(
                    0, Lots(self.lots), 5_000_000, 5_000_000, CoinE8(0), Ns(self.bench.now)
                )
                return [PositionsRead(intent.request_id, (ghost,))]
            return answer(intent)  # type: ignore[arg-type, return-value]

        self.bench._answer = haunted  # type: ignore[method-assign, assignment]
        self.bench.engine.reconciles.request_full(Ns(self.bench.now))
        self.bench.run(10)

    @property
    def state(self) -> EngineState:
        state = self.bench.engine.state
        assert state is not None
        return state

    @property
    def view(self) -> AdoptionView:
        return self.bench.engine.reconciles.adoption.view(Ns(self.bench.now))

    def wish(self, difference_id: str | None = None) -> None:
        seen = self.view.difference_id if difference_id is None else difference_id
        reason = "trade history was lost at the venue"
        self.bench.feed(AdoptVenue(actor="ann", reason=reason, difference_id=seen))

    def adopt(self) -> None:
        self.wish()
        self.bench.run(20)

    def wait_until_old(self) -> Haunted:
        self.bench.run(int(ADOPT_AFTER_NS / (100 * NS_PER_MS)))
        return self

    def said(self, event: str) -> list[Log]:
        return [o for o in self.bench.outputs if isinstance(o, Log) and o.event == event]


def test_only_a_break_that_has_stood_for_long_is_adopted() -> None:
    haunted = Haunted()
    haunted.adopt()
    assert haunted.said("adoption_refused")
    assert int(haunted.state.portfolio.position_lots[0]) == 0
    haunted.bench.run(int(ADOPT_AFTER_NS / (100 * NS_PER_MS)))
    haunted.adopt()
    assert int(haunted.state.portfolio.position_lots[0]) == 7
    (told,) = haunted.said("position_adjusted")
    assert (told.level, told.fields["page"], told.fields["actor"]) == ("error", True, "ann")
    assert haunted.bench.engine.reconciles.breaks == {}
    haunted.adopt()
    assert len(haunted.said("position_adjusted")) == 1
    assert haunted.view.outcome == "refused: no position differs from the venue's"


def test_the_difference_is_shown_with_how_long_it_stands_and_what_is_in_the_way() -> None:
    haunted = Haunted()
    view = haunted.view
    name = haunted.state.catalog.instruments[0].name
    amount = haunted.state.catalog.instruments[0].amount(7)
    assert view.differences == (PositionDifference(name, 0.0, amount),)
    assert (view.difference_id, view.why_not) != ("", "")
    haunted.wait_until_old()
    assert haunted.view.difference_id == view.difference_id
    assert (haunted.view.why_not, haunted.view.outcome) == ("", "")
    assert haunted.view.standing_s >= ADOPT_AFTER_NS / NS_PER_S
    haunted.adopt()
    view = haunted.view
    assert (view.difference_id, view.differences) == ("", ())
    assert (view.outcome, view.ended, view.lots_standing) == ("adopted: 1 positions", 1, 7)
    assert decode_status(haunted.bench).adoption == view


def test_a_difference_that_nobody_has_seen_is_not_adopted() -> None:
    haunted = Haunted().wait_until_old()
    for stale in ("", "0123456789ab"):
        haunted.wish(stale)
        assert haunted.view.outcome == "refused: the difference is not the one that was seen"
    assert int(haunted.state.portfolio.position_lots[0]) == 0


def test_one_that_changes_before_the_next_picture_is_not_adopted_either() -> None:
    haunted = Haunted().wait_until_old()
    haunted.wish()
    assert haunted.view.wanted_by == "ann"
    haunted.lots = 9
    haunted.bench.run(20)
    assert haunted.view.outcome == "refused: the difference is not the one that was seen"
    assert int(haunted.state.portfolio.position_lots[0]) == 0
    assert not haunted.said("position_adjusted")
    haunted.adopt()
    assert int(haunted.state.portfolio.position_lots[0]) == 9


def test_one_wish_at_a_time_and_none_waits_for_ever() -> None:
    haunted = Haunted().wait_until_old()
    haunted.bench._answer = lambda intent: []  # type: ignore[method-assign]
    haunted.wish()
    haunted.wish()
    assert haunted.view.outcome == "refused: the wish of ann is not answered yet"
    assert haunted.view.wanted_by == "ann"
    haunted.bench.run(int(WISH_VALID_NS / (100 * NS_PER_MS)) + 1)
    assert haunted.view.wanted_by == ""
    assert haunted.view.outcome == "refused: no whole picture of the venue came in time"


def test_what_stands_without_a_trade_is_a_metric() -> None:
    haunted = Haunted().wait_until_old()
    haunted.adopt()
    set_gauges(haunted.bench.engine, haunted.state, Ns(haunted.bench.now))
    names = page_slots([one.name for one in haunted.bench.start.params.underlyings])
    values = dict(zip(names, haunted.state.metrics.published(), strict=False))
    assert values["mm_adjustment_lots_standing"] == 7
    assert values["mm_adjustments_total"] == 1


def decode_status(bench: Bench) -> StatusView:
    raw = build_view(bench.engine, "status", Ns(bench.now))
    return msgspec.msgpack.decode(raw, type=StatusView)


def test_parked_fills_stand_in_the_way_for_they_may_explain_it() -> None:
    haunted = Haunted().wait_until_old()
    haunted.bench.see(FillUnplaced("u1", "o9", "BTC-NEW-C", haunted.bench.now, "stream"))
    haunted.adopt()
    assert "parked" in str(haunted.said("adoption_refused")[-1].fields["reason"])
    assert not haunted.said("position_adjusted")


class Lost:
    """A bench whose books were stale: a trade in an option that the venue has long forgotten, and
    the money that it made, which is in the venue's cash."""

    NAME = "BTC-1JAN20-50000-C"
    EARNED_E8 = 12_345

    def __init__(self) -> None:
        self.bench = Bench().quoting()
        answer = self.bench._answer

        def forgetful(intent: object) -> list[object]:
            if isinstance(intent, ReadInstruments):
                return [InstrumentsRead(intent.request_id, self.bench.instruments)]
            if isinstance(intent, ReadAccounts):
                return [AccountsRead(intent.request_id, self.accounts())]
            return answer(intent)  # type: ignore[arg-type, return-value]

        self.bench._answer = forgetful  # type: ignore[method-assign, assignment]
        self.fill = FillUnplaced("u1", "o9", self.NAME, self.bench.now, "recon")
        self.bench.see(self.fill)

    def accounts(self) -> tuple[AccountEvidence, ...]:
        return tuple(
            msgspec.structs.replace(
                one,
                balance_e8=CoinE8(one.balance_e8 + self.EARNED_E8),
                equity_e8=CoinE8(one.equity_e8 + self.EARNED_E8),
            )
            if one.currency == "BTC"
            else one
            for one in self.bench._accounts()
        )

    @property
    def state(self) -> EngineState:
        assert self.bench.engine.state is not None
        return self.bench.engine.state

    def adopt(self) -> AdoptionView:
        seen = self.view.difference_id
        self.bench.feed(AdoptVenue(actor="ann", reason="long gone", difference_id=seen))
        self.bench.run(20)
        return self.view

    @property
    def view(self) -> AdoptionView:
        return self.bench.engine.reconciles.adoption.view(Ns(self.bench.now))

    def wait(self, seconds: int) -> None:
        self.bench.run(seconds, step_ms=1_000)


def test_a_trade_that_nobody_can_place_ends_by_adoption_and_only_once_it_is_given_up() -> None:
    lost = Lost()
    lost.wait(40)
    assert (lost.view.difference_id, lost.view.why_not) == ("", NO_DIFFERENCE)
    assert lost.adopt().outcome.startswith("refused")
    lost.wait(READINGS_MAX * ASK_AGAIN_NS // NS_PER_S)
    assert lost.view.why_not == ""
    assert lost.view.differences == (PositionDifference(f"trade u1 in {Lost.NAME}", 0.0, 1.0),)
    before_e8 = lost.state.portfolio.cash_e8["BTC"]
    view = lost.adopt()
    assert view.outcome == "adopted: 0 positions, and the books taken over"
    assert lost.state.portfolio.parked == []
    assert lost.state.portfolio.cash_e8["BTC"] == before_e8 + lost.EARNED_E8
    assert lost.state.reconcile_broken_since_ns == 0
    assert lost.bench.engine.reconciles.breaks == {}
    (told,) = [o for o in lost.bench.outputs if isinstance(o, Log) and o.event == TAKEN_OVER]
    assert (told.fields["trades"], told.fields["page"]) == (1, True)
    lost.bench.see(lost.fill)
    assert lost.state.portfolio.parked == [], "told again, it is known"


def test_a_restart_after_a_take_over_knows_what_is_over() -> None:
    lost = Lost()
    lost.wait(READINGS_MAX * ASK_AGAIN_NS // NS_PER_S + 40)
    lost.adopt()
    start = msgspec.structs.replace(
        lost.bench.start,
        checkpoint=checkpoint(lost.state).state,
        ledger_tail=msgspec.msgpack.encode([]),
    )
    again = EngineState(start, lost.state.catalog, lost.state.modes, Outbox(1))
    restore(again, start)
    assert again.portfolio.cash_e8 == lost.state.portfolio.cash_e8
    assert not again.portfolio.park_unplaced(lost.fill)


def test_a_position_that_nobody_can_place_ends_by_adoption() -> None:
    """Restored from books of weeks ago: the option ended and was paid meanwhile."""
    lost = Lost()
    lost.state.portfolio.parked = []
    lost.state.portfolio.orphans[Lost.NAME] = Holding(lots=3)
    lost.wait(READINGS_MAX * ASK_AGAIN_NS // NS_PER_S + 40)
    assert lost.view.differences == (PositionDifference(Lost.NAME, 3.0, 0.0),)
    lost.adopt()
    assert lost.state.portfolio.orphans == {}
    assert lost.bench.engine.reconciles.breaks == {}


def test_books_are_not_taken_over_from_a_picture_that_trades_ran_past() -> None:
    lost = Lost()
    late = fill_of(lost.bench, Side.BUY, "late")
    lost.wait(READINGS_MAX * ASK_AGAIN_NS // NS_PER_S + 40)
    answer = lost.bench._answer

    def busy(intent: object) -> list[object]:
        extra = [late] if isinstance(intent, ReadPositions) else []
        return [*extra, *answer(intent)]  # type: ignore[arg-type]

    lost.bench._answer = busy  # type: ignore[method-assign, assignment]
    view = lost.adopt()
    assert "trades came" in view.outcome
    assert lost.state.portfolio.parked == [lost.fill]


def test_a_break_is_never_adjusted_without_a_persons_word() -> None:
    haunted = Haunted()
    haunted.bench.feed(OperatorReset(generation=1))
    haunted.bench.run(700)
    assert int(haunted.state.portfolio.position_lots[0]) == 0
    assert not [o for o in haunted.bench.outputs if isinstance(o, AdjustRecord)]


def test_an_adopted_position_survives_the_process() -> None:
    haunted = Haunted()
    before = checkpoint(haunted.state)
    haunted.bench.run(int(ADOPT_AFTER_NS / (100 * NS_PER_MS)))
    haunted.adopt()
    records = [o for o in haunted.bench.outputs if isinstance(o, AdjustRecord)]
    assert len(records) == 1
    start = msgspec.structs.replace(
        haunted.bench.start,
        checkpoint=before.state,
        ledger_tail=msgspec.msgpack.encode([*records, *records]),
    )
    state = haunted.state
    again = EngineState(start, state.catalog, state.modes, state.outbox)
    restore(again, start)
    assert int(again.portfolio.position_lots[0]) == 7
