"""Controls on fills, losses, rejects, hedges and settings, through the whole decision: that what
they look at is really fed, and that what they do reaches the quotes, the hedges and the latch.

`test_breaker` holds each row's trigger, level and reset against its sample; here the sample is made
by the engine itself from what it was told.
"""

from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mm_daemon.core.breaker_drift import DriftWindow, FillPoint
from mm_daemon.core.breaker_windows import LossWindow, MessageWindow
from mm_daemon.core.controls import HELD
from mm_daemon.domain.events import (
    Event,
    IndexSeen,
    QuoteSideFailed,
    RequestDone,
    SessionChanged,
    SessionPhase,
)
from mm_daemon.domain.frames import Conn
from mm_daemon.domain.inputs import (
    LatchChanged,
    OperatorReset,
    TraderKnob,
)
from mm_daemon.domain.intents import CancelQuotes, Intent, PlaceOrder
from mm_daemon.domain.orders import FillEvidence, RejectReason
from mm_daemon.domain.outputs import Log
from mm_daemon.domain.permission import (
    PERMISSION_ALL,
    PERMISSION_NONE,
    PRESETS,
    TASKS_NONE,
    TWO_PERSONS_MARK,
    Mask,
    scopes_word,
)
from mm_daemon.domain.units import NS_PER_DAY, CoinE8, Lots, Ns, Side
from tests.core.account_params import params
from tests.core.account_world import T0
from tests.core.control_bench import (
    NAME,
    NS,
    active,
    counted,
    fill,
    latches,
    restart,
    resting,
    state_of,
)
from tests.node.engine_world import Bench

# -- C3: rolling collar -------------------------------------------------------------------------


def drifted(*points: tuple[float, float, float], slope: float = 0.0) -> float:
    """Drift of buys at (seconds, price, forward) against 10 % plus five ticks of 0.0001."""
    window = DriftWindow(60 * NS, 0.10, 5)
    for seconds, price, forward in points:
        point = FillPoint(price, 0.0001, forward, slope)
        window.add(1, Side.BUY, point, Ns(T0 + int(seconds * NS)))
    return window.drift(Ns(T0 + int(points[-1][0] * NS)))


def test_c03_a_price_walked_by_our_own_fills_trips_at_the_band() -> None:
    assert drifted((0, 0.05, 6e4), (10, 0.0535, 6e4), (20, 0.0550, 6e4)) < 1.0
    assert drifted((0, 0.05, 6e4), (10, 0.0535, 6e4), (20, 0.0564, 6e4)) > 1.0
    assert drifted((0, 0.05, 6e4), (20, 0.0436, 6e4)) > 1.0


def test_c03_what_the_delta_explains_and_what_left_the_window_does_not_count() -> None:
    slope = 0.5 / 6e4
    assert drifted((0, 0.05, 6e4), (20, 0.06, 6.12e4), slope=slope) < 0.01
    assert drifted((0, 0.05, 6e4), (61, 0.08, 6e4)) == 0.0
    assert drifted((0, 0.05, 6e4), (20, 0.06, 6.12e4), slope=math.nan) > 1.0


def test_c03_halts_the_underlying_until_an_operator_resets() -> None:
    bench = Bench().quoting()
    fill(bench, price=0.05)
    fill(bench, price=0.12)
    bench.run(10)
    assert "C3" in active(bench)
    assert (resting(bench, NAME), resting(bench, "ETH") > 0) == (0, True)
    (latch,) = latches(bench, "C3")
    assert (latch.scope, latch.permission) == (NAME, PRESETS["halt_quoting"].permission)
    bench.run(700)
    assert "C3" in active(bench)
    bench.feed(OperatorReset(generation=2, scope=NAME))
    bench.run(20)
    assert active(bench) == []
    assert resting(bench, NAME) > 0


def test_c07_an_instrument_that_is_held_is_a_trip_that_calls_a_person() -> None:
    bench = Bench().quoting()
    for _ in range(state_of(bench).params.breaker.repeat_fills_max):
        fill(bench)
    bench.run(5)
    assert (counted(bench, "C7"), counted(bench, "C7", HELD)) == (1, 1)
    said = [one for one in bench.outputs if isinstance(one, Log) and one.event == "control_tripped"]
    assert [(one.fields["control"], one.fields["page"]) for one in said] == [("C7", True)]
    bench.feed(OperatorReset(generation=2))
    bench.run(5)
    assert active(bench) == []


# -- C10: requests for each fill ----------------------------------------------------------------


def test_c10_requests_are_held_against_fills_over_the_window() -> None:
    window = MessageWindow(10 * NS)
    for k in range(100):
        window.add_message(Ns(T0 + k * NS // 10))
    assert window.ratio(Ns(T0 + 9 * NS)) == 100.0
    for _ in range(4):
        window.add_fill(Ns(T0 + 9 * NS))
    assert window.ratio(Ns(T0 + 9 * NS)) == 25.0
    assert window.ratio(Ns(T0 + 14 * NS)) == pytest.approx(50 / 4, abs=3)
    assert window.ratio(Ns(T0 + 40 * NS)) == 0.0


def test_c10_slows_the_quotes_and_never_takes_them_away() -> None:
    bench = Bench().quoting()
    state = state_of(bench)
    assert state.breaker.messages[NAME].ratio(Ns(bench.now)) > 0, "what is sent is counted"
    limit = int(state.params.breaker.messages_per_fill_max)
    for _ in range(limit + 1):
        state.breaker.messages[NAME].add_message(Ns(bench.now))
    before = resting(bench, NAME)
    bench.run(5)
    assert state.slowed == {NAME: "C10"}
    assert counted(bench, "C10") == 1
    assert resting(bench, NAME) == before
    for _ in range(10):
        fill(bench, Side(1 - 2 * (_ % 2)), price=0.05)
    bench.run(40)
    assert state.slowed == {}


# -- C11: losses --------------------------------------------------------------------------------


@given(
    path=st.lists(
        st.one_of(st.floats(-20_000, 20_000), st.just(math.nan), st.just(math.inf)), max_size=40
    )
)
@settings(max_examples=100)
def test_c11_a_breach_of_any_loss_is_found_on_any_path(path: list[float]) -> None:
    limits = params().breaker
    window = LossWindow()
    now = Ns((T0 // NS_PER_DAY) * NS_PER_DAY + 9 * 3_600 * NS)
    known: list[float] = []
    for equity in path:
        now = Ns(now + 60 * NS)
        window.add(equity, now)
        day, hour, peak = window.losses()
        is_breach = not (
            day <= limits.loss_day_usd_max
            and hour <= limits.loss_hour_usd_max
            and peak <= limits.drawdown_usd_max
        )
        if not math.isfinite(equity):
            assert is_breach, "an equity that is not a number is a breach"
            continue
        known.append(equity)
        expected = (
            known[0] - equity > limits.loss_day_usd_max
            or max(known) - equity > limits.loss_hour_usd_max
        )
        assert is_breach == expected


def test_c11_latches_hedge_only_and_says_that_two_people_must_lift_it() -> None:
    bench = Bench().quoting()
    state = state_of(bench)
    state.breaker.losses.add(math.nan, Ns(bench.now))
    bench.run(5)
    latch = latches(bench, "C11")[0]
    assert (latch.permission, latch.scope) == (PRESETS["hedge_only"].permission, "")
    assert latch.reason.startswith(TWO_PERSONS_MARK)


def test_c11_one_underlying_may_lose_its_share_and_is_held_alone() -> None:
    bench = Bench().quoting()
    state = state_of(bench)
    limits = state.params.breaker
    for equity in (0.0, -limits.loss_underlying_ratio * limits.loss_hour_usd_max - 1.0):
        state.breaker.losses_of[NAME].add(equity, Ns(bench.now))
    bench.engine.pnl._due_ns = bench.now + NS_PER_DAY
    bench.run(10)
    assert active(bench) == ["C11.underlying"]
    (latch,) = latches(bench, "C11.underlying")
    assert (latch.permission, latch.scope) == (PRESETS["hedge_only"].permission, NAME)
    assert latch.reason.startswith(TWO_PERSONS_MARK)
    assert (resting(bench, NAME), resting(bench, "ETH") > 0) == (0, True)


def test_c11_an_equity_that_stays_unknown_counts_as_lost() -> None:
    bench = Bench().quoting()
    pnl, currency = bench.engine.pnl, state_of(bench).settle_currency[NAME]
    unknown = {**dict.fromkeys(state_of(bench).settle_currency.values(), 0.0), currency: math.nan}
    pnl._tell_losses(unknown, Ns(bench.now))
    pnl._tell_losses(unknown, Ns(bench.now + 29 * NS))
    assert state_of(bench).breaker.losses.losses()[0] == pytest.approx(0.0, abs=1.0)
    pnl._tell_losses(unknown, Ns(bench.now + 30 * NS))
    assert math.isnan(state_of(bench).breaker.losses.losses()[0])


# -- C12: our own market-maker protection -------------------------------------------------------


def test_c12_is_lifted_after_thirty_seconds_and_by_two_people_after_three_trips() -> None:
    bench = Bench().quoting()
    state = state_of(bench)
    lots = state.params.breaker.fills_window_lots_max + 1
    for trip in range(3):
        fill(bench, Side(1 - 2 * (trip % 2)), lots=lots)
        bench.run(5)
        assert "C12" in active(bench)
        assert resting(bench, NAME) == 0
        early = len(latches(bench, "C12"))
        bench.feed(OperatorReset(generation=2 + trip, scope=NAME))
        bench.run(5)
        assert "C12" in active(bench), "no person may lift it before thirty seconds"
        assert len(latches(bench, "C12")) == early + 1, "and it asks for its latch again"
        bench.run(36, step_ms=1_000)
        bench.feed(OperatorReset(generation=3 + trip, scope=NAME))
        bench.run(20)
        assert "C12" not in active(bench)
    marks = [one.reason.startswith(TWO_PERSONS_MARK) for one in latches(bench, "C12")]
    assert marks == [False, False, False, False, True, True]
    assert {one.scope for one in latches(bench, "C12")} == {NAME}


def test_c12_is_counted_and_compares_with_the_venue_at_once() -> None:
    bench = Bench().quoting()
    fill(bench, lots=state_of(bench).params.breaker.fills_window_lots_max + 1)
    mark = len(bench.intents)
    bench.run(5)
    board = state_of(bench).metrics
    assert board.counts[board._index['mm_mmp_trips_total{by="own"}']] == 1
    assert any(type(one).__name__ == "ReadTrades" for one in bench.since(mark))


# -- C13: rejects -------------------------------------------------------------------------------


def refused_sides(bench: Bench, reason: RejectReason, count: int) -> None:
    option = int(state_of(bench).option_ids[NAME][0])
    for _ in range(count):
        bench.see(QuoteSideFailed(1, option, Side.BUY, reason, 0))
    bench.run(5)


def test_c13_refused_quotes_are_a_storm_of_rejects_and_a_moving_market_is_none() -> None:
    bench = Bench().quoting()
    most = bench.start.params.breaker.rejects_per_10s_max
    refused_sides(bench, RejectReason.POST_ONLY, most + 1)
    assert "C13" not in active(bench)
    refused_sides(bench, RejectReason.PRICE, most + 1)
    assert "C13" in active(bench)
    assert latches(bench, "C13")[0].permission == PRESETS["halt_quoting"].permission


def test_c13_refused_requests_are_a_storm_of_rejects_and_unknown_ones_are_none() -> None:
    bench = Bench().quoting()
    most = bench.start.params.breaker.rejects_per_10s_max
    for reason, is_storm in (
        (RejectReason.UNKNOWN_OUTCOME, False),
        (RejectReason.PRICE, True),
    ):
        for request_id in range(bench.now, bench.now + most + 1):
            cancel = CancelQuotes(request_id, "", -1, freeze=False)
            state_of(bench).working.register(cancel, Ns(bench.now))
            bench.see(RequestDone(request_id, reason, 0, "", Ns(bench.now)))
        bench.run(5)
        assert ("C13" in active(bench)) is is_storm


def test_c13_orders_over_their_size_are_a_storm_of_rejects_after_the_second() -> None:
    bench = Bench()
    quoting = msgspec.structs.replace(
        bench.start.params.underlyings[0].limits, order_vega_usd_max=0.01
    )
    one = msgspec.structs.replace(bench.start.params.underlyings[0], limits=quoting)
    both = (one, *bench.start.params.underlyings[1:])
    restart(bench, underlyings=both)
    bench.quoting()
    assert "C13.size" in active(bench)
    assert counted(bench, "C1", "mm_risk_refusals_total") > 2
    assert latches(bench, "C13.size")[0].permission == PRESETS["halt_quoting"].permission


# -- C28, C29, C34: hedges and settings ---------------------------------------------------------


def test_c28_a_hedge_that_keeps_failing_widens_then_halts_its_underlying() -> None:
    bench = Bench().quoting()
    state = state_of(bench)
    bench.engine.hedges._due_ns = bench.now + NS_PER_DAY
    state.hedger._books[NAME].failures = 3
    bench.run(5)
    assert "C28.widen" in active(bench)
    assert max(bench.engine.controls._width.values()) > 1.0
    state.hedger._books[NAME].out_since_ns = bench.now - 20 * NS
    bench.run(5)
    assert "C28" in active(bench)
    assert "C28.page" not in active(bench)
    breach = 'mm_hedge_band_breach_seconds_total{underlying="BTC"}'
    assert state.metrics.counts[state.metrics._index[breach]] == pytest.approx(0.4, abs=0.3)
    assert resting(bench, NAME) == 0
    assert latches(bench, "C28")[0].scope == NAME
    bench.run(110)
    assert "C28.page" in active(bench)
    paged = [
        one.fields["control"]
        for one in bench.outputs
        if isinstance(one, Log) and one.event == "control_tripped" and one.fields["page"]
    ]
    assert paged == ["C28", "C28.page"]


class UnhedgedBench(Bench):
    """A bench with a delta out of its band, whose venue refuses every hedge."""

    def __init__(self) -> None:
        super().__init__()
        self.quoting()
        state = state_of(self)
        state.portfolio.position_lots[state.hedge_ids[NAME][0]] = 100_000
        state.risk.refresh_all(state.portfolio.position_lots, state.working)
        self.run(8)
        assert 0.0 < self.out_s() < 2.0

    def out_s(self) -> float:
        return state_of(self).hedger.state(NAME, Ns(self.now)).out_of_band_s

    def _answer(self, intent: Intent) -> list[Event]:
        if isinstance(intent, PlaceOrder):
            refused = RequestDone(intent.request_id, RejectReason.PRICE, 0, "", Ns(self.now))
            return [refused]
        return super()._answer(intent)


def test_c28_trips_where_hedging_is_allowed_and_fails() -> None:
    bench = UnhedgedBench()
    for turn in range(160):
        assert turn > 120 or "C28" not in active(bench)
        state_of(bench).hedger._books[NAME].failures = 0
        bench.run(1)
    assert "C28" in active(bench), "by the time out of band alone"
    assert latches(bench, "C28")[0].scope == NAME


def test_c28_trips_where_hedging_is_allowed_and_the_venue_is_away() -> None:
    bench = UnhedgedBench()
    bench.see(SessionChanged(int(Conn.TRADE), SessionPhase.DOWN, "gone"))
    bench.run(160)
    assert "C28" in active(bench)


@pytest.mark.parametrize("is_scoped", [True, False])
def test_c28_does_not_trip_where_a_kill_forbids_hedging(is_scoped: bool) -> None:
    bench = UnhedgedBench()
    if is_scoped:
        scoped = scopes_word([Mask(PERMISSION_NONE, TASKS_NONE)])
        bench.feed(LatchChanged(2, permission=PERMISSION_ALL, tasks=TASKS_NONE, scoped=scoped))
    else:
        bench.feed(LatchChanged(2, permission=PERMISSION_NONE, tasks=TASKS_NONE))
    bench.run(400)
    assert "C28" not in active(bench)
    assert bench.out_s() == 0.0
    bench.feed(LatchChanged(3, permission=PERMISSION_ALL, tasks=TASKS_NONE))
    bench.run(20)
    assert 0.0 < bench.out_s() < 2.1, "the clock begins anew where hedging is allowed again"


def test_hedges_that_fill_nothing_leave_nothing_behind_and_the_newest_is_measured() -> None:
    bench = UnhedgedBench()
    bench.run(100)
    sent = [one for one in bench.intents if isinstance(one, PlaceOrder)]
    assert len(sent) > 5
    hedges, instrument = bench.engine.hedges, sent[-1].instrument_id
    assert list(hedges._arrival) == [instrument]
    mid = hedges._arrival[instrument][1]
    paid = FillEvidence(
        trade_id="H1",
        order_id="O1",
        client_id=sent[0].client_id,
        instrument_id=instrument,
        side=Side.SELL,
        price_e8=round(mid * 0.999 * 1e8),
        lots=Lots(1),
        fee_e8=CoinE8(0),
        fee_currency="BTC",
        is_maker=False,
        ts_venue_ns=Ns(bench.now),
        mark_price_e8=0,
        index_price_e8=0,
        is_quote=False,
        source="stream",
    )
    hedges.on_fill(paid)
    assert hedges.hedges == {}, "of another hedge"
    hedges.on_fill(msgspec.structs.replace(paid, client_id=sent[-1].client_id))
    assert hedges.hedges == {NAME: 1}
    assert hedges.slippage_bps[NAME] == pytest.approx(10.0, abs=0.01)
    assert hedges._arrival == {}


def test_c28_that_tripped_can_be_lifted_once_a_kill_forbids_hedging() -> None:
    """Else its condition would hold for as long as the kill, and the kill's reset be refused."""
    bench = UnhedgedBench()
    bench.run(160)
    held = state_of(bench).breaker.holding
    assert ("C28", NAME) in held(Ns(bench.now))
    bench.feed(LatchChanged(2, permission=PERMISSION_NONE, tasks=TASKS_NONE))
    bench.run(30)
    assert ("C28", NAME) not in held(Ns(bench.now))
    assert "C28" in active(bench), "it is still a person's to lift"


def test_c28_does_not_follow_from_the_freeze_of_c16() -> None:
    bench = UnhedgedBench()
    spot = state_of(bench).market.index_price["btc_usd"]
    bench.see(IndexSeen("btc_usd", spot * 0.98, bench.now))
    bench.engine.controls.evaluate(Ns(bench.now + NS))
    bench.collect()
    bench.run(500)
    assert "C16" in active(bench)
    assert "C28" not in active(bench)


def test_c29_the_decision_refuses_and_counts_what_a_person_may_not_set() -> None:
    bench = Bench().quoting()
    bench.feed(TraderKnob("width", NAME, 0, "", 40.0, "trader"))
    bench.feed(TraderKnob("warp", NAME, 0, "", 1.0, "trader"))
    assert state_of(bench).knobs.in_force() == []
    assert counted(bench, "C29", "mm_risk_refusals_total") == 2


def test_c34_counts_an_expiry_whose_delta_needs_its_own_future() -> None:
    bench = Bench().quoting()
    state = state_of(bench)
    option = int(state.option_ids[NAME][0])
    state.portfolio.position_lots[option] = 10_000
    bench.run(3)
    assert "C34" in active(bench)
    assert counted(bench, "C34") == 1
    state.portfolio.position_lots[option] = 0
    bench.run(5)
    assert "C34" not in active(bench)
