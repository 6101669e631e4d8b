"""Controls on the daemon and its ties to the venue, through the whole decision."""

from __future__ import annotations

import msgspec
import pytest

from mm_daemon.core import warm_up
from mm_daemon.core.breaker_clocks import LagWindow, OffsetWindow
from mm_daemon.core.engine import Engine
from mm_daemon.domain.events import (
    InstrumentsRead,
    RequestDone,
    SessionChanged,
    SessionPhase,
)
from mm_daemon.domain.frames import Conn
from mm_daemon.domain.inputs import (
    LatchChanged,
    OperatorReset,
    PermitChanged,
    TraderKnob,
)
from mm_daemon.domain.intents import Intent, MassQuote
from mm_daemon.domain.orders import RejectReason
from mm_daemon.domain.outputs import LatchWanted
from mm_daemon.domain.permission import PERMISSION_ALL, PRESETS, SWEEP, TWO_PERSONS_MARK
from mm_daemon.domain.units import NS_PER_DAY, NS_PER_MS, Ns
from mm_daemon.domain.views import VIEWS
from tests.core.account_world import T0
from tests.core.control_bench import (
    NAME,
    NS,
    active,
    health,
    latches,
    restart,
    state_of,
)
from tests.node.engine_world import Bench

# -- C18, C22, C23: clocks, loop, journal -------------------------------------------------------


def test_c18_the_venue_clock_is_read_from_its_quickest_message() -> None:
    window = OffsetWindow()
    for k in range(10):
        now = Ns(T0 + k * NS)
        window.add(now - (300 + 40 * (k % 3)) * NS_PER_MS, now)
    assert window.offset_ns(Ns(T0 + 9 * NS)) == 300 * NS_PER_MS
    window.add(T0 + 5, Ns(T0 + 10 * NS))
    assert window.offset_ns(Ns(T0 + 10 * NS)) == 300 * NS_PER_MS, "a stamp seen before says nothing"
    assert window.offset_ns(Ns(T0 + 60 * NS)) == 0, "a silent feed says nothing"


def test_c18_looking_at_the_offset_changes_nothing() -> None:
    window = OffsetWindow()
    for k in range(30):
        now = Ns(T0 + k * NS)
        window.add(now - (k % 7) * NS_PER_MS, now)
        before = window.words()
        for later_s in (0, 3, 6, 30):
            window.offset_ns(Ns(now + later_s * NS))
        assert window.words() == before


def test_looking_at_metrics_and_views_at_any_time_changes_nothing() -> None:
    bench = Bench().quoting()
    for _ in range(40):
        bench.run(7)
        before = bench.engine.digest()
        bench.engine._now_ns = Ns(bench.now + 60 * NS)
        bench.engine.metrics()
        for name in VIEWS:
            if name != "audit":
                bench.engine.view(name, Ns(bench.now + 60 * NS))
        assert bench.engine.digest() == before


def test_c18_a_venue_clock_that_is_ahead_stops_quoting_until_it_agrees() -> None:
    bench = Bench().quoting()
    state_of(bench).breaker.venue_offset.add(bench.now + NS, Ns(bench.now))
    bench.run(5)
    assert "C18" in active(bench)
    assert state_of(bench).breaker.counts["C18"] == 1
    bench.run(150)
    assert active(bench) == []


def test_c22_a_lag_must_last_two_seconds_or_be_over_a_second() -> None:
    window = LagWindow()
    for k in range(8):
        window.add(300 * NS_PER_MS, Ns(T0 + k * NS // 4))
    assert window.held_ns(Ns(T0 + 7 * NS // 4)) == 0
    window.add(400 * NS_PER_MS, Ns(T0 + 2 * NS))
    assert window.held_ns(Ns(T0 + 2 * NS)) == 300 * NS_PER_MS
    window.add(1, Ns(T0 + 9 * NS // 4))
    assert window.held_ns(Ns(T0 + 9 * NS // 4)) == 1


@pytest.mark.parametrize(
    ("lag_ms", "p99_ms", "samples", "is_tripped"),
    [(1_100, 0, 1, True), (900, 0, 1, False), (10, 300, 12, True), (10, 200, 12, False)],
)
def test_c22_loop_lag_stops_quoting_and_lets_it_return(
    lag_ms: int, p99_ms: int, samples: int, is_tripped: bool
) -> None:
    bench = Bench().quoting()
    for _ in range(samples):
        health(bench, loop_lag_ns=lag_ms * NS_PER_MS, loop_lag_p99_ns=p99_ms * NS_PER_MS)
        bench.run(3)
    assert ("C22" in active(bench)) == is_tripped
    health(bench)
    bench.run(60)
    assert active(bench) == []


def test_c23_a_journal_that_is_not_synced_holds_quotes_and_a_dead_one_cancels_all() -> None:
    bench = Bench().quoting()
    lag_ns = (state_of(bench).params.breaker.journal_lag_ms_max + 1) * NS_PER_MS
    health(bench, journal_lag_ns=lag_ns)
    bench.run(5)
    assert active(bench) == ["C23.lag"]
    assert latches(bench, "C23.lag")[0].permission == PRESETS["halt_quoting"].permission
    health(bench)
    bench.run(60)
    assert active(bench) == []
    health(bench, journal_lag_ns=1 << 62)
    bench.run(5)
    latch = latches(bench, "C23")[0]
    assert (latch.permission, latch.tasks) == (0, SWEEP)
    bench.run(60)
    assert "C23" in active(bench)


# -- C19 to C21, C24, C25, C30: ties to the venue -----------------------------------------------


def test_c19_a_trading_session_lost_for_ten_seconds_cancels_all_and_returns_by_itself() -> None:
    bench = Bench().quoting()
    bench.see(SessionChanged(int(Conn.TRADE), SessionPhase.DOWN, "cut"))
    bench.run(95)
    assert active(bench) == ["C19"]
    assert bench.resting == {}
    bench.run(20)
    assert "C19.lasting" in active(bench)
    latch = latches(bench, "C19.lasting")[0]
    assert (latch.permission, latch.tasks) == (0, SWEEP)
    bench.see(SessionChanged(int(Conn.TRADE), SessionPhase.READY, ""))
    bench.run(60)
    assert active(bench) == []
    assert latches(bench, "C19.lasting")[-1].clear


def test_c19_a_silent_feed_pulls_every_quote_until_it_speaks() -> None:
    bench = Bench().quoting()
    assert bench.resting
    for _ in range(40):
        bench.now += NS // 10
        bench.engine.on_timer(Ns(bench.now))
        bench.engine.decide(Ns(bench.now))
        bench.collect()
    assert state_of(bench).modes.halted == {NAME: "C19", "ETH": "C19"}
    assert bench.resting == {}
    bench.run(60)
    assert state_of(bench).modes.halted == {}
    assert bench.resting


def test_c20_a_break_halts_at_once_and_cancels_all_when_it_lasts() -> None:
    bench = Bench().quoting()
    state = state_of(bench)
    state.reconcile_broken_since_ns = bench.now
    bench.engine.controls.evaluate(Ns(bench.now + NS))
    bench.collect()
    assert active(bench) == ["C20"]
    state.reconcile_broken_since_ns = bench.now - 31 * NS
    bench.engine.controls.evaluate(Ns(bench.now + 2 * NS))
    bench.collect()
    assert active(bench) == ["C20", "C20.lasting"]
    assert latches(bench, "C20.lasting")[0].tasks == SWEEP
    state.reconcile_broken_since_ns = 0
    bench.run(60)
    assert active(bench) == ["C20.lasting"]


def test_c21_unknown_orders_hold_their_own_underlying_alone() -> None:
    bench = Bench().quoting()
    state = state_of(bench)
    bench.venue_answers = False
    quote_again(bench, NAME)
    bench.run(1)
    for intent in [one for one in bench.intents if isinstance(one, MassQuote)][-1:]:
        unknown(bench, intent)
    assert state.working.unknowns(NAME).count > 0
    assert state.working.unknowns("ETH").count == 0
    bench.run(60)
    assert "C21" in active(bench)
    assert [place for row, place, _ in state.breaker.active() if row == "C21"] == [NAME]


def quote_again(bench: Bench, name: str) -> None:
    """Makes the engine move quotes of one underlying."""
    bench.feed(TraderKnob("width", name, 0, "", 3.0, "test"))


def unknown(bench: Bench, intent: Intent) -> None:
    done = RequestDone(intent.request_id, RejectReason.UNKNOWN_OUTCOME, 0, "", Ns(bench.now))
    bench.see(done)


def test_c24_without_a_lease_a_lost_permit_pulls_and_never_latches() -> None:
    bench = Bench().quoting()
    bench.feed(PermitChanged(deadline_ns=Ns(bench.now)))
    bench.run(200)
    assert bench.resting == {}
    assert not [one for one in bench.outputs if isinstance(one, LatchWanted)]
    bench.feed(PermitChanged(deadline_ns=Ns(bench.now + NS_PER_DAY)))
    bench.run(20)
    assert bench.resting


def test_c24_with_a_lease_t1_pulls_and_t2_takes_its_hands_off_until_a_person_resets() -> None:
    bench = Bench()
    restart(bench, lease_required=True)
    bench.quoting()
    bench.feed(PermitChanged(deadline_ns=Ns(bench.now)))
    bench.run(5)
    assert active(bench) == ["C24.quote"]
    assert bench.resting == {}
    bench.feed(PermitChanged(deadline_ns=Ns(bench.now + NS_PER_DAY)))
    bench.run(20)
    assert active(bench) == []
    assert bench.resting
    bench.feed(PermitChanged(deadline_ns=Ns(bench.now)))
    bench.run(75)
    assert active(bench) == ["C24.order", "C24.quote"]
    latch = latches(bench, "C24.order")[0]
    assert (latch.permission, latch.tasks) == (0, 0), "what rests may be another owner's by now"
    bench.feed(PermitChanged(deadline_ns=Ns(bench.now + NS_PER_DAY)))
    bench.run(60)
    assert active(bench) == ["C24.order"]
    bench.feed(OperatorReset(generation=9))
    bench.run(5)
    assert active(bench) == []


def test_c25_an_order_of_a_newer_epoch_is_a_hard_stop_for_two_people() -> None:
    bench = Bench().quoting()
    bench.engine.reconciles.newer_epoch_seen = True
    bench.run(5)
    (latch,) = latches(bench, "C25")
    assert (latch.permission, latch.tasks, latch.is_hard_stop) == (0, SWEEP, True)
    assert latch.reason.startswith(TWO_PERSONS_MARK)


def test_c30_orders_that_are_not_ours_stop_quoting_until_a_person_looked() -> None:
    bench = Bench().quoting()
    state_of(bench).foreign_fills = 1
    bench.run(5)
    assert active(bench) == ["C30"]
    assert bench.engine.state is not None
    bench.feed(OperatorReset(generation=2))
    bench.run(5)
    assert active(bench) == []


# -- latches over a restart ---------------------------------------------------------------------


def test_an_automatic_latch_that_outlived_its_process_is_let_go_once_all_is_clear() -> None:
    bench = Bench()
    bench.start = msgspec.structs.replace(
        bench.start, latch_permission=PRESETS["halt_quoting"].permission
    )
    bench.engine = Engine(bench.start)
    bench.feed(bench.start)
    bench.feed(PermitChanged(deadline_ns=Ns(bench.now + NS_PER_DAY)))
    bench.see(InstrumentsRead(0, bench.instruments), *warm_up._account())
    bench.see(*warm_up._market(bench.instruments))
    bench.run(40)
    freed = [one for one in bench.outputs if isinstance(one, LatchWanted)]
    assert {"C18", "C22", "C19.lasting"} <= {one.source for one in freed}
    assert all(one.clear for one in freed)
    assert not {"C13", "C23", "C30"} & {one.source for one in freed}
    bench.feed(LatchChanged(generation=2, permission=PERMISSION_ALL, tasks=0))
    bench.run(20)
    assert bench.resting
