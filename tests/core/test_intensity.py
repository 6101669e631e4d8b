"""Models where they hold, the analytic policy everywhere else, every fallback counted."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mm_daemon.core.intensity import (
    ACTIVITY_MIN,
    LN_A_MAX,
    OPEN_ASKS_MAX,
    Fallback,
    Intensity,
    Model,
    activity,
)
from mm_daemon.core.quote_terms import I_ADVERSE, I_K, I_LN_A
from mm_daemon.domain.inputs import InferenceAnswer
from mm_daemon.domain.params import IntensityParams, ModelSlot
from mm_daemon.domain.units import NS_PER_MS, NS_PER_S, Ns
from tests.core.chain_world import NOW, board, catalog

WORLD = catalog(days=(30.0,), strikes=5)
IDS = WORLD.option_ids("BTC")
N = IDS.size
SLOT = ModelSlot("m", "0" * 64, "layout", refresh_ms=500, deadline_ms=50)
PARAMS = IntensityParams(20.0, 1.5, 0.3)
AGE = 10 * NS_PER_S


def made() -> Intensity:
    intensity = Intensity(WORLD, SLOT, SLOT)
    intensity.set_analytic(IDS, PARAMS, board(WORLD))
    intensity.compose("BTC", IDS, NOW, age_ns_max=AGE)
    return intensity


def answer(
    ask_id: int,
    model: Model,
    outputs: np.ndarray,
    *,
    error: str = "",
    duration_ns: int = NS_PER_MS,
) -> InferenceAnswer:
    return InferenceAnswer(
        ask_id, model.value, outputs.astype("<f4").tobytes(), outputs.shape[1], error, duration_ns
    )


def fill_rows(ln_a: float = 2.0, ln_k: float = 0.5) -> np.ndarray:
    return np.tile(np.array([ln_a, ln_k]), (2 * N, 1))


def asked(intensity: Intensity, model: Model = Model.FILL, ask_id: int = 1) -> None:
    intensity.on_asked(ask_id, model, "BTC", IDS, NOW)


def test_analytic_policy_states_fills_at_the_touch() -> None:
    columns = made().columns
    at_the_money = int(np.argmin(np.abs(np.abs(board(WORLD).delta[IDS]) - 0.5)))
    i = IDS[at_the_money]
    ln_touch = columns[I_LN_A, 0, i] - columns[I_K, 0, i]
    assert 10.0 < math.exp(ln_touch) <= 20.0
    assert columns[I_K, 1, i] == 1.5
    assert columns[I_ADVERSE, 1, i] == 0.3


def test_activity_falls_into_the_wings_and_into_the_money_but_never_to_nothing() -> None:
    grid = np.linspace(0.001, 0.999, 400)
    values = np.array([activity(float(delta)) for delta in grid])
    assert activity(0.4) == activity(-0.4) == 1.0
    assert (np.diff(values[grid < 0.5]) >= 0.0).all()
    assert (np.diff(values[grid > 0.5]) <= 0.0).all()
    assert values.min() == ACTIVITY_MIN


def test_answered_rows_replace_the_analytic_ones_for_as_long_as_they_are_young() -> None:
    intensity = made()
    analytic = intensity.columns.copy()
    asked(intensity)
    rows = fill_rows()
    rows[N:, 0] = 1.0
    assert intensity.on_answer(answer(1, Model.FILL, rows), NOW) is None
    intensity.compose("BTC", IDS, NOW, age_ns_max=AGE)
    assert np.allclose(intensity.columns[I_LN_A][:, IDS], [[2.0] * N, [1.0] * N])
    assert np.allclose(intensity.columns[I_K][:, IDS], math.exp(0.5))
    assert np.array_equal(intensity.columns[I_ADVERSE], analytic[I_ADVERSE], equal_nan=True)
    assert intensity.is_from_model(Model.FILL, int(IDS[0]), NOW, AGE)
    late = Ns(NOW + AGE + 1)
    intensity.compose("BTC", IDS, late, age_ns_max=AGE)
    assert np.array_equal(intensity.columns, analytic, equal_nan=True)
    assert intensity.fallbacks["BTC", "fill", Fallback.TOO_OLD.value] > 0


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ({"error": "no session"}, Fallback.ERROR),
        ({"duration_ns": 51 * NS_PER_MS}, Fallback.LATE),
        ({"outputs": fill_rows()[:-1]}, Fallback.SHAPE),
        ({"outputs": np.zeros((2 * N, 3))}, Fallback.SHAPE),
    ],
)
def test_answer_that_cannot_be_used_is_refused_whole(
    broken: dict[str, object], reason: Fallback
) -> None:
    intensity = made()
    before = intensity.columns.copy()
    asked(intensity)
    outputs = broken.pop("outputs", fill_rows())
    assert isinstance(outputs, np.ndarray)
    reply = answer(1, Model.FILL, outputs, **broken)  # type: ignore[arg-type]
    assert intensity.on_answer(reply, NOW) is reason
    intensity.compose("BTC", IDS, NOW, age_ns_max=AGE)
    assert np.array_equal(intensity.columns, before, equal_nan=True)
    assert intensity.fallbacks["BTC", "fill", reason.value] == 1


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (math.nan, Fallback.NOT_FINITE),
        (math.inf, Fallback.NOT_FINITE),
        (LN_A_MAX + 1.0, Fallback.OUT_OF_RANGE),
    ],
)
def test_one_bad_row_falls_back_alone_and_with_both_sides(value: float, reason: Fallback) -> None:
    intensity = made()
    analytic = intensity.columns.copy()
    asked(intensity)
    rows = fill_rows()
    rows[N + 3, 0] = value
    intensity.on_answer(answer(1, Model.FILL, rows), NOW)
    intensity.compose("BTC", IDS, NOW, age_ns_max=AGE)
    bad = IDS[3]
    assert np.array_equal(intensity.columns[:, :, bad], analytic[:, :, bad])
    assert np.allclose(intensity.columns[I_LN_A][:, IDS[4]], 2.0)
    assert intensity.fallbacks["BTC", "fill", reason.value] == 1


def test_spread_model_sets_the_adverse_cost_alone() -> None:
    intensity = made()
    asked(intensity, Model.SPREAD)
    intensity.on_answer(answer(1, Model.SPREAD, np.full((2 * N, 1), 0.7)), NOW)
    intensity.compose("BTC", IDS, NOW, age_ns_max=AGE)
    assert np.allclose(intensity.columns[I_ADVERSE][:, IDS], 0.7)
    assert np.allclose(intensity.columns[I_K][:, IDS], 1.5)


def test_switched_off_model_is_neither_asked_nor_used() -> None:
    intensity = made()
    asked(intensity)
    intensity.on_answer(answer(1, Model.FILL, fill_rows()), NOW)
    intensity.switch(Model.FILL, False)
    assert not intensity.is_due(Model.FILL, "BTC", Ns(NOW + AGE))
    intensity.compose("BTC", IDS, NOW, age_ns_max=AGE)
    assert np.allclose(intensity.columns[I_K][:, IDS], 1.5)
    assert intensity.next_due_ns(("BTC",)) is not None
    intensity.switch(Model.SPREAD, False)
    assert intensity.next_due_ns(("BTC",)) is None


def test_asks_at_its_pace_and_bounds_what_is_open() -> None:
    intensity = made()
    assert intensity.is_due(Model.FILL, "BTC", NOW)
    asked(intensity)
    assert not intensity.is_due(Model.FILL, "BTC", Ns(NOW + 499 * NS_PER_MS))
    assert intensity.is_due(Model.FILL, "BTC", Ns(NOW + 500 * NS_PER_MS))
    for ask_id in range(2, OPEN_ASKS_MAX + 1):
        asked(intensity, ask_id=ask_id)
    assert not intensity.is_due(Model.SPREAD, "BTC", Ns(NOW + 500 * NS_PER_MS))
    intensity.on_asked(99, Model.FILL, "BTC", IDS, Ns(NOW + NS_PER_S))
    assert intensity.fallbacks["BTC", "fill", Fallback.UNANSWERED.value] == OPEN_ASKS_MAX
    assert intensity.is_due(Model.SPREAD, "BTC", Ns(NOW + NS_PER_S))


def test_answer_nobody_asked_for_changes_nothing() -> None:
    intensity = made()
    digest = intensity.digest()
    assert intensity.on_answer(answer(7, Model.FILL, fill_rows()), NOW) is Fallback.UNANSWERED
    assert intensity.digest() == digest


def test_equal_histories_have_equal_digests() -> None:
    first, second = made(), made()
    assert first.digest() == second.digest()
    asked(second)
    assert first.digest() != second.digest()
