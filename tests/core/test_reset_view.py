"""What a reset is judged by, and the stage that follows one."""

from __future__ import annotations

import msgspec

from mm_daemon.core.breaker import HOLDING_NS
from mm_daemon.core.reset_view import reentry, reset_terms
from mm_daemon.core.view_builder import build_view
from mm_daemon.domain.inputs import HealthSample, LatchChanged, OperatorReset
from mm_daemon.domain.outputs import LatchWanted
from mm_daemon.domain.permission import PERMISSION_ALL, SWEEP
from mm_daemon.domain.units import NS_PER_S, Ns
from mm_daemon.domain.views import StatusView
from tests.node.engine_world import Bench


def test_nothing_can_be_judged_before_the_catalogue() -> None:
    bench = Bench()
    assert reset_terms(bench.engine, Ns(bench.now)) is None


def test_a_desk_at_rest_is_clean_and_holds_nothing() -> None:
    bench = Bench().quoting()
    terms = reset_terms(bench.engine, Ns(bench.now))
    assert terms is not None
    assert 0.0 <= terms.reconcile_age_s < 30.0
    assert (terms.parked_fills, terms.is_informed, terms.controls_holding) == (0, True, ())


def test_a_condition_that_holds_is_named_with_its_place_until_it_has_been_away() -> None:
    bench = Bench().quoting()
    bench.feed(HealthSample(loop_lag_ns=0, clock_offset_ns=NS_PER_S, journal_lag_ns=0))
    bench.run(5)
    terms = reset_terms(bench.engine, Ns(bench.now))
    assert terms is not None
    assert terms.controls_holding == ("C18 venue",)
    assert any(isinstance(one, LatchWanted) and one.source == "C18" for one in bench.outputs)
    bench.feed(HealthSample(loop_lag_ns=0, clock_offset_ns=0, journal_lag_ns=0))
    bench.run(60)
    later = reset_terms(bench.engine, Ns(bench.now))
    assert later is not None
    assert later.controls_holding == ()


def test_a_rows_condition_is_gone_a_while_before_a_person_has_lifted_it() -> None:
    """`active` keeps what only a person lifts; `holding` says whether it would trip again."""
    bench = Bench().quoting()
    state = bench.engine.state
    assert state is not None
    for _ in range(state.params.breaker.rejects_per_10s_max + 1):
        state.breaker.rejects.add(Ns(bench.now))
    bench.run(5)
    assert ("C13", "venue") in state.breaker.holding(Ns(bench.now))
    bench.run(130)
    assert "C13" in [row for row, _, _ in state.breaker.active()]
    assert state.breaker.holding(Ns(bench.now + HOLDING_NS)) == ()


def test_the_first_stage_begins_before_the_latch_is_lifted_and_lifts_nothing_itself() -> None:
    bench = Bench().quoting()
    state = bench.engine.state
    assert state is not None
    full = max(order.amount_lots for order in bench.resting.values())
    bench.feed(LatchChanged(generation=2, permission=0, tasks=SWEEP))
    bench.run(60)
    for _ in range(state.params.breaker.rejects_per_10s_max + 1):
        state.breaker.rejects.add(Ns(bench.now))
    bench.run(5)
    bench.feed(OperatorReset(generation=3, is_ahead=True))
    assert "C13" in [row for row, _, _ in state.breaker.active()]
    bench.feed(LatchChanged(generation=3, permission=PERMISSION_ALL, tasks=0))
    bench.run(10)
    assert bench.resting == {}, "its own trip still holds"
    bench.feed(OperatorReset(generation=3))
    bench.run(10)
    assert bench.resting
    assert max(order.amount_lots for order in bench.resting.values()) < full


def test_status_shows_the_stage_and_its_end() -> None:
    bench = Bench().quoting()
    bench.feed(OperatorReset(generation=2))
    quoting = bench.engine.start.params.underlyings[0].quoting
    (name, *_) = [one.name for one in bench.engine.start.params.underlyings]
    status = msgspec.msgpack.decode(
        build_view(bench.engine, "status", Ns(bench.now)), type=StatusView
    )
    stage = status.reentry[name]
    assert stage.size_ratio == quoting.reentry_size_ratio
    assert stage.until_ns == bench.now + int(quoting.reentry_s * NS_PER_S)
    assert reentry(bench.engine, Ns(stage.until_ns)) == {}
