"""Adjustments: the last resort, booked once, said aloud, and taken back by the trade itself."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_daemon.core.adjustments import Adjustments, adjustment_of
from mm_daemon.core.portfolio import Portfolio
from mm_daemon.core.reconcile_desk import ADOPT_AFTER_NS
from mm_daemon.core.recovery import checkpoint, restore
from mm_daemon.core.state import EngineState
from mm_daemon.domain.codec import decode_ledger, encode_ledger, is_ledger_record
from mm_daemon.domain.events import FillUnplaced, PositionsRead
from mm_daemon.domain.inputs import AdoptVenue, OperatorReset
from mm_daemon.domain.intents import ReadPositions
from mm_daemon.domain.orders import PositionEvidence
from mm_daemon.domain.outputs import AdjustRecord, Log
from mm_daemon.domain.units import NS_PER_MS, NS_PER_S, CoinE8, Lots, Ns, Side
from tests.core.account_world import CALL, PUT, T0, fill_evidence, small_catalog
from tests.node.engine_world import Bench

CATALOG = small_catalog()
NOW_S = 1_000


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

    def adopt(self) -> None:
        self.bench.feed(AdoptVenue(actor="ann", reason="trade history was lost at the venue"))
        self.bench.run(20)

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


def test_parked_fills_stand_in_the_way_for_they_may_explain_it() -> None:
    haunted = Haunted()
    haunted.bench.run(int(ADOPT_AFTER_NS / (100 * NS_PER_MS)))
    haunted.bench.see(FillUnplaced("u1", "o9", "BTC-NEW-C", haunted.bench.now, "stream"))
    haunted.adopt()
    assert "parked" in str(haunted.said("adoption_refused")[-1].fields["reason"])
    assert not haunted.said("position_adjusted")


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
