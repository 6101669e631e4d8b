"""The metrics of order and fill keeping exist from the start and follow what happens."""

from __future__ import annotations

import msgspec
import pytest

from mm_daemon.core.throttle import Pool
from mm_daemon.domain.events import (
    FillUnplaced,
    MmpTriggered,
    PositionsRead,
    QuoteSideFailed,
    RequestDone,
)
from mm_daemon.domain.intents import ReadOpenOrders, ReadPositions, ReadTrades
from mm_daemon.domain.metrics import node_families, series
from mm_daemon.domain.orders import PositionEvidence, RejectReason, VenueStatus
from mm_daemon.domain.outputs import LatchWanted
from mm_daemon.domain.units import NS_PER_S, CoinE8, Lots, Ns, Side
from tests.core.account_world import CALL
from tests.core.test_engine import fill_of
from tests.core.test_lifecycle_peers import place, report
from tests.node.engine_world import Bench


def value(bench: Bench, name: str) -> float:
    names = series(node_families([one.name for one in bench.start.params.underlyings]))
    return bench.engine.metrics()[names.index(name)]


@pytest.fixture
def bench() -> Bench:
    return Bench().quoting()


def test_an_order_without_an_answer_is_counted_and_aged_until_evidence_ends_it(
    bench: Bench,
) -> None:
    state = bench.engine.state
    assert state is not None
    assert value(bench, "mm_orders_unknown") == 0.0
    order = place(9_999, "c1", at=bench.now)
    state.working.register(order, Ns(bench.now))
    bench.see(RequestDone(9_999, RejectReason.UNKNOWN_OUTCOME, -1, "", 0))
    assert value(bench, "mm_orders_unknown") == 1.0
    bench.run(5)
    assert 0.4 < value(bench, "mm_order_state_age_seconds") < 0.7
    bench.see(msgspec.structs.replace(report(VenueStatus.CANCELLED, ts=1), instrument_id=CALL))
    assert value(bench, "mm_orders_unknown") == 0.0
    assert value(bench, "mm_order_state_age_seconds") == 0.0


def test_a_parked_fill_shows_until_it_is_booked(bench: Bench) -> None:
    bench.see(FillUnplaced("T1", "o9", "BTC-NEW-C", bench.now, "stream"))
    assert value(bench, "mm_fills_parked") == 1.0
    bench.see(msgspec.structs.replace(fill_of(bench, Side.BUY, "T1"), order_id="o9"))
    assert value(bench, "mm_fills_parked") == 0.0


def test_a_break_shows_by_its_kind_and_the_last_success_stands_still(bench: Bench) -> None:
    before = value(bench, "mm_recon_last_success_timestamp_seconds")
    assert before > 0.0
    ghost = PositionEvidence(0, Lots(7), 5_000_000, 5_000_000, CoinE8(0), Ns(bench.now))
    answer = bench._answer

    def haunted(intent: object) -> list[object]:
        if isinstance(intent, ReadPositions):
            return [PositionsRead(intent.request_id, (ghost,))]
        return answer(intent)  # type: ignore[arg-type, return-value]

    bench._answer = haunted  # type: ignore[method-assign, assignment]
    bench.engine.reconciles.request_full(Ns(bench.now))
    bench.run(20)
    assert value(bench, 'mm_recon_break{type="position"}') == 1.0
    assert value(bench, 'mm_recon_break{type="cash"}') == 0.0
    stood = value(bench, "mm_recon_last_success_timestamp_seconds")
    bench._answer = answer  # type: ignore[method-assign]
    bench.engine.reconciles.request_full(Ns(bench.now))
    bench.run(20)
    assert value(bench, 'mm_recon_break{type="position"}') == 0.0
    assert value(bench, "mm_recon_last_success_timestamp_seconds") > stood


def whole_pictures(bench: Bench, mark: int) -> bool:
    kinds = [type(one) for one in bench.since(mark)]
    return {ReadTrades, ReadOpenOrders, ReadPositions} <= set(kinds)


def test_a_trip_at_the_venue_asks_for_a_whole_picture_at_once(bench: Bench) -> None:
    bench.run(3)
    mark = len(bench.intents)
    bench.see(MmpTriggered("btc_usd", "mm-btc", 0))
    bench.run(6)
    assert whole_pictures(bench, mark)


def test_a_storm_of_rejects_asks_for_a_whole_picture_at_once(bench: Bench) -> None:
    mark = len(bench.intents)
    most = bench.start.params.breaker.rejects_per_10s_max
    for number in range(most + 1):
        bench.see(QuoteSideFailed(number, 0, Side.BUY, RejectReason.PRICE, 10_007))
    bench.run(8)
    assert "C13" in [one.source for one in bench.outputs if isinstance(one, LatchWanted)]
    assert whole_pictures(bench, mark)


def test_questions_leave_credit_for_sweeps_and_single_reads(bench: Bench) -> None:
    state = bench.engine.state
    assert state is not None
    bench.run(int(20 * NS_PER_S // 100_000_000))
    assert state.throttle.available(Pool.QUERIES, Ns(bench.now)) >= 4
