"""Controls on what we know, through the whole decision: indices and models."""

from __future__ import annotations

import math

import msgspec
import pytest

from mm_daemon.core.controls import HELD
from mm_daemon.core.intensity import Model
from mm_daemon.domain.events import (
    BookLost,
    IndexSeen,
)
from mm_daemon.domain.inputs import (
    InferenceAnswer,
    OperatorReset,
)
from mm_daemon.domain.outputs import AskInference
from mm_daemon.domain.params import ModelSlot
from mm_daemon.domain.units import NS_PER_MS, Ns
from tests.core.control_bench import (
    NAME,
    NS,
    active,
    counted,
    latches,
    restart,
    resting,
    state_of,
)
from tests.node.engine_world import Bench

# -- C14, C16: what we see ----------------------------------------------------------------------


def test_c14_an_option_that_falls_silent_is_pulled_although_the_others_move() -> None:
    bench = Bench()
    restart(bench, breaker=msgspec.structs.replace(bench.start.params.breaker, book_age_ms_max=900))
    bench.quoting()
    silent = next(id_ for id_, _ in bench.resting)
    bench.run(8, silent=silent)
    assert silent in {id_ for id_, _ in bench.resting}
    bench.run(8, silent=silent)
    assert silent not in {id_ for id_, _ in bench.resting}
    assert len(bench.resting) > 40


def test_c14_an_index_that_falls_silent_is_old_although_the_books_move() -> None:
    bench = Bench().quoting()
    market = state_of(bench).market
    seen_ns = bench.now
    bench.see(IndexSeen("btc_usd", market.index_price["btc_usd"], Ns(seen_ns)))
    market.on_event(BookLost(0, "gap"), Ns(seen_ns + 6 * NS))
    assert market.index_age_ns("btc_usd", Ns(seen_ns + 6 * NS)) == 6 * NS - 1
    assert market.index_age_ns("never_usd", Ns(seen_ns)) == seen_ns


def test_c16_an_index_that_leaves_the_perpetual_holds_quotes_and_hedges_for_a_minute() -> None:
    bench = Bench().quoting()
    state = state_of(bench)
    spot = state.market.index_price["btc_usd"]
    bench.see(IndexSeen("btc_usd", spot * 0.98, bench.now))
    bench.engine.controls.evaluate(Ns(bench.now + NS))
    bench.collect()
    assert active(bench) == ["C16"]
    assert not bench.engine.modes.may_quote(NAME)
    assert not bench.engine.modes.may_hedge(NAME)
    assert bench.engine.modes.may_hedge("ETH")
    bench.run(500)
    assert "C16" in active(bench)
    bench.run(150)
    assert active(bench) == []
    assert bench.engine.modes.may_hedge(NAME)


def test_c16_options_are_a_second_source_beyond_their_own_spread() -> None:
    bench = Bench().quoting()
    state = state_of(bench)
    curve = state.forwards._curves[NAME]
    one = state.underlyings[NAME]
    index = state.market.index_price["btc_usd"]
    curve.parity_spot = (index * 1.01, index * 0.002)
    assert bench.engine.controls._divergence_bps(one) == pytest.approx(80.0, abs=1.0)
    curve.parity_spot = (index * 1.01, index * 0.02)
    assert bench.engine.controls._divergence_bps(one) < 5.0
    curve.parity_spot = (math.nan, math.nan)
    assert bench.engine.controls._divergence_bps(one) < 5.0


# -- C17: models --------------------------------------------------------------------------------

SLOT = ModelSlot(
    name="fill", sha256="0" * 64, feature_layout_hash="0", refresh_ms=500, deadline_ms=50
)


class ModelBench(Bench):
    """A bench whose fill model answers as a test says."""

    def __init__(self) -> None:
        super().__init__()
        self.answer = "good"
        restart(self, fill_model=SLOT)

    def collect(self) -> None:
        kept = []
        for output in self.engine.take_outputs():
            if isinstance(output, AskInference):
                self.outputs.append(output)
                self._infer(output)
            else:
                kept.append(output)
        for output in kept:
            self.engine.outbox.put(output)
        super().collect()

    def _infer(self, ask: AskInference) -> None:
        value = {"nan": b"\x00\x00\xc0\x7f"}.get(self.answer, bytes(4))
        outputs = value * (2 * ask.rows)
        late_ns = 51 * NS_PER_MS if self.answer == "late" else 0
        if self.answer == "shape":
            outputs = outputs[4:]
        if self.answer == "none":
            return
        error = "no session" if self.answer == "error" else ""
        reply = InferenceAnswer(ask.ask_id, ask.model, outputs, 2, error, late_ns)
        self.engine.on_input(reply, Ns(self.now))


@pytest.mark.parametrize("answer", ["nan", "late", "shape", "error", "none"])
def test_c17_a_model_of_no_use_falls_back_widens_and_comes_back(answer: str) -> None:
    bench = ModelBench()
    bench.quoting()
    state = state_of(bench)
    assert state.intensity.is_used(Model.FILL, NAME)
    assert "C17" not in active(bench)
    bench.answer = answer
    bench.run(7 if answer != "none" else 330)
    assert "C17" in active(bench)
    assert not state.intensity.is_used(Model.FILL, NAME)
    assert max(bench.engine.controls._width.values()) > 1.0
    bench.answer = "good"
    bench.run(700)
    bench.feed(OperatorReset(generation=2))
    bench.run(20)
    assert "C17" not in active(bench)
    assert state.intensity.is_used(Model.FILL, NAME)


def test_c17_ten_faults_within_a_minute_stop_quoting_until_a_person_looks() -> None:
    bench = ModelBench()
    bench.quoting()
    bench.answer = "nan"
    bench.run(120)
    assert "C17.repeated" in active(bench)
    assert resting(bench, NAME) == 0
    assert latches(bench, "C17.repeated")[0].scope == NAME


def test_c17_stage_and_fallbacks_are_shown() -> None:
    bench = ModelBench()
    bench.quoting()

    def shown(name: str) -> float:
        return list(bench.engine.metrics())[state_of(bench).metrics._index[name]]

    stage = 'mm_models_stage{model="fill"}'
    late = 'mm_model_fallback_total{model="fill",reason="late"}'
    assert (shown(stage), shown(late)) == (1.0, 0.0)
    bench.answer = "late"
    bench.run(20)
    assert shown(stage) == 0.0
    assert shown(late) >= 1.0


def test_c14_c15_c27_what_is_held_by_instrument_is_counted_too() -> None:
    bench = Bench().quoting()
    state = state_of(bench)
    before = counted(bench, "C15", HELD)
    option = int(state.option_ids[NAME][0])
    bench.see(BookLost(option, "gap"))
    bench.engine.decide(Ns(bench.now + NS))
    bench.engine.controls.evaluate(Ns(bench.now + 2 * NS))
    bench.collect()
    assert counted(bench, "C15", HELD) == before + 1
    assert counted(bench, "C15") == 0, "an alert on trips must not sound for every book"
